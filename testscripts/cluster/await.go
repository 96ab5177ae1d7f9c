package cluster

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// Condition says what a status still lacks; nil is nothing.
type Condition func(s reconcile.Status) error

// Await waits until some node's status meets a condition, and fails the test with
// a picture of the cluster when that takes longer than Patience.
func (c *Cluster) Await(claim string, condition Condition) reconcile.Status {
	c.t.Helper()
	return c.AwaitFor(claim, Patience, condition)
}

// AwaitFor is Await with a time of its own.
func (c *Cluster) AwaitFor(claim string, timeout time.Duration, condition Condition) reconcile.Status {
	c.t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		missing := errors.New("no ramd answers with a status")
		s, ok := c.Status()
		if ok {
			missing = condition(s)
		}
		if missing == nil {
			return s
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %s: %s: %v\n%s", timeout, claim, missing, c.Picture())
		}
		time.Sleep(100 * time.Millisecond)
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

// AwaitToken waits until a node is a member that has the cluster's record, and with
// it the admin token.
func (c *Cluster) AwaitToken(node string) {
	c.t.Helper()
	c.Until("node "+node+" has the admin token", Patience, func() bool {
		_, err := os.Stat(c.TokenFile(node))
		return err == nil
	})
}

// AwaitConverged waits until the cluster is as its spec says and nothing is left
// to do. What the status tells was seen after the call.
func (c *Cluster) AwaitConverged() reconcile.Status {
	c.t.Helper()
	begun := time.Now()
	return c.Await("the cluster converges", func(s reconcile.Status) error {
		for _, n := range s.Nodes {
			if n.LastSeen < 0 || n.LastSeen >= time.Since(begun).Milliseconds() {
				return fmt.Errorf("node %s was seen %d ms ago", n.Name, n.LastSeen)
			}
		}
		return Converged(s)
	})
}

// Converged is the condition of AwaitConverged.
func Converged(s reconcile.Status) error {
	switch {
	case !s.Raft.HasQuorum:
		return errors.New("no quorum")
	case !s.Converged:
		return errors.New("not converged")
	case s.Run != 0:
		return fmt.Errorf("run %d is under way", s.Run)
	}
	return nil
}

// Blocked is the condition that the plan is blocked by a reason with all the
// parts in it.
func Blocked(parts ...string) Condition {
	return func(s reconcile.Status) error {
		var reasons []string
		for _, b := range s.Blocked {
			if containsAll(b.Reason, parts) {
				return nil
			}
			reasons = append(reasons, b.Reason)
		}
		return fmt.Errorf("%q is not among what blocks: %q", parts, reasons)
	}
}

func containsAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

// Picture is all that helps to see why a test fails: status, events, the last
// lines of every log and what runs.
func (c *Cluster) Picture() string {
	var b strings.Builder
	fmt.Fprintf(&b, "--- status\n%s", c.Ctl("status"))
	fmt.Fprintf(&b, "--- spec\n%s--- events\n", c.spec)
	events := c.Events()
	for _, e := range events[max(0, len(events)-60):] {
		fmt.Fprintf(&b, "%5d %s %s %s: %s\n", e.Seq, e.At.Format("15:04:05.000"), e.Severity, e.Message, e.Reason)
	}
	b.WriteString(c.tails(c.hosts...))
	fmt.Fprintf(&b, "--- processes\n%s", describeProcesses(processesBelow(c.dir)))
	return b.String()
}

// tails are the last lines of the logs of nodes.
func (c *Cluster) tails(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		state := "does not run"
		if c.nodes[name].runs() {
			state = "runs"
		}
		fmt.Fprintf(&b, "--- ramd of %s (%s)\n%s", name, state, tail(c.LogFile(name), 40))
		fmt.Fprintf(&b, "--- PostgreSQL of %s\n%s", name, tail(c.StateDir(name)+"/postgresql.log", 20))
	}
	return b.String()
}

// Log is all that the ramd of a node has written so far.
func (c *Cluster) Log(node string) string {
	c.t.Helper()
	text, err := os.ReadFile(c.LogFile(node))
	c.must(err)
	return string(text)
}

// AwaitLog waits until the ramd of a node has written something.
func (c *Cluster) AwaitLog(node, text string) {
	c.t.Helper()
	c.Until(fmt.Sprintf("ramd of node %s logs %q", node, text), Patience, func() bool {
		return strings.Contains(c.Log(node), text)
	})
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

// Logged waits until the ramd of some node has written a line that matches, and
// returns the node and what the pattern's first group matched. Lines before the
// mark of MarkLogs do not count. It looks more often than other methods, for tests
// that strike at that very moment.
func (c *Cluster) Logged(mark map[string]int, pattern *regexp.Regexp) (node, group string) {
	c.t.Helper()
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		for _, name := range c.hosts {
			text, _ := os.ReadFile(c.LogFile(name))
			if found := pattern.FindSubmatch(text[min(mark[name], len(text)):]); found != nil {
				return name, string(found[len(found)-1])
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	c.t.Fatalf("no ramd logs %s\n%s", pattern, c.Picture())
	return "", ""
}

// MarkLogs is how far the logs of all nodes have come.
func (c *Cluster) MarkLogs() map[string]int {
	mark := map[string]int{}
	for _, name := range c.hosts {
		text, _ := os.ReadFile(c.LogFile(name))
		mark[name] = len(text)
	}
	return mark
}
