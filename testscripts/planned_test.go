package testscripts

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// planIn plans a switchover, and returns its time.
func planIn(t *testing.T, c *cluster.Cluster, in time.Duration, flags ...string) time.Time {
	t.Helper()
	at := time.Now().Add(in).UTC().Truncate(time.Second)
	flags = append([]string{"switchover", "--at", at.Format(time.RFC3339), "--auto-approve"}, flags...)
	says(t, c.CtlOK(flags...), "Planned: a switchover", at.Format("2006-01-02 15:04:05"), "ramctrl switchover --cancel")
	return at
}

// handedOver waits until a node is the primary and all is well.
func handedOver(c *cluster.Cluster, to string) reconcile.Status {
	return c.Await("node "+to+" is the primary, and nothing is planned any more", func(s reconcile.Status) error {
		if s.Primary != to || s.Planned != nil {
			return fmt.Errorf("primary %q, planned %+v", s.Primary, s.Planned)
		}
		return cluster.Converged(s)
	})
}

func TestASwitchoverAtATime(t *testing.T) {
	t.Parallel()
	c := applied(t, threeNodes)
	c.Part("the next leader begins it, once", func(t *testing.T) {
		before := c.AwaitConverged()
		to, seq := others(threeNodes.Nodes, before.Primary)[1], c.LastEvent()
		at := planIn(t, c, 9*time.Second, "--to", to)
		s, _ := c.Status()
		if s.Planned == nil || s.Planned.To != to || !s.Planned.At.Equal(at) {
			t.Errorf("status has planned %+v", s.Planned)
		}
		says(t, c.CtlOK("status"), "planned: a switchover to "+to+" at "+at.Format("2006-01-02 15:04:05"))
		leader := c.Leader()
		c.Kill9(leader)
		c.Await("another node leads", func(s reconcile.Status) error {
			if s.Raft.Leader == "" || s.Raft.Leader == leader {
				return fmt.Errorf("leader %q", s.Raft.Leader)
			}
			return nil
		})
		c.Start(leader)
		s = handedOver(c, to)
		e := c.AwaitEvent(seq, "node "+before.Primary+" hands over")
		if s.Term != before.Term+1 || e.At.Before(at) || !strings.Contains(e.Reason, "it was planned for "+at.Format(time.RFC3339)) {
			t.Errorf("term %d after %d, event %+v", s.Term, before.Term, e)
		}
		c.CheckHealthy()
	})
	c.Part("a leader that is found shortly after begins it", func(t *testing.T) {
		before := c.AwaitConverged()
		to := others(threeNodes.Nodes, before.Primary)[0]
		at := planIn(t, c, 5*time.Second, "--to", to)
		c.Stop(threeNodes.Nodes...)
		time.Sleep(time.Until(at.Add(time.Second)))
		c.Start(threeNodes.Nodes...)
		if s := handedOver(c, to); s.Term != before.Term+1 {
			t.Errorf("term %d after %d", s.Term, before.Term)
		}
		c.CheckHealthy()
	})
	c.Part("one that is refused at its time is dropped, and it is said why", func(t *testing.T) {
		before := c.AwaitConverged()
		to, seq := others(threeNodes.Nodes, before.Primary)[0], c.LastEvent()
		planIn(t, c, 10*time.Second, "--to", to)
		c.KillTree(to)
		e := c.AwaitEvent(seq, "the switchover to "+to+" planned for", "is dropped")
		if e.Kind != reconcile.EventPlanned || e.Severity != reconcile.Warning || !strings.Contains(e.Reason, "node "+to+" cannot become the primary") {
			t.Errorf("%+v", e)
		}
		c.Start(to)
		if s := c.AwaitConverged(); s.Term != before.Term || s.Primary != before.Primary || s.Planned != nil {
			t.Errorf("primary %s of term %d after %s of %d, planned %+v", s.Primary, s.Term, before.Primary, before.Term, s.Planned)
		}
	})
	c.Part("another one replaces it, and it can be cancelled", func(t *testing.T) {
		before := c.AwaitConverged()
		seq := c.LastEvent()
		planIn(t, c, time.Hour)
		says(t, c.CtlOK("switchover", "--at", time.Now().Add(2*time.Hour).Format(time.RFC3339), "--auto-approve"), "is replaced")
		says(t, c.CtlOK("switchover", "--cancel"), "Cancelled: a switchover at ")
		c.AwaitEvent(seq, "is cancelled")
		if s := c.AwaitConverged(); s.Planned != nil || s.Term != before.Term {
			t.Errorf("planned %+v, term %d after %d", s.Planned, s.Term, before.Term)
		}
		r := c.Ctl("switchover", "--cancel")
		if err := failedWith(r, "no switchover is planned"); err != nil {
			t.Error(err)
		}
	})
	c.Part("what cannot be planned is refused", func(t *testing.T) {
		seq := c.LastEvent()
		for at, why := range map[string]string{
			time.Now().Add(-time.Minute).Format(time.RFC3339):    "name a time in the future",
			time.Now().Add(200 * time.Hour).Format(time.RFC3339): "more than 7 days ahead",
		} {
			if err := failedWith(c.Ctl("switchover", "--at", at, "--auto-approve"), why); err != nil {
				t.Error(err)
			}
		}
		if err := failedWith(c.Ctl("switchover", "--to", "x", "--at", time.Now().Add(time.Hour).Format(time.RFC3339), "--auto-approve"), "there is no node"); err != nil {
			t.Error(err)
		}
		if s, _ := c.Status(); s.Planned != nil || c.LastEvent() != seq {
			t.Errorf("planned %+v, events %+v", s.Planned, c.Since(seq))
		}
	})
}

// failedWith is nil when a command ended with exit code 1 and said why.
func failedWith(r cluster.Result, why string) error {
	if r.Code != 1 || !strings.Contains(r.Stdout+r.Stderr, why) {
		return errors.New("want " + why + " and exit code 1: " + r.String())
	}
	return nil
}
