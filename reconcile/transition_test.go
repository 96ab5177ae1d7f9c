package reconcile_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
)

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// refused applies a command that must not be accepted, and checks that it
// changed nothing.
func refused(t *testing.T, rec *reconcile.Record, cmd reconcile.Command, because string) {
	t.Helper()
	before := asJSON(t, rec)
	next, err := reconcile.Transition(rec, cmd)
	if err == nil || !strings.Contains(err.Error(), because) {
		t.Errorf("got %v, want one that says %q", err, because)
	}
	if next != rec || asJSON(t, rec) != before {
		t.Errorf("a refused command changed the record")
	}
}

func advance(e reconcile.Effect) reconcile.Command {
	return reconcile.Command{Advance: &reconcile.Advance{Step: "x", Effect: e}}
}

func TestCommandsAreRefused(t *testing.T) {
	w := settled(t, "a b c w(witness)")
	rec := w.Record
	serial := rec.Assignments["b"].Serial
	next := func(serial uint64) []reconcile.Assign {
		return []reconcile.Assign{{Node: "b", Assignment: reconcile.Assignment{Serial: serial, Node: "b"}}}
	}
	two := reconcile.SyncSet{K: 2, Members: []string{"b", "c"}}
	for _, rule := range []struct {
		name    string
		cmd     reconcile.Command
		because string
	}{
		{"empty", reconcile.Command{}, "empty"},
		{"forming it again", reconcile.Command{Form: &reconcile.Form{}}, "already been formed"},
		{"accepting nothing", reconcile.Command{Accept: &reconcile.Accept{Base: 1}}, "no spec"},
		{"accepting what was made from another revision", reconcile.Command{Accept: &reconcile.Accept{Base: 7, Spec: rec.Spec}}, "moved on"},
		{"accepting another cluster's spec", reconcile.Command{Accept: &reconcile.Accept{Base: 1, Spec: mustSpec(t, "a; name=other")}}, "other"},
		{"admitting nobody", reconcile.Command{Admit: &reconcile.Admit{}}, "needs a name"},
		{"a step of another revision", advance(reconcile.Effect{Revision: 9}), "moved on"},
		{"an assignment that skips a serial", advance(reconcile.Effect{Revision: 1, Assign: next(serial + 2)}), "moved on"},
		{"an assignment that repeats one", advance(reconcile.Effect{Revision: 1, Assign: next(serial)}), "moved on"},
		{"an assignment for a stranger", advance(reconcile.Effect{Revision: 1, Assign: []reconcile.Assign{{Node: "z", Assignment: reconcile.Assignment{Serial: 1}}}}), "not a member"},
		{"a term that does not follow", advance(reconcile.Effect{Revision: 1, Grant: &reconcile.Grant{Node: "b", Term: 9}}), "moved on"},
		{"another system identifier", advance(reconcile.Effect{Revision: 1, Identify: 9}), "already"},
		{"settling a sync set that nobody announced", advance(reconcile.Effect{Revision: 1, Settle: true}), "moved on"},
		{"restarting a stranger", reconcile.Command{Ask: &reconcile.Ask{Cause: reconcile.CauseRestart, Nodes: []string{"z"}}}, "not a member"},
		{"restarting a witness", reconcile.Command{Ask: &reconcile.Ask{Cause: reconcile.CauseRestart, Nodes: []string{"w"}}}, "holds no data"},
		{"a new copy of the primary", reconcile.Command{Ask: &reconcile.Ask{Cause: reconcile.CauseReinit, Nodes: []string{"a"}}}, "is the primary"},
		{"a wish that nobody can have", reconcile.Command{Ask: &reconcile.Ask{Cause: "dance", Nodes: []string{"b"}}}, "dance"},
		{"progress of another run", reconcile.Command{Progress: &reconcile.Progress{Run: 99}}, "moved on"},
	} {
		t.Run(rule.name, func(t *testing.T) { refused(t, rec, rule.cmd, rule.because) })
	}
	t.Run("anything before the cluster is formed", func(t *testing.T) {
		refused(t, &reconcile.Record{}, reconcile.Command{Hold: &reconcile.Hold{}}, "not been formed")
	})
	t.Run("a sync set that is in force when another is coming", func(t *testing.T) {
		coming, err := reconcile.Transition(rec, advance(reconcile.Effect{Revision: 1, Sync: &two}))
		if err != nil {
			t.Fatal(err)
		}
		refused(t, coming, advance(reconcile.Effect{Revision: 1, Settle: true, Sync: &reconcile.SyncSet{K: 1}}), "not the next")
	})
	t.Run("a step while paused", func(t *testing.T) {
		paused, err := reconcile.Transition(rec, reconcile.Command{Pause: &reconcile.SetPause{Paused: true}})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, paused, advance(reconcile.Effect{Revision: 1}), "paused")
	})
}

func TestAStaleCommandIsErrStale(t *testing.T) {
	w := settled(t, "a b")
	_, err := reconcile.Transition(w.Record, reconcile.Command{Accept: &reconcile.Accept{Base: 7, Spec: w.Record.Spec}})
	if !errors.Is(err, reconcile.ErrStale) {
		t.Errorf("got %v", err)
	}
}

