package faults

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// TestFaultsHostsComeBackInEveryOrder kills all hosts at once and starts them one after
// the other: the server that has every write goes on, not the one that is there first.
func TestFaultsHostsComeBackInEveryOrder(t *testing.T) {
	thorough(t)
	c := formed(t)
	for _, order := range [][]string{{"a", "b", "c"}, {"a", "c", "b"}, {"b", "a", "c"}, {"b", "c", "a"}, {"c", "a", "b"}, {"c", "b", "a"}} {
		c.Part(strings.Join(order, " "), func(*testing.T) {
			watch := c.Watch(Pace{})
			c.AwaitAcknowledged(watch.Writer, 20)
			c.Net.Cut(c.Nodes()...)
			for _, name := range c.Nodes() {
				c.KillHost(name)
			}
			c.Net.Heal()
			for _, name := range order {
				c.Start(name)
				time.Sleep(time.Second)
			}
			c.AwaitAcknowledged(watch.Writer, 20)
			watch.Check()
		})
	}
}

// TestFaultsTwoOfThreeHosts loses two of three hosts: nothing is written until one is
// back, and everything with the two that there are then.
func TestFaultsTwoOfThreeHosts(t *testing.T) {
	thorough(t)
	c := formed(t)
	for _, f := range []struct {
		rule string
		// lost and back pick from the primary and the two standbys.
		lost, back func(primary string, standbys []string) []string
	}{
		{
			"both standbys lost, one back",
			func(_ string, standbys []string) []string { return standbys },
			func(_ string, standbys []string) []string { return standbys[:1] },
		}, {
			"primary and a standby lost, the standby back",
			func(primary string, standbys []string) []string { return []string{primary, standbys[0]} },
			func(_ string, standbys []string) []string { return standbys[:1] },
		}, {
			"primary and a standby lost, the primary back",
			func(primary string, standbys []string) []string { return []string{primary, standbys[0]} },
			func(primary string, _ []string) []string { return []string{primary} },
		},
	} {
		c.Part(f.rule, func(*testing.T) {
			primary := c.settled()
			standbys := c.Others(primary)
			watch := c.Watch(Pace{})
			c.AwaitAcknowledged(watch.Writer, 20)
			for _, name := range f.lost(primary, standbys) {
				c.Net.Cut(name)
				c.KillHost(name)
			}
			c.Net.Heal()
			time.Sleep(time.Second) // a commit that was on its way has come back
			acknowledged := watch.Writer.Acknowledged()
			time.Sleep(6 * time.Second) // longer than the lease
			if more := watch.Writer.Acknowledged() - acknowledged; more != 0 {
				c.t.Errorf("%d writes were acknowledged by one host of three", more)
			}
			c.Start(f.back(primary, standbys)...)
			c.AwaitAcknowledged(watch.Writer, 20)
			c.Mend()
			watch.Check()
		})
	}
}

// TestFaultsFailoverDuringChange strikes the primary while the cluster changes.
func TestFaultsFailoverDuringChange(t *testing.T) {
	thorough(t)
	base := threeNodes.With("d")
	c := New(t, base)
	c.Form()
	replication := func(lines string) func() {
		return func() {
			s := base
			s.Cluster = "  replication {\n" + lines + "  }\n"
			c.applyDetached(s)
		}
	}
	for _, f := range []struct {
		rule   string
		begin  func()
		then   time.Duration
		strike func(primary string)
	}{
		{"rolling restart, at its begin", func() { c.detached("restart") }, 100 * time.Millisecond, c.KillPostmaster},
		{"rolling restart, on its way", func() { c.detached("restart") }, 2 * time.Second, c.KillHost},
		{"two standbys for each commit, at once", replication("    sync_standbys = 2\n"), 0, c.KillHost},
		{"one standby for each commit again", replication("    sync_standbys = 1\n"), 50 * time.Millisecond, c.KillPostmaster},
		{"two standbys for each commit, a little later", replication("    sync_standbys = 2\n"), 150 * time.Millisecond, c.KillPostmaster},
		{"a standby is being cloned anew", func() { c.detached("reinit", c.Others(c.Primary())[0]) }, time.Second, c.KillHost},
	} {
		c.Part(f.rule, func(*testing.T) {
			c.strikeDuring(f.begin, f.then, f.strike)
		})
	}
	c.Part("a node is removed, and comes back", func(*testing.T) {
		c.strikeDuring(func() {
			standbys := c.Others(c.Primary())
			c.left = standbys[len(standbys)-1:]
			c.applyDetached(base.Without(c.left...), "--allow-destroy")
		}, 100*time.Millisecond, c.KillPostmaster)
		c.left = nil
		c.SetSpec(base)
		c.Apply()
		c.CheckWhole()
	})
}

func (c *Cluster) strikeDuring(begin func(), then time.Duration, strike func(primary string)) {
	c.t.Helper()
	primary := c.settled()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	begin()
	time.Sleep(then)
	strike(primary)
	c.AwaitAcknowledged(watch.Writer, 20)
	c.Mend()
	watch.Check()
}

// detached begins what a verb of ramctrl does.
func (c *Cluster) detached(args ...string) {
	c.t.Helper()
	if r := c.Ctl(append(args, "--auto-approve", "--detach")...); r.Code != 0 {
		c.t.Fatalf("ramctrl %s: %s\n%s", args[0], r, c.Picture())
	}
}

// awaitWarning waits until status has a warning with a text, or none.
func (c *Cluster) awaitWarning(text string, there bool) {
	c.t.Helper()
	c.Await(fmt.Sprintf("status warns of %q: %t", text, there), func(s reconcile.Status) error {
		if strings.Contains(strings.Join(s.Warnings, "\n"), text) != there {
			return errors.New("the warnings are: " + strings.Join(s.Warnings, "; "))
		}
		return nil
	})
}

// applyDetached begins to make the cluster what a spec says.
func (c *Cluster) applyDetached(s cluster.Spec, flags ...string) {
	c.t.Helper()
	c.SetSpec(s)
	c.detached(append([]string{"apply", c.applyFile()}, flags...)...)
}
