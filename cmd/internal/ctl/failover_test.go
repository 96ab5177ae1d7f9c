package ctl

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

// scene is how a cluster of a, b and c stands at one look.
func scene(change func(*reconcile.Status)) reconcile.Status {
	s := reconcile.Status{
		Cluster: "demo", Revision: 3, Term: 5,
		Raft: reconcile.RaftStatus{Leader: "c", Voters: []string{"a", "b", "c"}, HasQuorum: true},
	}
	for _, name := range []string{"a", "b", "c"} {
		s.Nodes = append(s.Nodes, reconcile.NodeStatus{Name: name, Role: reconcile.RoleStandby, State: reconcile.NodeRunning, Healthy: true})
	}
	change(&s)
	return s
}

func opened(stopping bool, waits string, promised ...string) func(*reconcile.Status) {
	return func(s *reconcile.Status) {
		s.Opening = &reconcile.OpeningStatus{Cause: reconcile.OpenSwitchover, Deposed: "a", Stopping: stopping, Promised: promised, Of: 2, Waits: waits}
		s.Nodes[0] = reconcile.NodeStatus{Name: "a", Role: reconcile.RoleUnknown, State: reconcile.NodeStopped}
	}
}

// led is a term with a primary, which runs as one or does not yet, and what a does.
func led(primary string, runs bool, a reconcile.NodeStatus) func(*reconcile.Status) {
	return func(s *reconcile.Status) {
		s.Primary = primary
		a.Name = "a"
		s.Nodes[0] = a
		for i := range s.Nodes {
			if s.Nodes[i].Name == primary && runs {
				s.Nodes[i].Role, s.Nodes[i].State = reconcile.RolePrimary, reconcile.NodeRunning
			}
		}
	}
}

var (
	rewinding = reconcile.NodeStatus{Role: reconcile.RoleUnknown, State: reconcile.NodeRewinding, Activity: &reconcile.Activity{Step: reconcile.StepRewind}}
	back      = reconcile.NodeStatus{Role: reconcile.RoleStandby, State: reconcile.NodeRunning, Healthy: true}
	gone      = reconcile.NodeStatus{Role: reconcile.RoleUnknown, State: reconcile.NodeUnreachable, Reason: "its ramd does not answer"}
)

// givingWay is a cluster in term 4 whose primary a gives way, as the scenes tell one
// after the other; the last one stays.
func givingWay(t *testing.T, cause reconcile.OpenReason, to string, scenes ...reconcile.Status) *fake {
	f := newFake(t)
	p := reconcile.Preflighted{
		Format: 1, Cause: cause, Term: 4, Primary: "a", To: to, Clients: "sessions on a end",
		Nodes: []reconcile.PreflightNode{{Node: to, LSN: 0x5000060, Chosen: true, Note: "it is the furthest"}},
	}
	f.always("GET /preflight/"+string(cause), p)
	f.always("POST /"+string(cause), api.FailoverAnswer{Term: 5, Deposed: "a", Target: to, Event: 40, Preflight: p})
	f.on("GET /status", func(before int, _ *http.Request) (any, error) {
		return scenes[min(before, len(scenes)-1)], nil
	})
	f.always("GET /verdicts/latest", reconcile.Choice{Event: 41, Verdict: reconcile.Verdict{Format: 1, Term: 5, Choose: to, Reason: "it is the furthest"}})
	return f
}

func TestSwitchoverShowsItsPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := givingWay(t, reconcile.OpenSwitchover, "b",
			scene(opened(true, "a to shut down")), scene(opened(false, "", "b")), scene(opened(false, "", "b", "c")),
			scene(led("b", false, rewinding)), scene(led("b", true, rewinding)), scene(led("b", true, back)))
		got := typing(f, "yes\n").run(context.Background(), "switchover", "--to", "b")
		want := `Switchover: primary a -> b

  NODE  LSN        LAG  NOTE
  b     0/5000060  0 B  it is the furthest

Clients: sessions on a end.
No acknowledged write is lost.

Make node b the primary instead of a?
Only yes is taken for a yes: 
Term 5:
  done  term 5 is open, a is no longer the primary [0.0s]
  start shutting down a in order
  done  a is shut down [0.0s]
  start disconnecting the standbys from it, 1 of 2 have: b
  start choosing a primary
  done  the standbys have disconnected from it [0.0s]
  done  b is the primary of term 5 [0.1s]
  start promoting b
  done  b takes writes [0.0s]
  start a comes back as a standby, it is rewinding
  done  a follows b [0.0s]
Done: node b is the primary of term 5 after 0.2s. Why: ramctrl explain 41
`
		if got.code != exitDone || got.stderr != "" {
			t.Errorf("exit code %d, %s", got.code, got.stderr)
		}
		if diff := cmp.Diff(want, got.stdout); diff != "" {
			t.Error(diff)
		}
		var sent api.FailoverRequest
		f.sent("POST /switchover", &sent)
		if sent.To != "b" || sent.By != "ann@desk" || sent.Term == nil || *sent.Term != 4 {
			t.Errorf("asked for %+v", sent)
		}
	})
}

func TestFailoverEndsWithWhatBecameOfIt(t *testing.T) {
	promising := scene(opened(false, "2 of b, c must promise", "b"))
	for _, rule := range []struct {
		name   string
		args   []string
		scenes []reconcile.Status
		code   int
		// outcome is that of -o json; says is on standard error.
		outcome, says string
	}{
		{"a lost host is not waited for", nil, []reconcile.Status{promising, scene(led("b", true, gone))}, 0, outcomeDone, "Node a does not follow yet: its ramd does not answer"},
		{"another node than the one asked for", []string{"--to", "c"}, []reconcile.Status{scene(led("b", true, back))}, 1, outcomeOther, "node b is the primary, and not the one that was asked for"},
		{"the old primary again", nil, []reconcile.Status{scene(led("a", true, back))}, 1, outcomeBack, "node a is the primary again: it is the furthest; see ramctrl explain 41"},
		{"a later term", nil, []reconcile.Status{scene(func(s *reconcile.Status) { s.Term = 6 })}, 1, outcomeSuperseded, "a later term was opened meanwhile"},
		{"nobody can be chosen", nil, []reconcile.Status{promising}, 1, outcomeBlocked, "term 5 has no primary: it waits for 2 of b, c must promise"},
		{"time is up", []string{"--timeout", "1s"}, []reconcile.Status{promising}, 1, outcomeTimeout, "follow it with: ramctrl status --watch"},
		{"nobody watches", []string{"--detach"}, []reconcile.Status{promising}, 0, outcomeDetached, ""},
		{"time is up and there is a primary", []string{"--timeout", "1s"}, []reconcile.Status{scene(led("b", true, rewinding))}, 0, outcomeDone, "it was not back before --timeout"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := givingWay(t, reconcile.OpenFailover, "b", rule.scenes...)
				args := append([]string{"failover", "--auto-approve", "-o", "json"}, rule.args...)
				got := operator{cluster: f}.run(context.Background(), args...)
				var result failoverResult
				if err := json.Unmarshal([]byte(got.stdout), &result); err != nil {
					t.Fatalf("%v: %s", err, got.stdout)
				}
				if got.code != rule.code || result.Outcome != rule.outcome || !strings.Contains(got.stderr, rule.says) {
					t.Errorf("exit code %d, outcome %s\n%s", got.code, result.Outcome, got.stderr)
				}
			})
		})
	}
}

