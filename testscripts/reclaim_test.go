package testscripts

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// Of two copies the newer one is lost before the older one, a former primary's, was
// made to follow it.
func TestTheLastCopyIsAFormerPrimary(t *testing.T) {
	t.Parallel()
	_, url := emptyRepository(t)
	spec := backedUp(cluster.Spec{Nodes: []string{"a", "b", "w"}, Witnesses: []string{"w"}}, repositoryAt(url))
	c := applied(t, spec)
	former := primaryOf(c)
	newer := others([]string{"a", "b"}, former)[0]
	for range 3 {
		c.Write()
	}
	archived(c)
	c.KillTree(former)
	c.Await("the other node is the primary", func(s reconcile.Status) error {
		if s.Primary != newer || node(s, newer).Role != reconcile.RolePrimary {
			return fmt.Errorf("the primary is %q", s.Primary)
		}
		return nil
	})
	c.KillTree(newer)
	c.WipeData(newer)
	begun := time.Now()
	c.Start(former, newer)

	c.Part("nobody decides that but the operator, who is told what it costs", func(t *testing.T) {
		c.Await("both nodes have said what they have", func(s reconcile.Status) error {
			for _, name := range []string{former, newer} {
				if n := node(s, name); n.State == reconcile.NodeRunning || n.LastSeen < 0 || n.LastSeen >= time.Since(begun).Milliseconds() {
					return fmt.Errorf("node %s is %s: %s", name, n.State, n.Reason)
				}
			}
			return nil
		})
		for flag, want := range map[string]string{
			"--auto-approve":     "ramctrl failover --accept-data-loss",
			"--accept-data-loss": "ramctrl failover --accept-data-loss --to " + former,
		} {
			if r := c.Ctl("failover", "--auto-approve", flag); r.Code != 1 || !strings.Contains(r.Stdout, want) {
				t.Errorf("want %q and exit code 1: %s", want, r)
			}
		}
	})
	c.Part("it goes on with what it has, and the other one follows", func(t *testing.T) {
		text := c.CtlOK("failover", "--accept-data-loss", "--to", former, "--auto-approve")
		if !strings.Contains(text, former) || !strings.Contains(text, "all that was written since") {
			t.Errorf("ramctrl failover says:\n%s", text)
		}
		c.CheckHealthy()
		if now := primaryOf(c); now != former {
			t.Errorf("the primary is %s, want %s", now, former)
		}
	})
	// The backup ends where a segment does, and nothing follows yet.
	c.Part("its WAL gets into the archive", func(t *testing.T) {
		archived(c)
		c.CtlOK("backup", "verify", backUp(c))
	})
	c.Part("and later changes of the primary are as usual", func(t *testing.T) {
		c.CtlOK("switchover", "--auto-approve")
		c.CheckHealthy()
	})
}
