package faults

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// TestFaultsAsync is about a cluster that acknowledges writes before a standby has them.
func TestFaultsAsync(t *testing.T) {
	thorough(t)
	s := threeNodes
	s.Cluster = "  replication { mode = \"async\" }\n"
	c := New(t, s)
	c.Form()
	c.Part("postmaster killed: started again in its place, and nothing is lost", func(t *testing.T) {
		primary := c.settled()
		watch := c.Watch(Pace{})
		c.AwaitAcknowledged(watch.Writer, 20)
		term := c.status().Term
		c.KillPostmaster(primary)
		c.until("a new postmaster runs", func() bool { return c.Postmaster(primary) != 0 })
		c.AwaitAcknowledged(watch.Writer, 20)
		watch.Check()
		if s := c.status(); s.Primary != primary || s.Term != term {
			t.Errorf("node %s is the primary of term %d, and was to remain %s of term %d", s.Primary, s.Term, primary, term)
		}
	})
	c.Part("host cut off: a new primary when the lease is over, and never two", func(t *testing.T) {
		old := c.settled()
		watch := c.Watch(Pace{})
		c.AwaitAcknowledged(watch.Writer, 20)
		cut := time.Now()
		c.Net.Cut(old)
		c.AwaitNewPrimary(old)
		// The lease may have been confirmed up to half a detect before.
		if waited := time.Since(cut); waited < 4500*time.Millisecond {
			t.Errorf("another node was the primary %s after %s was cut off, within its lease of 5s", waited, old)
		}
		c.AwaitAcknowledged(watch.Writer, 20)
		c.Mend()
		watch.CheckOnePrimary()
	})
	c.Part("quorum mode is asked for, and the primary is lost", func(*testing.T) {
		old := c.settled()
		watch := c.Watch(Pace{})
		c.AwaitAcknowledged(watch.Writer, 20)
		c.applyDetached(threeNodes)
		c.KillHost(old)
		time.Sleep(3 * time.Second)
		// Whether or not a sync set was in force already: with quorum mode accepted,
		// nobody becomes the primary who may lack an acknowledged write.
		c.Mend()
		c.AwaitAcknowledged(watch.Writer, 20)
		watch.Check()
	})
}

// TestFaultsWitnesses is about a cluster of which some hosts hold no data.
func TestFaultsWitnesses(t *testing.T) {
	thorough(t)
	s := cluster.Spec{Nodes: []string{"a", "b", "c", "w", "x"}, Witnesses: []string{"w", "x"}}
	c := New(t, s)
	c.Form()
	c.Part("witness lost, then the primary", func(*testing.T) {
		old := c.settled()
		watch := c.Watch(Pace{})
		c.AwaitAcknowledged(watch.Writer, 20)
		c.KillHost("w")
		time.Sleep(time.Second)
		c.AwaitAcknowledged(watch.Writer, 20)
		c.KillHost(old)
		c.AwaitNewPrimary(old)
		c.AwaitAcknowledged(watch.Writer, 20)
		c.Mend()
		watch.Check()
	})
	c.Part("degrade: both standbys lost, writes go on without the guarantee until they are back", func(t *testing.T) {
		s.Cluster = "  replication { when_short = \"degrade\" }\n"
		c.SetSpec(s)
		c.Apply()
		primary := c.settled()
		watch := c.Watch(Pace{})
		c.AwaitAcknowledged(watch.Writer, 20)
		before := c.lastEvent()
		standbys := c.Others(primary, "w", "x")
		for _, name := range standbys {
			c.KillHost(name)
		}
		c.awaitWarning("THE GUARANTEE IS OFF", true)
		c.AwaitAcknowledged(watch.Writer, 20)
		if !c.loud(before) {
			t.Errorf("no event says loudly that the guarantee is off\n%s", c.Picture())
		}
		c.Mend()
		c.awaitWarning("THE GUARANTEE IS OFF", false)
		watch.Check()
	})
}

func (c *Cluster) status() reconcile.Status {
	c.t.Helper()
	return c.Await("status is known", func(reconcile.Status) error { return nil })
}

// lastEvent is the number of the newest event.
func (c *Cluster) lastEvent() uint64 {
	c.t.Helper()
	events := c.events()
	if len(events) == 0 {
		return 0
	}
	return events[len(events)-1].Seq
}

// loud reports whether a warning among the events after one says that commits wait for
// no standby.
func (c *Cluster) loud(after uint64) bool {
	c.t.Helper()
	return slices.ContainsFunc(c.events(), func(e reconcile.Event) bool {
		return e.Seq > after && e.Severity != reconcile.Info && strings.Contains(strings.ToLower(e.Message+e.Reason), "guarantee")
	})
}

func (c *Cluster) events() []reconcile.Event {
	c.t.Helper()
	var answer struct {
		Events []reconcile.Event `json:"events"`
	}
	c.must(c.askAny("/events?limit=1000", &answer))
	return answer.Events
}
