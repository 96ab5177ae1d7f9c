package faults

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// Await waits until a node's status meets a condition, and fails the test with a
// picture of the cluster when it does not within cluster.Patience.
func (c *Cluster) Await(claim string, condition cluster.Condition) reconcile.Status {
	c.t.Helper()
	deadline := time.Now().Add(cluster.Patience)
	for {
		s, missing := c.Status()
		if missing == nil {
			missing = condition(s)
		}
		if missing == nil {
			return s
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %s: %s: %v\n%s", cluster.Patience, claim, missing, c.Picture())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// AwaitFormed waits until the ramds have formed their Raft group.
func (c *Cluster) AwaitFormed() {
	c.t.Helper()
	c.Await("the cluster is formed", func(s reconcile.Status) error {
		if s.Cluster == "" || s.Raft.Leader == "" {
			return errors.New("there is no leader")
		}
		return nil
	})
}

// AwaitConverged waits until there is nothing left to do, by reports of all nodes
// that are younger than the call.
func (c *Cluster) AwaitConverged() reconcile.Status {
	c.t.Helper()
	begun := time.Now()
	return c.Await("the cluster converges", func(s reconcile.Status) error {
		for _, n := range s.Nodes {
			if n.LastSeen < 0 || n.LastSeen >= time.Since(begun).Milliseconds() {
				return fmt.Errorf("node %s was seen %d ms ago", n.Name, n.LastSeen)
			}
		}
		return cluster.Converged(s)
	})
}

// Primary is the node that the cluster calls its primary, and Leader the one that
// leads its Raft group.
func (c *Cluster) Primary() string {
	c.t.Helper()
	return c.Await("there is a primary", func(s reconcile.Status) error {
		if s.Primary == "" {
			return errors.New("there is none")
		}
		return nil
	}).Primary
}

// Leader is the node that leads the Raft group.
func (c *Cluster) Leader() string {
	c.t.Helper()
	return c.Await("there is a Raft leader", func(s reconcile.Status) error {
		if s.Raft.Leader == "" {
			return errors.New("there is none")
		}
		return nil
	}).Raft.Leader
}

// Picture is all that helps to see why a test fails: status, events, the last lines
// of every log, and what runs on each host.
func (c *Cluster) Picture() string {
	var b strings.Builder
	fmt.Fprintf(&b, "--- status\n%s--- events\n", c.Ctl("status"))
	var answer struct {
		Events []reconcile.Event `json:"events"`
	}
	if err := c.askAny("/events?limit=1000", &answer); err != nil {
		fmt.Fprintln(&b, err)
	}
	for _, e := range answer.Events[max(0, len(answer.Events)-60):] {
		fmt.Fprintf(&b, "%5d %s %s %s: %s\n", e.Seq, e.At.Format("15:04:05.000"), e.Severity, e.Message, e.Reason)
	}
	for _, name := range c.names {
		b.WriteString(c.tails(name))
		for _, p := range c.nodes[name].Processes() {
			fmt.Fprintf(&b, "  %s\n", p)
		}
	}
	return b.String()
}

// tails are the last lines of a node's logs.
func (c *Cluster) tails(name string) string {
	return fmt.Sprintf("--- ramd of %s (runs: %t)\n%s--- PostgreSQL of %s\n%s",
		name, c.nodes[name].runs(), tail(c.LogFile(name), 40),
		name, tail(c.StateDir(name)+"/postgresql.log", 20))
}

// tail is the last lines of a file.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("(%v)\n", err)
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n") + "\n"
}
