package faults

import (
	"errors"
	"testing"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// TestFaultsFailoverDuringTheCopyOfANodeThatJoins loses the primary while a new node
// copies its data from it: there is another primary, and the node is copied from that.
func TestFaultsFailoverDuringTheCopyOfANodeThatJoins(t *testing.T) {
	thorough(t)
	whole := threeNodes.With("d")
	for _, f := range []struct {
		rule   string
		strike func(c *Cluster, primary string)
	}{
		{"everything on its host killed", (*Cluster).KillHost},
		{"its host cut off", func(c *Cluster, primary string) { c.Net.Cut(primary) }},
	} {
		t.Run(f.rule, func(t *testing.T) {
			c := New(t, whole)
			c.left = []string{"d"}
			c.SetSpec(threeNodes)
			c.Start(threeNodes.Nodes...)
			c.AwaitFormed()
			c.Apply()
			primary := c.settled()
			c.bulk(primary)
			watch := c.Watch(Pace{})
			c.AwaitAcknowledged(watch.Writer, 20)
			c.Net.Latency("d", 50*time.Millisecond) // so that the copy takes a while
			c.SetSpec(whole)
			c.Start("d")
			c.applyDetached(whole)
			c.Await("node d is being copied", func(s reconcile.Status) error {
				for _, n := range s.Nodes {
					if n.Name == "d" && n.State == reconcile.NodeCloning && n.Activity != nil && n.Activity.Done > 0 {
						return nil
					}
				}
				return errors.New("it is not")
			})
			f.strike(c, primary)
			c.AwaitNewPrimary(primary)
			c.AwaitAcknowledged(watch.Writer, 20)
			c.left = nil
			c.Net.Mend("d")
			c.AwaitCloned("d")
			c.Mend()
			watch.Check()
		})
	}
}

// AwaitCloned waits until a node streams, also when others are lost.
func (c *Cluster) AwaitCloned(node string) {
	c.t.Helper()
	c.Await("node "+node+" has been copied, and streams", func(s reconcile.Status) error {
		for _, n := range s.Nodes {
			if n.Name == node && n.Role == reconcile.RoleStandby && n.Healthy {
				return nil
			}
		}
		return errors.New("it does not")
	})
}

// bulkRows is about 30 MB of WAL.
const bulkRows = "SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 30000) i"

// bulk writes a lot that no standby has to have for the writer to go on.
func (c *Cluster) bulk(primary string) {
	c.t.Helper()
	c.execOn(primary, "CREATE TABLE IF NOT EXISTS bulk (i int, t text); SET synchronous_commit = local; INSERT INTO bulk "+bulkRows)
}
