package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
)

// statusLine is a node's line: name, role, state, sync, then what is not well.
func statusLine(n reconcile.NodeStatus) string {
	line := fmt.Sprintf("%s %s %s", n.Name, n.Role, n.State)
	if n.Sync != "" {
		line += " " + n.Sync
	}
	if n.LagBytes > 0 {
		line += fmt.Sprintf(" lag=%d", n.LagBytes)
	}
	if n.PendingRestart {
		line += " pending-restart"
	}
	if !n.Healthy {
		line += " unhealthy"
	}
	if n.Reason != "" {
		line += ": " + n.Reason
	}
	return line
}

func TestStatusSays(t *testing.T) {
	for _, rule := range []struct {
		name, spec, seen string
		converged        bool
		want             string
	}{
		{"that all is well", "a b c w(witness)", "", true, "a primary running; b standby running quorum; c standby running quorum; w witness absent"},
		{"that nothing is synchronous", "a b; async", "", true, "a primary running; b standby running async"},
		{"that a standby of priority 0 is not in the set", "a b c(priority=0)", "", true, "a primary running; b standby running quorum; c standby running async"},
		{"that a node is silent", "a b", "b silent", false, "a primary running; b unknown unreachable unhealthy: its ramd does not answer"},
		{"that a node has not been heard", "a b", "b unheard", false, "a primary running; b unknown unreachable unhealthy: its ramd has not reported yet"},
		{"that a server is stopped", "a b", "b stopped", false, "a primary running; b unknown stopped unhealthy"},
		{"that a server starts", "a b", "b starting", false, "a primary running; b unknown starting unhealthy"},
		{"that a server hangs", "a b", "b hung", false, "a primary running; b unknown starting unhealthy"},
		{"that there is no data", "a b", "b absent", false, "a primary running; b unknown absent unhealthy"},
		{"that a standby does not stream", "a b", "b idle", false, "a primary running; b standby running quorum unhealthy: does not stream from a"},
		{"why a node does not get on", "a b", "b problem disk full", false, "a primary running; b standby running quorum: disk full"},
		{"that a setting waits for a restart", "a b", "b pending shared_buffers", false, "a primary running; b standby running quorum pending-restart"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			w := settled(t, rule.spec)
			obs := seen(t, w, rule.seen)
			status := reconcile.StatusOf(w.Record, obs, reconcile.Diff(w.Record.Spec, w.Record, obs), reconcile.RaftStatus{})
			var lines []string
			for _, n := range status.Nodes {
				lines = append(lines, statusLine(n))
			}
			if diff := cmp.Diff(rule.want, strings.Join(lines, "; ")); diff != "" {
				t.Error(diff)
			}
			if status.Converged != rule.converged {
				t.Errorf("converged is %v", status.Converged)
			}
		})
	}
}

func TestStatusBeforeTheFirstSpecNamesTheMembers(t *testing.T) {
	w := settled(t, "a b")
	rec := *w.Record
	rec.Spec, rec.Revision = nil, 0
	status := reconcile.StatusOf(&rec, reconcile.Observed{}, reconcile.Plan{}, reconcile.RaftStatus{})
	if len(status.Nodes) != 2 || status.Nodes[0].Name != "a" || status.Nodes[0].LastSeen != -1 || status.Converged {
		t.Errorf("%+v", status)
	}
}

func TestDriftShowsInStatus(t *testing.T) {
	w := settled(t, "a b")
	obs := seen(t, w, "b drift work_mem")
	status := reconcile.StatusOf(w.Record, obs, reconcile.Diff(w.Record.Spec, w.Record, obs), reconcile.RaftStatus{})
	if len(status.Drift) != 1 || status.Drift[0].Object != "node b" || status.Converged {
		t.Errorf("%+v", status.Drift)
	}
}
