package raftstore

import (
	"fmt"
	"testing"
	"time"
)

// compacting makes the log of every node be replaced by snapshots soon.
func (c *cluster) compacting() {
	for _, n := range c.nodes {
		n.config.Compaction = Compaction{Threshold: 8, Trailing: 4, Interval: 10 * time.Millisecond}
		c.reopen(n)
	}
}

// commands are n commands with a prefix.
func commands(prefix string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s%d", prefix, i))
	}
	return all
}

// compacted waits until the log no longer begins at its beginning.
func (c *cluster) compacted(n *node) {
	c.t.Helper()
	c.eventually(n.name+" to compact its log", func() bool {
		first, err := n.journal.FirstIndex()
		return err == nil && first > 1
	})
}

func TestMembersComeBackOneByOne(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	want := commands("before", 5)
	c.propose(want...)
	for name, n := range c.nodes {
		must(t, n.Close())
		n.Store = nil
		c.propose("without " + name)
		c.open(n)
		want = append(want, "without "+name)
		c.converge(want...)
	}
}

func TestWholeClusterComesBack(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	want := commands("before", 5)
	c.propose(want...)
	c.converge(want...)
	for _, n := range c.nodes {
		must(t, n.Close())
	}
	for _, n := range c.nodes {
		c.open(n)
	}
	c.propose("after")
	c.converge(append(want, "after")...)
}

func TestRestartedNodeShowsWhatItKnowsToBeCommittedBeforeItHearsFromAnyone(t *testing.T) {
	for _, compacting := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacting %v", compacting), func(t *testing.T) {
			c := bootstrapped(t, "a", "b", "c")
			if compacting {
				c.compacting()
			}
			want := commands("x", 20)
			c.propose(want...)
			c.converge(want...)
			applied := c.leader().Applied()
			for _, n := range c.nodes {
				c.eventually(n.name+" to apply", func() bool { return n.Applied() >= applied })
				must(t, n.Close())
			}
			a := c.nodes["a"]
			c.nodes = map[string]*node{"a": a}
			c.open(a)
			if got := a.machine.commands(); len(got) != len(want) {
				t.Errorf("the node alone has %v, want %v", got, want)
			}
			if a.Applied() < applied {
				t.Errorf("applied is %d, was %d", a.Applied(), applied)
			}
			if a.IsLeader() || a.HasQuorum() {
				t.Error("one of three believes in a majority")
			}
		})
	}
}

func TestUncommittedEntryIsNotShownAfterRestart(t *testing.T) {
	c := bootstrapped(t, "a", "b")
	c.propose("one")
	c.converge("one")
	leader := c.leader()
	c.network.cutOff(leader.name)
	if _, err := leader.Propose(t.Context(), []byte("alone")); err == nil {
		t.Fatal("one of two committed")
	}
	must(t, leader.Close())
	c.nodes = map[string]*node{leader.name: leader}
	c.open(leader)
	c.converge("one")
}

func TestDamagedNoteOfWhatWasAppliedIsIgnored(t *testing.T) {
	c := bootstrapped(t, "a")
	a := c.nodes["a"]
	c.propose("one", "two")
	must(t, a.Close())
	overwrite(t, a.directory.file(appliedFile), 3, 0xff)
	c.open(a)
	c.leader()
	c.converge("one", "two")
}

func TestCompactedLogSurvivesRestartAndFeedsANewMember(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	c.compacting()
	want := commands("x", 60)
	c.propose(want...)
	c.converge(want...)
	for _, n := range c.nodes {
		c.compacted(n)
	}
	for _, n := range c.nodes {
		c.reopen(n)
	}
	c.converge(want...)
	c.compacted(c.leader())

	// The log that begins with the cluster is gone: d can only get a snapshot.
	d := c.add("d")
	must(t, c.leader().AddVoter(t.Context(), d.Self()))
	c.propose("after")
	c.converge(append(want, "after")...)
	if d.Applied() < c.leader().Applied() {
		t.Errorf("d has applied %d of %d", d.Applied(), c.leader().Applied())
	}
	c.reopen(d)
	c.converge(append(want, "after")...)
}

func TestSnapshotOnRequest(t *testing.T) {
	c := bootstrapped(t, "a")
	a := c.nodes["a"]
	c.propose(commands("x", 5)...)
	must(t, a.Snapshot(t.Context()))
	must(t, a.Snapshot(t.Context()))
	stored, err := a.snapshots.List()
	must(t, err)
	if len(stored) != 1 {
		t.Fatalf("%d snapshots of one state", len(stored))
	}
	c.reopen(a)
	c.converge(commands("x", 5)...)
}