func TestAcceptingTheSameSpecMakesNoRevision(t *testing.T) {
	w := settled(t, "a b")
	next, err := reconcile.Transition(w.Record, reconcile.Command{Accept: &reconcile.Accept{Base: 1, Spec: mustSpec(t, "a b")}})
	if err != nil || next.Revision != 1 || len(next.History) != 1 {
		t.Errorf("revision %d, %d in history, %v", next.Revision, len(next.History), err)
	}
}

func TestGoingBackMakesARevisionOfItsOwn(t *testing.T) {
	w := settled(t, "a b")
	for _, text := range []string{"a b; work_mem=1MB", "a b"} {
		if err := w.Accept(mustSpec(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	rec := w.Record
	if rec.Revision != 3 || rec.History[0].Digest != rec.History[2].Digest {
		t.Errorf("revision %d, history %+v", rec.Revision, rec.History)
	}
	if rec.Run == nil || rec.Run.Revision != 2 {
		t.Errorf("nothing is left to do, and what was begun for revision 2 has to be seen to its end: %+v", rec.Run)
	}
}

func TestALaterRunSupersedesTheOneUnderWay(t *testing.T) {
	w := settled(t, "a b")
	for _, text := range []string{"a b; work_mem=1MB", "a b; work_mem=2MB"} {
		if err := w.Accept(mustSpec(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	old := w.Record.Runs[len(w.Record.Runs)-1]
	if old.State != reconcile.RunSuperseded || old.Revision != 2 || w.Record.Run.Revision != 3 {
		t.Errorf("%+v, then %+v", old, w.Record.Run)
	}
}

func TestWishesEndWhenTheyAreGranted(t *testing.T) {
	w := settled(t, "a b c")
	for _, cause := range []reconcile.Cause{reconcile.CauseRestart, reconcile.CauseReload, reconcile.CauseReinit} {
		if err := w.Ask(cause, "c"); err != nil {
			t.Fatal(err)
		}
		if err := w.Settle(200); err != nil {
			t.Fatal(err)
		}
		if len(w.Record.Wishes) != 0 {
			t.Errorf("%s: left %+v", cause, w.Record.Wishes)
		}
		kind := map[reconcile.Cause]string{reconcile.CauseRestart: "restart/c", reconcile.CauseReload: "configure/c", reconcile.CauseReinit: "clone/c"}[cause]
		if !slices.Contains(w.Seen, kind) {
			t.Errorf("%s: seen %v", cause, w.Seen)
		}
	}
}

func TestTheRecordIsBounded(t *testing.T) {
	w := settled(t, "a b")
	rec := w.Record
	for i := range 1200 {
		var err error
		rec, err = reconcile.Transition(rec, reconcile.Command{Pause: &reconcile.SetPause{Paused: i%2 == 0}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(rec.Events) != 1000 || rec.Events[999].Seq != rec.LastEvent {
		t.Errorf("%d events, last %d of %d", len(rec.Events), rec.Events[999].Seq, rec.LastEvent)
	}
}

func TestCommandsSurviveTheLog(t *testing.T) {
	cmd := reconcile.Command{
		At: time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC), By: "someone",
		Accept: &reconcile.Accept{Spec: mustSpec(t, "a b; work_mem=1MB"), Base: 3, Cause: reconcile.CauseApply},
	}
	b, err := reconcile.EncodeCommand(cmd)
	if err != nil {
		t.Fatal(err)
	}
	got, err := reconcile.DecodeCommand(b)
	cmd.Format = reconcile.CommandFormat
	if diff := cmp.Diff(cmd, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if _, err := reconcile.DecodeCommand([]byte(`{"format":99}`)); !errors.Is(err, reconcile.ErrNewerCommand) {
		t.Errorf("a newer command: %v", err)
	}
	if _, err := reconcile.DecodeCommand([]byte(`{`)); err == nil {
		t.Error("half a command was read")
	}
}

func TestASyncSetThatIsReplacedBeforeItIsInForceGoesOnCounting(t *testing.T) {
	w := settled(t, "a b c w(witness)")
	fresh := *w.Record
	fresh.Sync = reconcile.SyncState{}
	rec := &fresh
	first, second := reconcile.SyncSet{K: 1, Members: []string{"b", "c"}}, reconcile.SyncSet{K: 1, Members: []string{"b"}}
	for _, effect := range []reconcile.Effect{{Revision: 1, Sync: &first}, {Revision: 1, Sync: &second}} {
		next, err := reconcile.Transition(rec, advance(effect))
		if err != nil {
			t.Fatal(err)
		}
		rec = next
	}
	if diff := cmp.Diff([]reconcile.SyncSet{{}, first, second}, rec.Sync.Sets()); diff != "" {
		t.Errorf("sets that count (-want +got):\n%s", diff)
	}
	rec, err := reconcile.Transition(rec, advance(reconcile.Effect{Revision: 1, Sync: &second, Settle: true}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]reconcile.SyncSet{second}, rec.Sync.Sets()); diff != "" {
		t.Errorf("sets that count when it is in force (-want +got):\n%s", diff)
	}
}
