package ctl

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

const planText = `Cluster demo, revision 3 -> 4:

  ~ postgres
      + parameters.work_mem = "8MB"  # reload

Steps:

  1. write and load the configuration of b

Plan: 0 to add, 1 to change, 0 to destroy; 1 step; writes go on.
`

const runText = `Revision 4 is accepted, run 7:
  start node b: loading its configuration
  done  node b: configured [1.2s]
Done: revision 4, run 7, 1.5s.
`

func TestApplyShowsThePlanAndFollowsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		got := operator{cluster: f}.run(t.Context(), "apply", "--auto-approve", "--message", "more memory")
		if diff := cmp.Diff(outcome{0, planText + runText, ""}, got, cmp.AllowUnexported(outcome{})); diff != "" {
			t.Error(diff)
		}
		var request api.ApplyRequest
		f.sent("POST /apply", &request)
		want := api.ApplyRequest{
			By: "ann@desk", Message: "more memory", Cause: reconcile.CauseApply,
			Base: &reconcile.Base{Revision: 3, Observed: "x"},
		}
		if diff := cmp.Diff(want, request); diff != "" {
			t.Error(diff)
		}
	})
}

func TestApplySendsTheSpecWithItsText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := "cluster \"demo\" {\n  postgres { version = 15 }\n  node \"a\" { host = \"10.0.0.11\" }\n}\n"
		path := filepath.Join(t.TempDir(), "demo.hcl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := planning(t)
		got := operator{cluster: f}.run(t.Context(), "apply", "--auto-approve", "--detach", path)
		if got.code != 0 {
			t.Fatalf("%+v", got)
		}
		var request api.ApplyRequest
		f.sent("POST /apply", &request)
		if request.Source != text || request.Spec == nil || request.Spec.Name != "demo" {
			t.Errorf("source %q, spec %+v", request.Source, request.Spec)
		}
	})
}

func TestApplyChangesNothingWithoutAYes(t *testing.T) {
	destructive := onePlan("x")
	destructive.Summary.Destructive = true
	blocked := reconcile.Plan{Cluster: "demo", Blocked: []reconcile.Blocked{{Reason: "node b is away"}}}
	refused := onePlan("x")
	refused.Blocked = []reconcile.Blocked{{Reason: "no major upgrades", Refused: true}}
	no, short := "no\n", "y\n"
	cases := map[string]struct {
		plan    reconcile.Plan
		answers *string
		args    []string
		code    int
		says    string
	}{
		"no terminal":          {onePlan("x"), nil, nil, 1, "add --auto-approve to go ahead"},
		"the answer is no":     {onePlan("x"), &no, nil, 1, "not approved: nothing was changed"},
		"the answer is y":      {onePlan("x"), &short, nil, 1, "not approved: nothing was changed"},
		"it destroys":          {destructive, nil, []string{"--auto-approve"}, 1, "add --allow-destroy to agree"},
		"it is refused":        {refused, nil, []string{"--auto-approve"}, 1, "the spec is refused"},
		"all of it is blocked": {blocked, nil, []string{"--auto-approve"}, 1, "nothing can be done now"},
		"there is nothing":     {reconcile.Plan{Cluster: "demo", Revision: 3}, nil, nil, 0, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := planning(t)
				f.always("POST /plan", api.PlanAnswer{Plan: c.plan, Spec: demoSpec()})
				got := operator{cluster: f, answers: c.answers}.run(t.Context(), append([]string{"apply"}, c.args...)...)
				if got.code != c.code || !strings.Contains(got.stderr, c.says) {
					t.Errorf("%+v, want code %d and %q", got, c.code, c.says)
				}
				if n := f.made("POST /apply"); n != 0 {
					t.Errorf("%d requests to apply", n)
				}
			})
		})
	}
}

func TestApplyTakesYesForAYes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		got := typing(f, "yes\n").run(t.Context(), "apply")
		if got.code != 0 || !strings.Contains(got.stdout, "Only yes is taken for a yes: \nRevision 4 is accepted") {
			t.Errorf("%+v", got)
		}
	})
}

func TestWhatIsDestroyedNeedsTheFlag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		plan := onePlan("x")
		plan.Summary.Destructive = true
		f.always("POST /plan", api.PlanAnswer{Plan: plan})
		f.always("GET /spec", api.SpecAnswer{Revision: 3, Spec: demoSpec()})
		got := operator{cluster: f}.run(t.Context(), "apply", "--auto-approve", "--allow-destroy")
		var request api.ApplyRequest
		f.sent("POST /apply", &request)
		if got.code != 0 || !request.AllowDestroy || request.Spec != nil {
			t.Errorf("%+v, allow destroy %v, spec %v", got, request.AllowDestroy, request.Spec)
		}
	})
}

func TestAWatchedSpecThatWaitsIsWhatTheFlagApplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		waiting := demoSpec()
		waiting.Name = "waiting"
		f.always("GET /spec", api.SpecAnswer{
			Revision: 3, Spec: demoSpec(),
			Waiting: &reconcile.Proposal{Spec: waiting, Source: "as written", Reason: "watch on a: it destroys data"},
		})
		got := operator{cluster: f}.run(t.Context(), "apply", "--auto-approve", "--allow-destroy")
		var request api.ApplyRequest
		f.sent("POST /apply", &request)
		if got.code != 0 || request.Spec == nil || request.Spec.Name != "waiting" || request.Source != "as written" {
			t.Errorf("%+v, spec %+v from %q", got, request.Spec, request.Source)
		}
		if !strings.Contains(got.stdout, "watch on a: it destroys data") {
			t.Errorf("why it waited is not said: %q", got.stdout)
		}
	})
}

