package faults

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

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

// acknowledged waits until a writer has had some more writes acknowledged.
func (c *Cluster) acknowledged(w *Writer, more int64) {
	c.t.Helper()
	goal := w.Acknowledged() + more
	c.until("writes are acknowledged", func() bool { return w.Acknowledged() >= goal })
}

func TestFaultsStandbyCutOff(t *testing.T) {
	c := formed(t)
	watch := c.Watch(Pace{})
	c.acknowledged(watch.Writer, 50)
	standby := c.Others(c.Primary())[0]

	c.Net.Cut(standby)
	time.Sleep(2 * time.Second)
	c.acknowledged(watch.Writer, 50)

	c.Net.Heal()
	c.acknowledged(watch.Writer, 50)
	watch.Check()
}

func TestFaultsCommitWithoutItsStandbyIsNotAcknowledged(t *testing.T) {
	c := formed(t)
	w := c.StartWriter(Pace{Timeout: time.Minute})
	c.acknowledged(w, 10)
	primary := c.Primary()

	for _, standby := range c.Others(primary) {
		if c.Host(standby).Signal(syscall.SIGSTOP, "walreceiver") != 1 {
			t.Fatalf("no walreceiver on %s\n%s", standby, c.Picture())
		}
	}
	c.until("a commit waits, and is told to wait no longer", func() bool {
		return c.text(primary, "SELECT count(pg_cancel_backend(pid))::text FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT%'")[0] == "1"
	})
	time.Sleep(50 * time.Millisecond)
	for _, standby := range c.Others(primary) {
		c.Host(standby).Signal(syscall.SIGCONT, "walreceiver")
	}
	c.acknowledged(w, 10)

	l := w.Stop()
	unsure := slices.IndexFunc(l.Writes, func(w Write) bool {
		return w.Outcome == Maybe && strings.Contains(w.Reason, "canceling wait for synchronous replication")
	})
	if unsure < 0 {
		t.Errorf("the ledger (%s) has no write that came back with PostgreSQL's warning", l)
	}
	c.CheckLedger(c.CheckWhole().Primary, l)
}
