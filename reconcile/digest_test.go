package reconcile_test

import (
	"testing"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/sim"
	"github.com/ramhq/ram/spec"
)

func mustSpec(t testing.TB, text string) *spec.Cluster {
	t.Helper()
	c, err := sim.ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// settled is a world in which the spec has converged.
func settled(t testing.TB, text string) *sim.World {
	t.Helper()
	c := mustSpec(t, text)
	w := sim.New(1, c)
	if err := w.Accept(c); err != nil {
		t.Fatal(err)
	}
	if err := w.Settle(200); err != nil {
		t.Fatal(err)
	}
	return w
}

func seen(t testing.TB, w *sim.World, text string) reconcile.Observed {
	t.Helper()
	obs, err := w.See(text)
	if err != nil {
		t.Fatal(err)
	}
	return obs
}

func TestAPlanIsStaleWhenWhatItDependsOnHasMovedOn(t *testing.T) {
	w := settled(t, "a b c")
	digest := func(text string) string {
		return reconcile.Diff(w.Record.Spec, w.Record, seen(t, w, text)).Base.Observed
	}
	before := digest("")
	for _, moved := range []string{
		"b silent", "b silent 1m", "b unheard", "b stopped", "b hung", "c absent", "c foreign", "c other-system", "b idle",
		"b outlived", "b branched", "a runs max_connections=50", "a runs port=1", "b pending work_mem", "b drift work_mem",
		"b problem no space", "b unwritten", "b unsettled", "a slot-lost b", "a slot-dropped b", "b retired",
	} {
		if digest(moved) == before {
			t.Errorf("%s: the plan would still be applied", moved)
		}
	}
	for _, same := range []string{"a lsn 9/0", "b lsn 8/0"} {
		if digest(same) != before {
			t.Errorf("%s: the plan would be refused", same)
		}
	}
	if digest("b problem one") != digest("b problem two") {
		t.Error("the words of a problem make a plan stale")
	}
	w.Turns(3)
	if digest("") != before {
		t.Error("time alone makes a plan stale")
	}
	// The leader's own report is not sent to it; another leader gets it in JSON.
	obs := seen(t, w, "")
	v := obs.Nodes["a"]
	v.Report.Server.PendingRestart, v.Report.Drift = []string{}, []reconcile.Drift{}
	obs.Nodes["a"] = v
	if reconcile.Diff(w.Record.Spec, w.Record, obs).Base.Observed != before {
		t.Error("another leader makes a plan stale")
	}
}
