package sim_test

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/sim"
	"github.com/ramhq/ram/spec"
)

var seeds = flag.Int("seeds", 24, "how many seeds each property is tried with")

// turns is how many turns a cluster may take to converge. A turn is 100 ms of
// the simulated world; a rolling restart takes some four per node.
const turns = 400

// forSeeds runs a property for every seed; a failing one is run again with
// -run 'TestX/seed=N'.
func forSeeds(t *testing.T, property func(t *testing.T, seed uint64)) {
	t.Helper()
	for seed := range uint64(*seeds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			property(t, seed)
		})
	}
}

// converged is a random cluster that has converged, and what makes changes to it.
func converged(t *testing.T, seed uint64) (*sim.World, *sim.Generator, *spec.Cluster) {
	t.Helper()
	g := sim.NewGenerator(seed)
	c := g.Spec(1 + int(seed%12))
	w := sim.New(seed, c)
	accept(t, w, c)
	settle(t, w)
	return w, g, c
}

func accept(t *testing.T, w *sim.World, c *spec.Cluster) {
	t.Helper()
	if err := w.Accept(c); err != nil {
		t.Fatal(err)
	}
}

func settle(t *testing.T, w *sim.World) {
	t.Helper()
	if err := w.Settle(turns); err != nil {
		t.Fatal(err)
	}
	w.CheckReplay()
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestEveryClusterConvergesFromNothing(t *testing.T) {
	forSeeds(t, func(t *testing.T, seed uint64) { converged(t, seed) })
}

func TestEveryChangeConverges(t *testing.T) {
	forSeeds(t, func(t *testing.T, seed uint64) {
		w, g, c := converged(t, seed)
		for range 4 {
			c = change(t, w, g, c)
			settle(t, w)
		}
	})
}

func change(t *testing.T, w *sim.World, g *sim.Generator, c *spec.Cluster) *spec.Cluster {
	t.Helper()
	next := g.Change(c, w.Record.Primary)
	accept(t, w, next)
	return next
}

func TestAPlanPredictsWhatItsRunShows(t *testing.T) {
	forSeeds(t, func(t *testing.T, seed uint64) {
		w, g, c := converged(t, seed)
		for range 4 {
			next := g.Change(c, w.Record.Primary)
			plan := reconcile.Diff(next, w.Record, w.Observed())
			accept(t, w, next)
			settle(t, w)
			predicted := told(reconcile.RunSteps(plan))
			shown := foretold(w.Seen)
			if diff := cmp.Diff(predicted, shown); diff != "" {
				t.Fatalf("predicted (-) and shown (+):\n%s\n%s", diff, w.Transcript(200))
			}
			c = next
		}
	})
}

func told(steps []reconcile.RunStep) []string {
	var ids []string
	for _, s := range steps {
		ids = append(ids, s.ID)
	}
	return foretold(ids)
}

// foretold are the steps that matter to an operator: restarts in their order,
// then copies and departures.
func foretold(ids []string) []string {
	var restarts, others []string
	for _, id := range ids {
		kind, _, _ := strings.Cut(id, "/")
		switch reconcile.StepKind(kind) {
		case reconcile.StepRestart:
			restarts = append(restarts, id)
		case reconcile.StepClone, reconcile.StepRetire, reconcile.StepLeave, reconcile.StepInit:
			others = append(others, id)
		}
	}
	slices.Sort(others)
	return slices.Concat(restarts, others)
}

func TestFaultsAtAnyMomentLeaveNothingBehind(t *testing.T) {
	forSeeds(t, func(t *testing.T, seed uint64) {
		g := sim.NewGenerator(seed)
		c := g.Spec(1 + int(seed%12))
		w := sim.New(seed, c)
		w.Informed = seed%2 == 0
		for range 4 {
			if err := w.Accept(c); err != nil {
				t.Fatal(err)
			}
			if err := w.Chaos(400, 12); err != nil {
				t.Fatal(err)
			}
			if err := w.Settle(turns); err != nil && !errors.Is(err, sim.ErrStuck) {
				t.Fatal(err)
			} else if err != nil {
				t.Fatal(err)
			}
			c = g.Change(c, w.Record.Primary)
		}
		w.CheckReplay()
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
	})
}
