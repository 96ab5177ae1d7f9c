package faults

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/ramhq/ram/reconcile"
)

// TestFaultsFailover does one thing to the primary after the other. After each there
// is another primary that takes writes, nothing that was acknowledged is lost, there
// were never two primaries, and the old one follows the new one in the end.
func TestFaultsFailover(t *testing.T) {
	c := formed(t)
	for _, f := range []struct {
		rule   string
		short  bool // it runs always
		strike func(primary string)
	}{
		{"postmaster killed", true, c.KillPostmaster},
		{"everything on the host killed", false, c.KillHost},
		{"host cut off", true, func(p string) { c.Net.Cut(p) }},
		{"host without power", false, func(p string) { c.Net.Cut(p); c.KillHost(p) }},
		{"everything on the host frozen, and thawed", true, func(p string) { c.Host(p).StopAll() }},
		{"host cut off from the others, not from clients", true, func(p string) { c.Net.Split([]string{p}, c.Others(p)) }},
		{"host hears the others and is not heard", false, func(p string) {
			for _, other := range c.Others(p) {
				c.Net.CutOneWay(p, other)
			}
		}},
		{"host is heard and does not hear the others", false, func(p string) {
			for _, other := range c.Others(p) {
				c.Net.CutOneWay(other, p)
			}
		}},
		{"postmaster frozen", false, func(p string) { c.must(syscall.Kill(c.Postmaster(p), syscall.SIGSTOP)) }},
	} {
		c.Part(f.rule, func(t *testing.T) {
			if !f.short {
				thorough(t)
			}
			old := c.settled()
			watch := c.Watch(Pace{})
			c.AwaitAcknowledged(watch.Writer, 20)
			f.strike(old)
			c.AwaitNewPrimary(old)
			c.AwaitAcknowledged(watch.Writer, 20)
			c.Mend()
			watch.Check()
		})
	}
	c.Part("PostgreSQL hangs, and its ramd and guard do not", func(t *testing.T) { thorough(t); postgresHangs(c) })
	c.Part("two failovers in a row", func(*testing.T) { twoFailovers(c) })
	c.Part("Raft leader and primary cut off together", func(*testing.T) { leaderAndPrimaryCutOff(c) })
	c.Part("switchover to each standby", func(*testing.T) { switchovers(c) })
}

// postgresHangs stops every process of the primary's server. Nobody lets them go on: what
// hangs has to be ended by its guard.
func postgresHangs(c *Cluster) {
	c.t.Helper()
	old := c.settled()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	if c.Host(old).Signal(syscall.SIGSTOP, "postgres") < 5 {
		c.t.Fatalf("PostgreSQL does not run\n%s", c.Picture())
	}
	c.AwaitNewPrimary(old)
	c.AwaitAcknowledged(watch.Writer, 20)
	watch.Check()
}

func twoFailovers(c *Cluster) {
	c.t.Helper()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	first := c.settled()
	c.KillPostmaster(first)
	second := c.AwaitNewPrimary(first)
	c.AwaitAcknowledged(watch.Writer, 20)
	c.KillHost(second)
	c.AwaitNewPrimary(second)
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Mend()
	watch.Check()
}

// settled waits until the Raft leader has left the primary's host, and returns the
// primary. One that is struck while leadership is handed over may be started again in
// its place.
func (c *Cluster) settled() string {
	c.t.Helper()
	c.AwaitConverged()
	return c.Await("the Raft leader is not on the primary's host", func(s reconcile.Status) error {
		if s.Primary == "" || s.Raft.Leader == "" || s.Raft.Leader == s.Primary {
			return fmt.Errorf("primary %q, leader %q", s.Primary, s.Raft.Leader)
		}
		return nil
	}).Primary
}

func leaderAndPrimaryCutOff(c *Cluster) {
	c.t.Helper()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	if !c.PutLeaderBesidePrimary() {
		c.t.Fatalf("the Raft leader is never on the primary's host\n%s", c.Picture())
	}
	old := c.Primary()
	c.Net.Cut(old)
	c.AwaitNewPrimary(old)
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Mend()
	watch.Check()
}

func switchovers(c *Cluster) {
	c.t.Helper()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	for _, to := range c.Others(c.Primary()) {
		if r := c.Ctl("switchover", "--to", to, "--auto-approve"); r.Code != 0 {
			c.t.Fatalf("switchover: %s\n%s", r, c.Picture())
		}
		if got := c.Primary(); got != to {
			c.t.Fatalf("the primary is %s after a switchover to %s", got, to)
		}
		c.AwaitAcknowledged(watch.Writer, 20)
		c.AwaitConverged()
	}
	watch.Check()
}
