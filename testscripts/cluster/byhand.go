package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// What somebody does to a cluster by hand, and how to see what came of it.

// PgCtl runs pg_ctl on the data directory of a node as the user whom it belongs to.
func (c *Cluster) PgCtl(node string, args ...string) {
	c.t.Helper()
	info, err := os.Stat(c.DataDir(node))
	c.must(err)
	owner := info.Sys().(*syscall.Stat_t)
	cmd := exec.Command(c.program("pg_ctl"), append([]string{"-D", c.DataDir(node)}, args...)...)
	cmd.Dir = "/"
	cmd.Env = environment()
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	// A server that it starts keeps what it writes to open: a file, so that nobody
	// waits for the end of a pipe.
	out, err := os.CreateTemp(c.dir, "pg_ctl-")
	c.must(err)
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		c.t.Fatalf("pg_ctl %q on node %s: %v\n%s", args, node, err, text)
	}
}

func (c *Cluster) program(name string) string {
	c.t.Helper()
	path, err := Program(name)
	c.must(err)
	return path
}

// Program is the path of one of PostgreSQL's programs.
func Program(name string) (string, error) {
	major, err := postgres()
	if err != nil {
		return "", err
	}
	path := fmt.Sprintf("/usr/lib/postgresql/%d/bin/%s", major, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return exec.LookPath(name)
}

// RamdStart runs ramd start on a node's directory where it is expected to end by
// itself, and returns what it left. It is killed when it does not end.
func (c *Cluster) RamdStart(node string, flags ...string) Result {
	c.t.Helper()
	ctx, cancel := c.context(Patience)
	defer cancel()
	plain := c.ramd(node, append([]string{"start", "--data-dir", c.StateDir(node)}, flags...)...)
	cmd := exec.CommandContext(ctx, plain.Path, plain.Args[1:]...)
	cmd.Env, cmd.SysProcAttr = plain.Env, plain.SysProcAttr
	return run(cmd, nil)
}

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

// Edit appends to a file in a node's data directory.
func (c *Cluster) Edit(node, file, text string) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.DataDir(node), file), os.O_APPEND|os.O_WRONLY, 0)
	c.must(err)
	_, err = f.WriteString(text)
	c.must(errors.Join(err, f.Close()))
}

// ReadData reads a file of a node's data directory; empty when it is not there.
func (c *Cluster) ReadData(node, file string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.DataDir(node), file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatal(err)
	}
	return string(text)
}

// CtlOK is Ctl for a command that has to succeed. It returns what was printed.
func (c *Cluster) CtlOK(args ...string) string {
	c.t.Helper()
	r := c.Ctl(args...)
	if r.Code != 0 {
		c.t.Fatalf("ramctrl %s: %s\n%s", strings.Join(args, " "), r, c.Picture())
	}
	return r.Stdout
}

// Begin starts a statement on a node in a session of its own and does not wait for
// it. What it ends with comes from the channel.
func (c *Cluster) Begin(node, sql string) <-chan error {
	c.t.Helper()
	conn := c.Connect(node)
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := c.context(Patience)
		defer cancel()
		_, err := conn.Exec(ctx, sql)
		ended <- err
	}()
	return ended
}

// StartedAt is when each node's server was started, by its own word.
func (c *Cluster) StartedAt(nodes ...string) map[string]time.Time {
	c.t.Helper()
	started := make(map[string]time.Time, len(nodes))
	for _, node := range nodes {
		got, err := try[time.Time](c, node, "SELECT pg_postmaster_start_time()")
		if err != nil {
			c.t.Fatalf("node %s: %v\n%s", node, err, c.Picture())
		}
		started[node] = got[0]
	}
	return started
}

// Serials are the assignments of all nodes, by the leader's record.
func (c *Cluster) Serials() map[string]uint64 {
	c.t.Helper()
	var file struct {
		Record reconcile.Record `json:"record"`
	}
	c.must(c.Ask(c.Leader(), "/observed", &file))
	serials := map[string]uint64{}
	for name, a := range file.Record.Assignments {
		serials[name] = a.Serial
	}
	return serials
}

// Since are the events after one that was numbered seq.
func (c *Cluster) Since(seq uint64) []reconcile.Event {
	events := c.Events()
	return slices.DeleteFunc(events, func(e reconcile.Event) bool { return e.Seq <= seq })
}

// LastEvent is the number of the latest event; zero when there is none.
func (c *Cluster) LastEvent() uint64 {
	events := c.Events()
	if len(events) == 0 {
		return 0
	}
	return events[len(events)-1].Seq
}

// AwaitEvent waits for an event after seq that has a reason and, in its node, message
// or reason, all of the parts.
func (c *Cluster) AwaitEvent(seq uint64, parts ...string) reconcile.Event {
	c.t.Helper()
	var found reconcile.Event
	c.Until(fmt.Sprintf("an event with %q", parts), Patience, func() bool {
		for _, e := range c.Since(seq) {
			text := e.Node + " " + e.Message + ": " + e.Reason
			if e.Reason != "" && containsAll(text, parts) {
				found = e
				return true
			}
		}
		return false
	})
	return found
}
