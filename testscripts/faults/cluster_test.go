package faults

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/testscripts/cluster"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

var threeNodes = cluster.Spec{Nodes: []string{"a", "b", "c"}}

// formed is a whole cluster of three hosts.
func formed(t *testing.T) *Cluster {
	t.Helper()
	c := New(t, threeNodes)
	c.Form()
	return c
}

// TestFaultsWithoutFailover does what is no reason for another primary, or leaves none
// that could become it.
func TestFaultsWithoutFailover(t *testing.T) {
	c := formed(t)
	for _, p := range []struct {
		rule string
		part func(c *Cluster)
	}{
		{"standby cut off: writes go on", standbyCutOff},
		{"a commit without its standby is not acknowledged", commitWithoutStandby},
		{"ramd of the primary replaced: its PostgreSQL goes on", ramdReplaced},
		{"ramd of the primary frozen for 3 s: its PostgreSQL goes on", ramdFrozen},
		{"all hosts lose power", allHostsLosePower},
	} {
		c.Part(p.rule, func(*testing.T) { p.part(c) })
	}
}

func standbyCutOff(c *Cluster) {
	c.t.Helper()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 50)
	standby := c.Others(c.Primary())[0]

	c.Net.Cut(standby)
	time.Sleep(2 * time.Second)
	c.AwaitAcknowledged(watch.Writer, 50)

	c.Net.Heal()
	c.AwaitAcknowledged(watch.Writer, 50)
	watch.Check()
}

func commitWithoutStandby(c *Cluster) {
	c.t.Helper()
	w := c.StartWriter(Pace{Timeout: time.Minute})
	c.AwaitAcknowledged(w, 10)
	primary := c.Primary()

	for _, standby := range c.Others(primary) {
		if c.Host(standby).Signal(syscall.SIGSTOP, "walreceiver") != 1 {
			c.t.Fatalf("no walreceiver on %s\n%s", standby, c.Picture())
		}
	}
	c.until("a commit waits, and is told to wait no longer", func() bool {
		cancelled, err := column[bool](c, primary, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT%'")
		return err == nil && len(cancelled) == 1
	})
	time.Sleep(50 * time.Millisecond)
	for _, standby := range c.Others(primary) {
		c.Host(standby).Signal(syscall.SIGCONT, "walreceiver")
	}
	c.AwaitAcknowledged(w, 10)

	l := w.Stop()
	unsure := slices.IndexFunc(l.Writes, func(w Write) bool {
		return w.Outcome == Maybe && strings.Contains(w.Reason, "canceling wait for synchronous replication")
	})
	if unsure < 0 {
		c.t.Errorf("the ledger (%s) has no write that came back with PostgreSQL's warning", l)
	}
	c.CheckLedger(c.CheckWhole().Primary, l)
}

func ramdReplaced(c *Cluster) {
	c.t.Helper()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	primary := c.Primary()
	c.KillRamd(primary)
	time.Sleep(time.Second)
	c.Start(primary)
	c.AwaitConverged()
	c.AwaitAcknowledged(watch.Writer, 20)
	if reigns := watch.Check().Reigns(); len(reigns) != 1 {
		c.t.Errorf("writes were acknowledged by %q, and one server goes on while its ramd is replaced", reigns)
	}
}

func ramdFrozen(c *Cluster) {
	c.t.Helper()
	primary := c.settled()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Host(primary).Signal(syscall.SIGSTOP, "ramd start")
	time.Sleep(3 * time.Second)
	c.Mend()
	c.AwaitAcknowledged(watch.Writer, 20)
	if reigns := watch.Check().Reigns(); len(reigns) != 1 {
		c.t.Errorf("writes were acknowledged by %q, and PostgreSQL goes on while its ramd is frozen", reigns)
	}
}

func allHostsLosePower(c *Cluster) {
	c.t.Helper()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Net.Cut(c.Nodes()...)
	for _, name := range c.Nodes() {
		c.KillHost(name)
	}
	c.Mend()
	c.AwaitAcknowledged(watch.Writer, 20)
	watch.Check()
}

func TestFaultsDisksFill(t *testing.T) {
	c := New(t, threeNodes)
	c.GiveDisks()
	room := func() int64 {
		var s unix.Statfs_t
		c.must(unix.Statfs(filepath.Join(c.Dir("b"), string(DataDisk)), &s))
		return int64(s.Bavail) * s.Bsize
	}
	before := room()
	c.FillDisk("b", DataDisk)
	if left := room(); left != 0 {
		t.Errorf("%d bytes are left on a full disk", left)
	}
	c.FreeDisks()
	if after := room(); after != before {
		t.Errorf("%d bytes are free after mending, and were %d", after, before)
	}
}
