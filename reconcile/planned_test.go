package reconcile_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// At nine an operator plans for ten.
var (
	nine = time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC)
	ten  = nine.Add(time.Hour)
)

func planFor(to string, at time.Time, was time.Time) reconcile.Command {
	return reconcile.Command{At: nine, By: "ann", Planned: &reconcile.SetPlanned{
		Next: &reconcile.PlannedSwitchover{To: to, At: at}, Was: was,
	}}
}

func apply(t *testing.T, rec *reconcile.Record, cmd reconcile.Command) *reconcile.Record {
	t.Helper()
	next, err := reconcile.Transition(rec, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// plannedFor is the record of "a b c" with a switchover that is planned for ten.
func plannedFor(t *testing.T, to string) (*reconcile.Record, reconcile.Observed) {
	t.Helper()
	w := settled(t, "a b c")
	return apply(t, w.Record, planFor(to, ten, time.Time{})), seen(t, w, "")
}

func lastEvent(rec *reconcile.Record) string {
	e := rec.Events[len(rec.Events)-1]
	return strings.TrimSuffix(string(e.Kind)+" "+string(e.Severity)+": "+e.Message+"; "+e.Reason, "; ")
}

func TestASwitchoverIsPlanned(t *testing.T) {
	rec, obs := plannedFor(t, "b")
	if p := rec.Planned; p == nil || p.To != "b" || p.From != "a" || p.By != "ann" || !p.At.Equal(ten) || !p.Set.Equal(nine) {
		t.Errorf("%+v", rec.Planned)
	}
	if got, want := lastEvent(rec), "planned info: a switchover is planned for 2026-01-31T10:00:00Z; by ann"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s := reconcile.StatusOf(rec, obs, reconcile.Diff(rec.Spec, rec, obs), reconcile.RaftStatus{})
	if s.Planned == nil || s.Planned.To != "b" || !s.Converged {
		t.Errorf("status: planned %+v, converged %v", s.Planned, s.Converged)
	}
}

func TestWhatCannotBePlanned(t *testing.T) {
	w := settled(t, "a b c(priority=0) w(witness)")
	lost := *w.Record
	open(&lost)
	for _, rule := range []struct {
		name    string
		rec     *reconcile.Record
		cmd     reconcile.Command
		because string
	}{
		{"the past", w.Record, planFor("b", nine, time.Time{}), "is past: name a time in the future"},
		{"the far future", w.Record, planFor("b", nine.Add(7*24*time.Hour+time.Second), time.Time{}), "more than 7 days ahead"},
		{"a node that does not exist", w.Record, planFor("x", ten, time.Time{}), "there is no node"},
		{"the primary itself", w.Record, planFor("a", ten, time.Time{}), "is the primary already"},
		{"a node of priority 0", w.Record, planFor("c", ten, time.Time{}), "priority of node c is 0"},
		{"a witness", w.Record, planFor("w", ten, time.Time{}), "is a witness"},
		{"anything while there is no primary", &lost, planFor("b", ten, time.Time{}), "has no primary now"},
		{"in the place of one that is none", w.Record, planFor("b", ten, nine), "moved on"},
		{"cancelling what is not there", w.Record, reconcile.Command{Planned: &reconcile.SetPlanned{}}, "no switchover is planned"},
		{"beginning what is not there", w.Record, reconcile.Command{Open: &reconcile.Open{
			Term: w.Record.Term, Opening: reconcile.Opening{Cause: reconcile.OpenSwitchover, Deposed: "a"}, Planned: nine,
		}}, "moved on"},
	} {
		t.Run(rule.name, func(t *testing.T) { refused(t, rule.rec, rule.cmd, rule.because) })
	}
}

func TestAPlannedSwitchoverIsReplacedOrCancelled(t *testing.T) {
	rec, _ := plannedFor(t, "b")
	refused(t, rec, planFor("c", ten, time.Time{}), "moved on")

	replace := planFor("c", ten.Add(time.Hour), rec.Planned.Set)
	replace.At = nine.Add(time.Minute)
	later := apply(t, rec, replace)
	if later.Planned.To != "c" || !strings.Contains(lastEvent(later), "in the place of the switchover to b planned for 2026-01-31T10:00:00Z") {
		t.Errorf("%+v: %s", later.Planned, lastEvent(later))
	}
	refused(t, later, reconcile.Command{By: "bob", Planned: rec.Planned.Forget("")}, "moved on")

	none := apply(t, later, reconcile.Command{By: "bob", Planned: later.Planned.Forget("")})
	want := "planned info: the switchover to c planned for 2026-01-31T11:00:00Z is cancelled; by bob"
	if none.Planned != nil || lastEvent(none) != want {
		t.Errorf("%+v: %s", none.Planned, lastEvent(none))
	}
}

func TestAPlannedSwitchoverIsBegunOnce(t *testing.T) {
	rec, obs := plannedFor(t, "c")
	if due := reconcile.DueOf(rec, obs, ten.Add(-time.Nanosecond)); due != (reconcile.Due{}) {
		t.Fatalf("before its time: %+v", due)
	}
	due := reconcile.DueOf(rec, obs, ten)
	if due.Open == nil || due.Drop != nil {
		t.Fatalf("at its time: %+v", due)
	}
	begin := reconcile.Command{At: ten, By: "b", Open: due.Open}
	begun := apply(t, rec, begin)
	o := begun.Opening
	if begun.Planned != nil || o == nil || o.Cause != reconcile.OpenSwitchover || o.Target != "c" || !o.Stopping || o.By != "ann" {
		t.Errorf("planned %+v, opening %+v", begun.Planned, o)
	}
	if got, want := lastEvent(begun), "failover info: term 2 is open: node a hands over; it was planned for 2026-01-31T10:00:00Z"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	refused(t, begun, begin, "moved on")
	if due := reconcile.DueOf(begun, obs, ten); due != (reconcile.Due{}) {
		t.Errorf("again: %+v", due)
	}
}

func TestALeaderThatDoesNotKnowOfACancellationBeginsNothing(t *testing.T) {
	rec, obs := plannedFor(t, "c")
	due := reconcile.DueOf(rec, obs, ten)
	none := apply(t, rec, reconcile.Command{By: "bob", Planned: rec.Planned.Forget("")})
	_, err := reconcile.Transition(none, reconcile.Command{At: ten, Open: due.Open})
	if !errors.Is(err, reconcile.ErrStale) {
		t.Errorf("got %v", err)
	}
}

func TestWhatBecomesOfAPlannedSwitchover(t *testing.T) {
	for _, rule := range []struct {
		name, to, seen string
		late           time.Duration
		prepare        func(*reconcile.Record)
		// dropped is why it is not begun; empty when it is.
		dropped string
	}{
		{name: "it is begun"},
		{name: "it is begun when a leader is found shortly after", late: reconcile.PlannedGrace},
		{
			name: "it is dropped when a leader is found long after", late: reconcile.PlannedGrace + 1,
			dropped: "nobody led the cluster at that time, nor in the 5m0s after it",
		},
		{name: "without its node it is dropped", to: "b", seen: "b silent", dropped: "node b cannot become the primary: its ramd does not answer"},
		{name: "a primary that does not answer", seen: "a silent", dropped: "the primary a does not answer, and has to help in a switchover"},
		{name: "while paused nothing is begun, now or later", prepare: paused, dropped: "the cluster is paused by ann"},
		{name: "a term that is open already", prepare: open, dropped: "is open and has no primary"},
		{name: "there is another primary already", prepare: taken, dropped: "node b is the primary since, and no longer a"},
		{name: "the node that was asked for is the primary already", to: "b", prepare: taken, dropped: "node b is the primary already"},
		{name: "from another primary to the node that was asked for", to: "c", prepare: taken},
	} {
		t.Run(rule.name, func(t *testing.T) {
			w := settled(t, "a b c")
			rec := *apply(t, w.Record, planFor(rule.to, ten, time.Time{}))
			if rule.prepare != nil {
				rule.prepare(&rec)
			}
			due := reconcile.DueOf(&rec, seen(t, w, rule.seen), ten.Add(rule.late))
			if rule.dropped == "" {
				if due.Open == nil || due.Drop != nil {
					t.Fatalf("it is not begun: %+v", due.Drop)
				}
				return
			}
			if due.Open != nil || due.Drop == nil || !strings.Contains(due.Drop.Dropped, rule.dropped) {
				t.Fatalf("%+v", due)
			}
			none := apply(t, &rec, reconcile.Command{At: ten, By: "b", Planned: due.Drop})
			if got := lastEvent(none); none.Planned != nil || !strings.HasPrefix(got, "planned warning: the switchover") || !strings.Contains(got, "is dropped; "+due.Drop.Dropped) {
				t.Errorf("%+v: %s", none.Planned, got)
			}
		})
	}
}

// taken is that b has become the primary since.
func taken(rec *reconcile.Record) {
	rec.Primary, rec.Term = "b", rec.Term+2
	rec.Sync = reconcile.SyncState{Current: reconcile.SyncSet{K: 1, Members: []string{"c"}}}
}

func TestAPreflightForLaterWarnsOfWhatIsWrongNow(t *testing.T) {
	w := settled(t, "a b c")
	p := reconcile.PreflightAt(w.Record, seen(t, w, "b silent"), "b", ten, nine)
	if p.Refused() || len(p.Warnings) != 1 || !strings.HasPrefix(p.Warnings[0], "it would be refused if it began now: node b cannot become the primary") {
		t.Errorf("%+v", p)
	}
	p = reconcile.PreflightAt(w.Record, seen(t, w, ""), "x", ten, nine)
	if !p.Refused() || len(p.Warnings) != 0 || !strings.HasPrefix(p.Refusals[0], "there is no node") {
		t.Errorf("%+v", p)
	}
	rec, obs := plannedFor(t, "b")
	p = reconcile.PreflightAt(rec, obs, "c", ten, nine)
	if p.Refused() || p.To != "c" || !p.At.Equal(ten) || len(p.Warnings) != 1 || p.Warnings[0] != "the switchover to b planned for 2026-01-31T10:00:00Z is replaced" {
		t.Errorf("%+v", p)
	}
}
