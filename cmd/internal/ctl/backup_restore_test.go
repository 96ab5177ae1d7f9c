package ctl

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// stood is how a cluster of a, b and c stands at one look of a restore: in term 4 on
// timeline 2 before it, in term 5 from its beginning on.
func stood(term uint64, change func(*reconcile.Status)) reconcile.Status {
	s := reconcile.Status{
		Cluster: "demo", Revision: 3, Term: term, Primary: "a", Timeline: 2,
		Raft: reconcile.RaftStatus{Leader: "c", Voters: []string{"a", "b", "c"}, HasQuorum: true},
		Nodes: []reconcile.NodeStatus{
			{Name: "a", Role: reconcile.RolePrimary, State: reconcile.NodeRunning, Healthy: true, Timeline: 2},
			{Name: "b", Role: reconcile.RoleStandby, State: reconcile.NodeRunning, Healthy: true, Timeline: 2},
			{Name: "c", Role: reconcile.RoleStandby, State: reconcile.NodeRunning, Healthy: true, Timeline: 2},
		},
	}
	change(&s)
	return s
}

func asBefore(*reconcile.Status) {}

// frozen is a cluster whose servers are all stopped, while a does something.
func frozen(doing *reconcile.Activity) func(*reconcile.Status) {
	return func(s *reconcile.Status) {
		for i := range s.Nodes {
			s.Nodes[i] = reconcile.NodeStatus{Name: s.Nodes[i].Name, Role: reconcile.RoleUnknown, State: reconcile.NodeFenced}
		}
		s.Nodes[0].Activity = doing
	}
}

// restored is a cluster whose primary a runs on timeline 3, and that nodes follow.
func restored(followers ...string) func(*reconcile.Status) {
	return func(s *reconcile.Status) {
		frozen(nil)(s)
		s.Timeline = 3
		s.Nodes[0] = reconcile.NodeStatus{Name: "a", Role: reconcile.RolePrimary, State: reconcile.NodeRunning, Healthy: true, Timeline: 3}
		for i := range s.Nodes {
			for _, name := range followers {
				if s.Nodes[i].Name == name {
					s.Nodes[i] = reconcile.NodeStatus{Name: name, Role: reconcile.RoleStandby, State: reconcile.NodeRunning, Healthy: true, Timeline: 3}
				}
			}
		}
		s.Converged = len(followers) == 2
	}
}

func inTheWay(reason string) func(*reconcile.Status) {
	return func(s *reconcile.Status) {
		frozen(nil)(s)
		s.Blocked = []reconcile.Blocked{{Node: "a", Reason: reason}}
	}
}

// goingBack is a cluster that is restored as the scenes tell; the first is what is seen
// before the restore begins.
func goingBack(t *testing.T, scenes ...reconcile.Status) *fake {
	f := newFake(t)
	f.on("POST /backup/restore", func(int, *http.Request) (any, error) {
		return api.RestoreAnswer{
			Backup: twoBackups()[1], Target: reconcile.RestoreTarget{Point: "before-migration"}, Node: "a",
			Steps: []string{"stop PostgreSQL on a", "restore it"}, Loses: "everything after the restore point",
		}, nil
	})
	f.on("GET /status", func(before int, _ *http.Request) (any, error) { return scenes[min(before, len(scenes)-1)], nil })
	return f
}

func TestRestoreShowsItsPlanAndThenHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		copying := &reconcile.Activity{Step: reconcile.StepRestore, Done: 400 * pg.MB, Total: 1200 * pg.MB}
		cloning := stood(5, restored("b"))
		cloning.Nodes[2].Activity = &reconcile.Activity{Step: reconcile.StepClone, Done: pg.GB, Total: 2 * pg.GB}
		f := goingBack(t,
			stood(4, asBefore), stood(4, asBefore), // a ramd that is behind knows nothing of it yet
			stood(5, asBefore), // the old primary is still seen to run
			stood(5, frozen(copying)), stood(5, restored()), cloning, stood(5, restored("b", "c")))
		got := typing(f, "demo\n").run(context.Background(), "backup", "restore", "--to-point", "before-migration")
		want := `Restore of the whole cluster demo
  to          restore point before-migration
  backup      20261122T030000Z-daily in repository main, 1.2 GB, stored 400 MB (3.0 : 1)
  finished    FINISHED
  proved      never: ramctrl backup verify 20261122T030000Z-daily
  reach       not known: the repository's WAL could not be looked at
  primary     a, the others are copied from it

Steps:
  1. stop PostgreSQL on a
  2. restore it

WHAT IS LOST:
  ! everything after the restore point

The whole cluster goes back in time. Type its name, demo, to go ahead: 
Restoring:
  start node a: restoring
  done  a takes writes, on timeline 3 [0.4s]
  start node b: is to follow a, it is fenced
  start node c: is to follow a, it is fenced
  done  b follows a [0.2s]
  done  c follows a [0.4s]
Done: the cluster is at restore point before-migration, node a is its primary on timeline 3, after 1.0s.
`
		lines := strings.Split(got.stdout, "\n")
		for i, line := range lines {
			if strings.HasPrefix(line, "  finished") {
				lines[i] = "  finished    FINISHED" // depends on today
			}
		}
		if diff := cmp.Diff(want, strings.Join(lines, "\n")); diff != "" || got.code != exitDone || got.stderr != "" {
			t.Errorf("exit code %d, %s\n%s", got.code, got.stderr, diff)
		}
		var sent api.RestoreRequest
		f.sent("POST /backup/restore", &sent)
		wanted := api.RestoreRequest{Repository: "main", Backup: dailyID, Target: reconcile.RestoreTarget{Point: "before-migration"}, Node: "a", By: "ann@desk"}
		if diff := cmp.Diff(wanted, sent); diff != "" || f.made("POST /backup/restore") != 2 {
			t.Errorf("what was shown is not what was asked for: %s", diff)
		}
	})
}

func TestNothingIsRestoredWithoutTheClustersName(t *testing.T) {
	for _, rule := range []struct {
		name  string
		typed *string
		args  []string
		made  int
		says  string
	}{
		{"no terminal", nil, nil, 1, "there is no terminal to ask at, nothing was changed: add --auto-approve"},
		{"yes is not enough", new("yes\n"), nil, 1, "not approved: nothing was changed"},
		{"approved beforehand", nil, []string{"--auto-approve", "--detach"}, 2, "The restore has begun. Follow it with: ramctrl status --watch"},
		{"typed", new("demo\n"), []string{"--detach"}, 2, "The restore has begun."},
	} {
		t.Run(rule.name, func(t *testing.T) {
			f := goingBack(t, stood(4, asBefore))
			got := operator{cluster: f, answers: rule.typed}.run(t.Context(), append([]string{"backup", "restore"}, rule.args...)...)
			if f.made("POST /backup/restore") != rule.made || (got.code == 0) != (rule.made == 2) || !strings.Contains(got.stdout+got.stderr, rule.says) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestATargetThatCannotBeReachedIsSaidBeforeAnythingIsAsked(t *testing.T) {
	f := goingBack(t, stood(4, asBefore))
	f.always("POST /backup/restore", nil)
	f.on("POST /backup/restore", func(int, *http.Request) (any, error) {
		return nil, refusal{http.StatusConflict, "LSN 0/9000000 cannot be reached: what can be restored is LSN 0/5000100 to 0/7000000"}
	})
	got := typing(f, "demo\n").run(t.Context(), "backup", "restore", "--to-lsn", "0/9000000")
	if got.code != exitError || got.stdout != "" || !strings.Contains(got.stderr, "0/5000100 to 0/7000000") || f.made("POST /backup/restore") != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWhatBecomesOfARestore(t *testing.T) {
	lost := stood(5, restored("b"))
	lost.Blocked = []reconcile.Blocked{{Node: "c", Reason: "ramd on node c does not answer"}}
	for _, rule := range []struct {
		name   string
		scenes []reconcile.Status
		args   []string
		code   int
		// outcome is that of -o json; says is on standard error.
		outcome, says string
	}{
		{"a wrong key is in the way", []reconcile.Status{stood(5, inTheWay("node a: the key does not open it"))}, nil, 1, outcomeBlocked, "the restore cannot get on: node a: the key does not open it\nThe cluster keeps trying; follow it with: ramctrl status --watch; give it up with: ramctrl backup restore --abort"},
		{"a trouble that passes", []reconcile.Status{stood(5, inTheWay("not yet")), stood(5, frozen(nil)), stood(5, restored("b", "c"))}, nil, 0, outcomeDone, ""},
		{"a lost host is not waited for", []reconcile.Status{lost}, nil, 0, outcomeDone, "Not all of the cluster is back yet: ramd on node c does not answer."},
		{"time is up", []reconcile.Status{stood(5, frozen(nil))}, []string{"--timeout", "2s"}, 1, outcomeTimeout, "the restore is not done after --timeout and goes on"},
		{"the old primary is not taken for the restored one", []reconcile.Status{stood(5, func(s *reconcile.Status) { s.Converged = true })}, []string{"--timeout", "2s"}, 1, outcomeTimeout, ""},
	} {
		t.Run(rule.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := goingBack(t, append([]reconcile.Status{stood(4, asBefore)}, rule.scenes...)...)
				got := operator{cluster: f}.run(context.Background(), append([]string{"backup", "restore", "--auto-approve", "-o", "json"}, rule.args...)...)
				var result restoreResult
				decodeOnly(t, got.stdout, &result)
				if got.code != rule.code || result.Outcome != rule.outcome || result.Primary != "a" || !strings.Contains(got.stderr, rule.says) {
					t.Errorf("exit code %d, %+v\n%s", got.code, result, got.stderr)
				}
			})
		})
	}
}

func TestCtrlCDetachesFromARestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		f := goingBack(t, stood(4, asBefore), stood(5, frozen(nil)))
		got := operator{cluster: f}.run(ctx, "backup", "restore", "--auto-approve")
		want := "ramctrl: detached, the restore goes on; follow it with: ramctrl status --watch; give it up with: ramctrl backup restore --abort\n"
		if got.code != exitError || got.stderr != want {
			t.Errorf("exit code %d, %q", got.code, got.stderr)
		}
	})
}

func TestARestoreIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		again := func(s *reconcile.Status) { s.Converged = true }
		f := goingBack(t, stood(5, frozen(nil)), stood(6, frozen(nil)), stood(6, again))
		f.on("POST /backup/restore", func(int, *http.Request) (any, error) { return api.RestoreAnswer{Node: "a"}, nil })
		got := typing(f, "yes\n").run(context.Background(), "backup", "restore", "--abort")
		var sent api.RestoreRequest
		f.sent("POST /backup/restore", &sent)
		if got.code != 0 || !sent.Abort || sent.DryRun || !strings.Contains(got.stdout, "Done: node a is the primary again") {
			t.Errorf("%+v, asked for %+v", got, sent)
		}
	})
	f := goingBack(t, stood(4, asBefore))
	f.on("POST /backup/restore", func(int, *http.Request) (any, error) {
		return nil, refusal{http.StatusConflict, "no restore is under way"}
	})
	got := typing(f, "yes\n").run(t.Context(), "backup", "restore", "--abort")
	if got.code != exitError || got.stdout != "" || !strings.Contains(got.stderr, "no restore is under way") {
		t.Errorf("%+v", got)
	}
}

func TestParseMoment(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"2026-11-22T14:05:00Z":         "2026-11-22T14:05:00Z",
		"2026-11-22T14:05:00.25+02:00": "2026-11-22T12:05:00.25Z",
		"2026-11-22 14:05:00+02:00":    "2026-11-22T12:05:00Z",
		"2026-11-22 14:05:00":          "2026-11-22T13:05:00Z",
		"2026-07-22 14:05:00.5":        "2026-07-22T12:05:00.5Z",
		"2026-07-22T14:05:00":          "2026-07-22T12:05:00Z",
		"2026-07-22 14:05":             "2026-07-22T12:05:00Z",
		"2026-03-29 02:30:00":          "clocks in Europe/Berlin were put forward then and never showed it",
		"2026-10-25 02:30:00":          "clocks in Europe/Berlin were put back then and showed it twice",
		"2026-10-25 02:30:00+01:00":    "2026-10-25T01:30:00Z",
		"2026-10-25 03:30:00":          "2026-10-25T02:30:00Z",
		"2026-11-31 00:00:00":          "is not a time",
		"14:05":                        "is not a time",
		"":                             "is not a time",
	} {
		at, err := parseMoment(text, berlin)
		got := at.Format(time.RFC3339Nano)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
