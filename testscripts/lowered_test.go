package testscripts

import (
	"slices"
	"strings"
	"testing"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// A standby may have less of a setting than the primary had only once it has
// replayed that the primary has less: restarted before that, it never starts again.
func TestSettingsAreLoweredOnAStandbyOnlyWhenItHasReplayedThatThePrimaryHasLess(t *testing.T) {
	t.Parallel()
	high := cluster.Spec{Nodes: []string{"a", "b", "c"}, Parameters: "max_connections = 123\n"}
	low := high
	low.Parameters = "max_connections = 100\n"
	c := cluster.New(t, high.String())
	c.Start("a", "b", "c")
	c.Apply("")
	c.CheckHealthy()

	c.Exec("b", "SELECT pg_wal_replay_pause()::text")
	c.TryApply(low.String(), "--detach")
	c.Until("the plan says that b has to replay first", cluster.Patience, func() bool {
		return slices.ContainsFunc(c.Plan("").Steps, func(s reconcile.Step) bool {
			return s.Node == "b" && strings.Contains(s.Waits, "replay that a has lowered its settings")
		})
	})
	if got := c.Query("a", "SHOW max_connections"); got[0] != "100" {
		t.Errorf("the primary runs with %s", got)
	}
	if got := c.Query("b", "SHOW max_connections"); got[0] != "123" {
		t.Errorf("b, which has not replayed that, runs with %s", got)
	}
	c.Exec("b", "SELECT pg_wal_replay_resume()::text")
	c.CheckHealthy()
	if got := c.Query("b", "SHOW max_connections"); got[0] != "100" {
		t.Errorf("b runs with %s", got)
	}
}
