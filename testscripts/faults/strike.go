package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/ramhq/ram/reconcile"
)

// What happens to nodes, and how it ends.

// Postmaster is the number of a node's postmaster; zero when none runs.
func (c *Cluster) Postmaster(node string) int {
	text, err := os.ReadFile(filepath.Join(c.DataDir(node), "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || syscall.Kill(pid, 0) != nil {
		return 0
	}
	return pid
}

// KillPostmaster kills the postmaster of a node, and nothing else.
func (c *Cluster) KillPostmaster(node string) {
	c.t.Helper()
	pid := c.Postmaster(node)
	if pid == 0 {
		c.t.Fatalf("no postmaster runs on node %s\n%s", node, c.Picture())
	}
	c.must(syscall.Kill(pid, syscall.SIGKILL))
}

// Mend ends all that was done to the network, to disks and to processes, and starts
// ramd where it does not run.
func (c *Cluster) Mend() {
	c.t.Helper()
	c.Net.Heal()
	c.FreeDisks()
	for _, name := range c.names {
		n := c.nodes[name]
		n.ContAll()
		if !n.runs() {
			c.Start(name)
		}
	}
}

// AwaitNewPrimary waits until a node other than old is primary, by the word of a
// majority, and returns it.
func (c *Cluster) AwaitNewPrimary(old string) string {
	c.t.Helper()
	return c.Await("a node other than "+old+" is primary", func(s reconcile.Status) error {
		switch s.Primary {
		case "":
			return errors.New("there is none")
		case old:
			return fmt.Errorf("%s still is", old)
		}
		return nil
	}).Primary
}

// AwaitAcknowledged waits until a writer has had some more writes acknowledged.
func (c *Cluster) AwaitAcknowledged(w *Writer, more int64) {
	c.t.Helper()
	goal := w.Acknowledged() + more
	c.until(fmt.Sprintf("%d more writes are acknowledged", more), func() bool { return w.Acknowledged() >= goal })
}

// PutLeaderBesidePrimary has the Raft group elect the primary's ramd as leader, by
// killing the ramd of whoever leads until it does, and reports whether it did: the
// leader keeps away from the primary, and may have left by the time of the next call.
func (c *Cluster) PutLeaderBesidePrimary() bool {
	c.t.Helper()
	for range 20 {
		s := c.AwaitConverged()
		if s.Raft.Leader == s.Primary {
			return true
		}
		leader := s.Raft.Leader
		c.KillRamd(leader)
		next := c.Await("another node leads", func(s reconcile.Status) error {
			if s.Raft.Leader == "" || s.Raft.Leader == leader {
				return fmt.Errorf("the leader is %q", s.Raft.Leader)
			}
			return nil
		})
		c.Start(leader)
		if next.Raft.Leader == s.Primary {
			return true
		}
	}
	return false
}
