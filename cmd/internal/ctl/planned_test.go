package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

func TestTheTimeThatAnOperatorWrites(t *testing.T) {
	vienna := time.FixedZone("CET", 3600)
	now := time.Date(2026, 1, 31, 22, 30, 0, 0, time.UTC) // 23:30 in Vienna
	for _, rule := range []struct {
		name, text string
		zone       *time.Location
		want       time.Time
	}{
		{"later today", "23:45", nil, time.Date(2026, 1, 31, 23, 45, 0, 0, time.UTC)},
		{"earlier than now is tomorrow", "22:00", nil, time.Date(2026, 2, 1, 22, 0, 0, 0, time.UTC)},
		{"now is tomorrow", "22:30", nil, time.Date(2026, 2, 1, 22, 30, 0, 0, time.UTC)},
		{"the operator's clock counts", "23:45", vienna, time.Date(2026, 1, 31, 22, 45, 0, 0, time.UTC)},
		{"and the operator's day", "00:15", vienna, time.Date(2026, 1, 31, 23, 15, 0, 0, time.UTC)},
		{"a whole time is what it says", "2026-03-01T03:00:00+02:00", vienna, time.Date(2026, 3, 1, 1, 0, 0, 0, time.UTC)},
	} {
		t.Run(rule.name, func(t *testing.T) {
			a := &app{sys: System{Zone: rule.zone}}
			if got, err := a.moment(rule.text, now); err != nil || !got.Equal(rule.want) {
				t.Errorf("%s, %v, want %s", got, err, rule.want)
			}
		})
	}
	for _, text := range []string{"", "soon", "25:00", "3", "2026-03-01", "2026-03-01 03:00"} {
		var usage usageError
		if got, err := (&app{}).moment(text, now); !errors.As(err, &usage) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

// planning for three at midnight, which is when virtual time begins.
func plansAhead(t *testing.T) *fake {
	f := newFake(t)
	at := time.Date(2000, 1, 1, 3, 0, 0, 0, time.UTC)
	f.on("GET /preflight/switchover", func(_ int, r *http.Request) (any, error) {
		if got := r.URL.Query().Get("at"); got != "2000-01-01T03:00:00Z" {
			t.Errorf("asked for %s", got)
		}
		return reconcile.Preflighted{Cause: reconcile.OpenSwitchover, Term: 4, At: at, Primary: "a", To: "b", Clients: "sessions on a end"}, nil
	})
	f.always("POST /switchover", api.FailoverAnswer{Term: 4, Deposed: "a", Target: "b", Planned: &reconcile.PlannedSwitchover{To: "b", From: "a", At: at, By: "ann@desk"}})
	f.always("POST /switchover/cancel", api.CancelSwitchoverAnswer{Planned: reconcile.PlannedSwitchover{From: "a", At: at, By: "bob"}})
	return f
}

func TestASwitchoverAtATimeIsPlanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := plansAhead(t)
		got := typing(f, "yes\n").run(context.Background(), "switchover", "--to", "b", "--at", "03:00")
		want := `Switchover: to begin at 2000-01-01 03:00:00 UTC; as it is now: primary a -> b

Clients: sessions on a end.
No acknowledged write is lost.

Plan it for 2000-01-01 03:00:00 UTC, which is in 3h00m?
Only yes is taken for a yes: 
Planned: a switchover to b at 2000-01-01 03:00:00 UTC, by ann@desk, in 3h00m. The cluster looks at it again then, and begins it or says why not.
See ramctrl status; cancel it with: ramctrl switchover --cancel
`
		if got.code != exitDone || got.stderr != "" {
			t.Errorf("exit code %d, %s", got.code, got.stderr)
		}
		if diff := cmp.Diff(want, got.stdout); diff != "" {
			t.Error(diff)
		}
		var sent api.FailoverRequest
		f.sent("POST /switchover", &sent)
		if sent.To != "b" || sent.By != "ann@desk" || sent.Term != nil || !sent.At.Equal(time.Date(2000, 1, 1, 3, 0, 0, 0, time.UTC)) {
			t.Errorf("asked for %+v", sent)
		}
	})
}

func TestAPlannedSwitchoverAsData(t *testing.T) {
	for _, rule := range []struct {
		args          []string
		outcome, call string
		people        string
		not           string
	}{
		{[]string{"--at", "2000-01-01T03:00:00Z", "--auto-approve"}, outcomePlanned, "POST /switchover", "Planned: a switchover to b", "POST /switchover/cancel"},
		{[]string{"--cancel"}, outcomeCancelled, "POST /switchover/cancel", "Cancelled: a switchover at 2000-01-01 03:00:00 UTC, by bob.", "POST /switchover"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := plansAhead(t)
			got := operator{cluster: f}.run(context.Background(), append([]string{"switchover", "-o", "json"}, rule.args...)...)
			var result failoverResult
			if err := json.Unmarshal([]byte(got.stdout), &result); err != nil {
				t.Fatalf("%v: %s, %s", err, got.stdout, got.stderr)
			}
			if got.code != exitDone || result.Outcome != rule.outcome || result.Planned == nil || !strings.Contains(got.stderr, rule.people) {
				t.Errorf("exit code %d, %+v, %s", got.code, result, got.stderr)
			}
			if f.made(rule.call) != 1 || f.made(rule.not) != 0 {
				t.Errorf("asked for %q", f.calls)
			}
		})
	}
}

func TestNothingIsPlannedWithoutAYes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := plansAhead(t)
		got := typing(f, "no\n").run(context.Background(), "switchover", "--at", "03:00")
		if got.code != exitError || f.made("POST /switchover") != 0 {
			t.Errorf("exit code %d, asked for %q", got.code, f.calls)
		}
	})
}
