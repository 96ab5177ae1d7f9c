package reconcile_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

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

func statusOf(t *testing.T, spec, seenText string, prepare func(*reconcile.Record)) reconcile.Status {
	t.Helper()
	w := settled(t, spec)
	rec := *w.Record
	prepare(&rec)
	obs := seen(t, w, seenText)
	return reconcile.StatusOf(&rec, obs, reconcile.Diff(rec.Spec, &rec, obs), reconcile.RaftStatus{Leader: "a", HasQuorum: true})
}

// frozen is an open term in which everybody has been told so.
func frozen(rec *reconcile.Record) {
	open(rec)
	rec.Assignments = maps.Clone(rec.Assignments)
	for name, a := range rec.Assignments {
		a.Role, a.Upstream, a.Term, a.Serial = reconcile.RoleStandby, nil, rec.Term, a.Serial+1
		rec.Assignments[name] = a
	}
}

func TestStatusOfAnOpenTerm(t *testing.T) {
	s := statusOf(t, "a b c", "a silent", frozen)
	if s.Opening == nil || s.Primary != "" || s.Converged {
		t.Fatalf("primary %q, converged %v, opening %+v", s.Primary, s.Converged, s.Opening)
	}
	if s.Opening.Deposed != "a" || s.Opening.Of != 2 || len(s.Opening.Promised) != 0 || !strings.HasPrefix(s.Opening.Waits, "2 of b, c must promise") {
		t.Errorf("%+v", s.Opening)
	}
	if s := statusOf(t, "a b c", "", func(*reconcile.Record) {}); s.Opening != nil || len(s.Warnings) > 0 {
		t.Errorf("a term is open, or something is wrong, where all is well: %+v, %q", s.Opening, s.Warnings)
	}
	s = statusOf(t, "a b c", "a silent", func(rec *reconcile.Record) { frozen(rec); paused(rec) })
	if s.Opening.Waits != "ramctrl resume" {
		t.Errorf("paused, it waits for %q", s.Opening.Waits)
	}
}

func TestADeposedPrimaryThatIsStoppedIsFenced(t *testing.T) {
	for _, rule := range []struct {
		name, seen string
		prepare    func(*reconcile.Record)
		want       reconcile.NodeState
	}{
		{"a primary that is stopped and was deposed", "a stopped", frozen, reconcile.NodeFenced},
		{"a primary that is stopped", "a stopped", func(*reconcile.Record) {}, reconcile.NodeStopped},
		{"a primary that is deposed and does not answer", "a silent", frozen, reconcile.NodeUnreachable},
	} {
		t.Run(rule.name, func(t *testing.T) {
			if n := statusOf(t, "a b c", rule.seen, rule.prepare).Nodes[0]; n.State != rule.want || n.Healthy {
				t.Errorf("%+v", n)
			}
		})
	}
	s := statusOf(t, "a b c", "b stopped", frozen)
	if n := s.Nodes[1]; n.State != reconcile.NodeStopped {
		t.Errorf("a standby that is stopped is %s", n.State)
	}
}

func TestStatusWarns(t *testing.T) {
	two := func(rec *reconcile.Record) {
		c := *rec.Spec
		c.Replication.SyncStandbys = 2
		rec.Spec = &c
	}
	for _, rule := range []struct {
		name, spec, seen string
		prepare          func(*reconcile.Record)
		want             string
	}{
		{"of a guarantee that is off", "a b c", "", degrading, "THE GUARANTEE IS OFF: commits wait for no standby (when_short is degrade)"},
		{"of a guarantee that is not on yet", "a b c", "", noSync, "THE GUARANTEE IS NOT ON YET"},
		{"of a guarantee that is less than asked for", "a b c", "", two, "THE GUARANTEE IS REDUCED: commits wait for 1 standbys, and the spec asks for 2"},
		{"of nothing in async mode", "a b c; async", "", noSync, ""},
		{"of writes that wait", "a b c", "b idle; c silent", func(*reconcile.Record) {}, "WRITES WAIT: commits wait for 1 of b, c, and 0 of them receive"},
		{"of a pause", "a b c", "", paused, "paused by ann: nothing is put right and no failover happens until ramctrl resume"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			got := strings.Join(statusOf(t, rule.spec, rule.seen, rule.prepare).Warnings, "; ")
			if rule.want == "" && got != "" || !strings.HasPrefix(got, rule.want) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestStatusSaysWhyALostPrimaryIsNotReplaced(t *testing.T) {
	w := settled(t, "a b c")
	rec, c := *w.Record, *w.Record.Spec
	c.Failover.Automatic = false
	rec.Spec = &c
	obs := seen(t, w, "a silent")
	obs.Pulse = reconcile.Pulse{Silent: time.Minute, Unreached: true}
	warnings := func(raft reconcile.RaftStatus) string {
		return strings.Join(reconcile.StatusOf(&rec, obs, reconcile.Plan{}, raft).Warnings, "; ")
	}
	if got := warnings(reconcile.RaftStatus{HasQuorum: true}); !strings.HasPrefix(got, "THE PRIMARY IS IN TROUBLE") || !strings.Contains(got, "ramctrl failover") {
		t.Errorf("%q", got)
	}
	if got := warnings(reconcile.RaftStatus{}); got != "" {
		t.Errorf("a ramd that knows of nobody says %q", got)
	}
}