// A ramd that is cut off may tell of the past, and a new leader of nodes that it has
// not heard yet.
func TestFailoverBelievesOnlyALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		past := scene(func(s *reconcile.Status) { s.Term, s.Primary = 4, "a" })
		alone := scene(led("b", true, gone))
		alone.Raft.HasQuorum = false
		unheard := scene(led("b", true, reconcile.NodeStatus{State: reconcile.NodeUnreachable, Reason: "its ramd has not reported yet"}))
		f := givingWay(t, reconcile.OpenFailover, "b", past, alone, unheard, scene(led("b", true, back)))
		got := operator{cluster: f}.run(context.Background(), "failover", "--auto-approve")
		if got.code != exitDone || got.stderr != "" || !strings.Contains(got.stdout, "a follows b") {
			t.Errorf("exit code %d\n%s\n%s", got.code, got.stdout, got.stderr)
		}
	})
}

func TestCtrlCDetachesFromAFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(context.Background())
		f := givingWay(t, reconcile.OpenFailover, "b", scene(opened(false, "")))
		f.on("GET /status", func(before int, _ *http.Request) (any, error) {
			if before == 2 {
				interrupt()
			}
			return scene(opened(false, "")), nil
		})
		got := operator{cluster: f}.run(ctx, "failover", "--auto-approve")
		want := "ramctrl: detached, term 5 goes on; follow it with: ramctrl status --watch\n"
		if got.code != exitError || got.stderr != want {
			t.Errorf("exit code %d, %q", got.code, got.stderr)
		}
	})
}

func TestNothingIsFailedOverWithoutAYes(t *testing.T) {
	refused := func(f *fake) {
		f.always("GET /preflight/switchover", reconcile.Preflighted{Cause: reconcile.OpenSwitchover, Primary: "a", Refusals: []string{"node b is 144 MB behind"}})
	}
	for _, rule := range []struct {
		name    string
		prepare func(*fake)
		typed   *string
		args    []string
		says    string
	}{
		{"no terminal", nil, nil, nil, "there is no terminal to ask at, nothing was changed: add --auto-approve"},
		{"no", nil, new("no\n"), nil, "not approved: nothing was changed"},
		{"nothing", nil, new(""), nil, "not approved: nothing was changed"},
		{"a refusal, whatever is approved", refused, nil, []string{"--auto-approve"}, "the switchover is refused, nothing was changed"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			f := givingWay(t, reconcile.OpenSwitchover, "b", scene(led("b", true, back)))
			if rule.prepare != nil {
				rule.prepare(f)
			}
			got := operator{cluster: f, answers: rule.typed}.run(context.Background(), append([]string{"switchover"}, rule.args...)...)
			if got.code != exitError || !strings.Contains(got.stderr, rule.says) || f.made("POST /switchover") != 0 {
				t.Errorf("exit code %d, %s", got.code, got.stderr)
			}
		})
	}
}

func TestALossIsSaidBeforeItIsAskedFor(t *testing.T) {
	f := givingWay(t, reconcile.OpenFailover, "b", scene(led("b", true, gone)))
	f.on("GET /preflight/failover", func(_ int, r *http.Request) (any, error) {
		if r.URL.Query().Get("accept_data_loss") != "true" || r.URL.Query().Get("to") != "b" {
			t.Errorf("asked for %s", r.URL.RawQuery)
		}
		return reconcile.Preflighted{
			Cause: reconcile.OpenFailover, Term: 4, Primary: "a", To: "b",
			Loss: &reconcile.Loss{Bytes: 96, AtMost: true, Text: "at most 96 B of WAL"}, Warnings: []string{"commits wait"},
		}, nil
	})
	got := typing(f, "no\n").run(context.Background(), "failover", "--to", "b", "--accept-data-loss")
	for _, part := range []string{"ACKNOWLEDGED WRITES MAY BE LOST:\n  ! at most 96 B of WAL", "Warnings:\n  ! commits wait", "Make node b the primary, and lose what is said above?"} {
		if !strings.Contains(got.stdout, part) {
			t.Errorf("%q is not in\n%s", part, got.stdout)
		}
	}
}