// A stale plan is made and shown again; what is applied is what was shown last.
func TestAStalePlanIsMadeAgain(t *testing.T) {
	for name, who := range map[string]func(*fake) operator{
		"approved beforehand": func(f *fake) operator { return operator{cluster: f} },
		"asked again":         func(f *fake) operator { return typing(f, "yes\nyes\n") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := planning(t)
				f.on("POST /plan", func(before int, _ *http.Request) (any, error) {
					return api.PlanAnswer{Plan: onePlan([]string{"old", "new", "new"}[before])}, nil
				})
				f.on("POST /apply", func(before int, _ *http.Request) (any, error) {
					if before == 0 {
						return nil, refusal{http.StatusConflict, "the plan is stale"}
					}
					return api.ApplyAnswer{Revision: 4, Run: 7}, nil
				})
				args := []string{"apply"}
				if name == "approved beforehand" {
					args = append(args, "--auto-approve")
				}
				got := who(f).run(t.Context(), args...)
				var request api.ApplyRequest
				f.sent("POST /apply", &request)
				if got.code != 0 || request.Base.Observed != "new" || strings.Count(got.stdout, "Plan: 0 to add") != 2 {
					t.Errorf("%+v, base %+v", got, request.Base)
				}
			})
		})
	}
}

func TestAConflictThatIsNotStalenessIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		f.on("POST /apply", func(int, *http.Request) (any, error) {
			return nil, refusal{http.StatusConflict, "the cluster is paused: ramctrl resume"}
		})
		got := operator{cluster: f}.run(t.Context(), "apply", "--auto-approve")
		if got.code != 1 || got.stderr != "ramctrl: the cluster is paused: ramctrl resume\n" || f.made("POST /apply") != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestASavedPlanIsAppliedAsShownOrNotAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		path := filepath.Join(t.TempDir(), "next.plan")
		if got := (operator{cluster: f}).run(t.Context(), "plan", "--out", path); got.code != 0 {
			t.Fatalf("%+v", got)
		}
		f.always("POST /plan", api.PlanAnswer{Plan: onePlan("later")})
		f.on("POST /apply", func(int, *http.Request) (any, error) {
			return nil, refusal{http.StatusConflict, "made from another observation"}
		})
		got := operator{cluster: f}.run(t.Context(), "apply", "--auto-approve", path)
		if got.code != 1 || !strings.Contains(got.stderr, "the plan is stale") || f.made("POST /apply") != 1 {
			t.Errorf("%+v", got)
		}
		var request api.ApplyRequest
		f.sent("POST /apply", &request)
		if diff := cmp.Diff(&reconcile.Base{Revision: 3, Observed: "x"}, request.Base); diff != "" || request.Spec.Name != "demo" {
			t.Errorf("%s spec %+v", diff, request.Spec)
		}
	})
}

func TestApplyJSONIsOneDocumentOnStandardOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		got := operator{cluster: f}.run(t.Context(), "apply", "--auto-approve", "-o", "json")
		var result applyResult
		decodeOnly(t, got.stdout, &result)
		if got.code != 0 || result.Outcome != outcomeDone || result.Run != 7 || result.Revision != 4 ||
			result.Format != 1 || result.ElapsedMS != 1500 || len(result.Steps) != 1 || result.Plan == nil {
			t.Errorf("code %d, %+v", got.code, result)
		}
		if !strings.Contains(got.stderr, "Plan: 0 to add") || !strings.Contains(got.stderr, "node b: configured") {
			t.Errorf("people are told nothing: %s", got.stderr)
		}
	})
}

func TestDetachReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		got := operator{cluster: f}.run(t.Context(), "apply", "--auto-approve", "--detach")
		if got.code != 0 || f.made("GET /runs/7") != 0 || !strings.Contains(got.stdout, "Follow it with: ramctrl apply --follow 7") {
			t.Errorf("%+v", got)
		}
	})
}

func TestRollbackAppliesTheOldSpec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		f.always("GET /history/2", reconcile.Revision{Number: 2, Spec: demoSpec(), Source: "# two\n"})
		got := operator{cluster: f}.run(t.Context(), "rollback", "2", "--auto-approve")
		var request api.ApplyRequest
		f.sent("POST /apply", &request)
		if got.code != 0 || request.Cause != reconcile.CauseRollback || request.Source != "# two\n" || request.Message != "rollback to revision 2" {
			t.Errorf("%+v, request %+v", got, request)
		}
		if diff := cmp.Diff(demoSpec(), request.Spec); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCtrlCBeforeTheAnswerChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		ctx, cancel := context.WithCancel(t.Context())
		f.on("POST /plan", func(int, *http.Request) (any, error) {
			time.AfterFunc(time.Second, cancel)
			return api.PlanAnswer{Plan: onePlan("x")}, nil
		})
		a, stdin := silentOperator(t, f)
		code := a.main(ctx)
		_ = stdin.Close()
		if code != 1 || f.made("POST /apply") != 0 {
			t.Errorf("code %d, %d requests to apply", code, f.made("POST /apply"))
		}
	})
}
