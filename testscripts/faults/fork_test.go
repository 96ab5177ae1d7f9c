package faults

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/ramhq/ram/reconcile"
)

// TestFaultsFork is about servers that left the cluster's line of WAL behind ramd's
// back, or were not made by ramd.
func TestFaultsFork(t *testing.T) {
	thorough(t)
	c := formed(t)
	for _, p := range []struct {
		rule string
		part func(c *Cluster)
	}{
		{"a standby that was cloned from a standby by hand follows, also after a failover", clonedByHand},
		{"a standby that is promoted by hand, and writes, comes back", promotedByHand},
		{"three nodes on three lines: the old primary and one that was promoted by hand come back", forkOnThreeNodes},
	} {
		c.Part(p.rule, func(*testing.T) { p.part(c) })
	}
}

// clonedByHand puts a copy of one standby in the place of the other: its configuration,
// its name and its slot are those of the one that it was made from.
func clonedByHand(c *Cluster) {
	c.t.Helper()
	primary := c.settled()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	from, to := c.Others(primary)[0], c.Others(primary)[1]
	c.stopNode(from)
	c.stopNode(to)
	c.must(os.RemoveAll(c.DataDir(to)))
	if out, err := exec.Command("cp", "-a", c.DataDir(from), c.DataDir(to)).CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	c.Start(to, from)
	c.AwaitAcknowledged(watch.Writer, 20)
	c.CheckWhole()
	c.KillHost(primary)
	c.AwaitNewPrimary(primary)
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Mend()
	watch.Check()
}

// stopNode stops ramd and PostgreSQL on a host in order.
func (c *Cluster) stopNode(name string) {
	c.t.Helper()
	n := c.node(name)
	n.meant = true
	cmd := c.ramd(name, "stop", "--postgres")
	c.must(n.Host.Start(cmd))
	c.must(cmd.Wait())
	<-n.ended
}

// promotedByHand writes on a standby that was promoted while its ramd could not look, but
// does so soon. Writers that look for two primaries would find them.
func promotedByHand(c *Cluster) {
	c.t.Helper()
	primary := c.settled()
	writer := c.StartWriter(Pace{})
	c.AwaitAcknowledged(writer, 20)
	fork := c.Others(primary)[0]
	c.Host(fork).Signal(syscall.SIGSTOP, "/ramd ")
	own := c.forkOff(fork)
	c.Host(fork).ContAll()
	c.AwaitAcknowledged(writer, 20)
	c.withoutFork(writer, own)
}

// forkOnThreeNodes has a standby promoted by hand while nobody looks, and the primary
// fail over to the other standby meanwhile.
func forkOnThreeNodes(c *Cluster) {
	c.t.Helper()
	primary := c.settled()
	writer := c.StartWriter(Pace{})
	c.AwaitAcknowledged(writer, 20)
	fork, next := c.Others(primary)[0], c.Others(primary)[1]
	before := c.lastEvent()
	c.KillRamd(fork)
	own := c.forkOff(fork)
	c.Net.Cut(fork)
	c.until("commits wait for node "+next+" alone", func() bool {
		var answer struct {
			Events []reconcile.Event `json:"events"`
		}
		_ = c.askAny("/events?limit=1000", &answer) // there may be no leader for a moment
		return slices.ContainsFunc(answer.Events, func(e reconcile.Event) bool {
			return e.Seq > before && e.Kind == reconcile.EventSync && e.Message == "commits wait for 1 of "+next
		})
	})
	c.AwaitAcknowledged(writer, 20)
	c.KillPostmaster(primary) // its ramd has to vote
	if got := c.AwaitNewPrimary(primary); got != next {
		c.t.Fatalf("the primary is %s, and only %s can be\n%s", got, next, c.Picture())
	}
	c.AwaitAcknowledged(writer, 20)
	c.Mend()
	c.withoutFork(writer, own)
}

// forkOff promotes a standby by hand, and writes on it what nobody else has: a table,
// whose name it returns, and rows in it.
func (c *Cluster) forkOff(node string) (own string) {
	c.t.Helper()
	c.tables++
	own = fmt.Sprintf("forked_%d", c.tables)
	c.execOn(node, "SELECT pg_promote()")
	c.execOn(node, "SET synchronous_commit = local; CREATE TABLE "+own+" AS "+bulkRows)
	return own
}

// withoutFork checks that the cluster is whole, with all that a writer had acknowledged,
// and that what was written on a fork is nowhere.
func (c *Cluster) withoutFork(writer *Writer, own string) {
	c.t.Helper()
	ledger := writer.Stop()
	s := c.CheckWhole()
	c.CheckLedger(s.Primary, ledger)
	for _, name := range c.Nodes() {
		there, err := column[bool](c, name, "SELECT to_regclass('"+own+"') IS NOT NULL")
		if err != nil || there[0] {
			c.t.Errorf("node %s has what was written on a fork: %v, %v", name, there, err)
		}
	}
	c.t.Log(ledger)
}
