package sim_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/sim"
	"github.com/ramhq/ram/spec"
)

var seeds = flag.Int("seeds", 12, "how many seeds each property is tried with")

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
				t.Fatalf("predicted (-) and shown (+):\n%s\n%s", diff, w.Transcript(80))
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

// Serials are bounded by what was asked for and what went wrong: a leader that
// issues assignments in circles fails here.
func TestFaultsAtAnyMomentLeaveNothingBehind(t *testing.T) {
	const changes, faults = 4, 12
	forSeeds(t, func(t *testing.T, seed uint64) {
		g := sim.NewGenerator(seed)
		c := g.Spec(1 + int(seed%12))
		w := sim.New(seed, c)
		w.Informed = seed%2 == 0
		for range changes {
			accept(t, w, c)
			if err := w.Chaos(400, faults); err != nil {
				t.Fatal(err)
			}
			settle(t, w)
			c = g.Change(c, w.Record.Primary)
		}
		perNode := w.Serials() / uint64(len(w.Record.Assignments))
		if limit := uint64(changes*8 + changes*faults); perNode > limit {
			t.Errorf("%d assignments for each node", perNode)
		}
	})
}

// Each fault strikes each host before each event of a rolling change with a
// node that comes and one that goes.
func TestAFaultBeforeAnyEvent(t *testing.T) {
	for _, f := range []sim.Fault{sim.RamdDies, sim.ServerDies, sim.HostDies, sim.LeaderMoves, sim.DataWiped, sim.SlotDropped} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			for at := 0; at < 24; at += 3 {
				for _, node := range []string{"a", "b", "c", "d", "e"} {
					strike(t, f, node, at)
				}
			}
		})
	}
}

func strike(t *testing.T, f sim.Fault, node string, at int) {
	t.Helper()
	w := begin(t, "a b c d; max_connections=300")
	accept(t, w, parse(t, "a b(port=5433) c e(id=5); max_worker_processes=64; k=2"))
	w.Turns(at / 2)
	if at%2 == 1 {
		w.HalfTurn()
	}
	w.Break(f, node)
	if err := w.Settle(turns); err != nil {
		t.Fatalf("%s strikes %s after %d: %v", f, node, at, err)
	}
}

func parse(t *testing.T, text string) *spec.Cluster {
	t.Helper()
	c, err := sim.ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// begin is a world in which the spec has converged.
func begin(t *testing.T, text string) *sim.World {
	t.Helper()
	c := parse(t, text)
	w := sim.New(1, c)
	accept(t, w, c)
	settle(t, w)
	return w
}

func TestAPausedClusterDecidesNothing(t *testing.T) {
	w := begin(t, "a b c")
	w.Pause(true)
	accept(t, w, parse(t, "a b c; max_connections=300"))
	serials, runs := w.Serials(), w.Record.LastRun
	w.Break(sim.ServerDies, "b")
	w.Turns(40)
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	if w.Serials() != serials || w.Record.LastRun != runs {
		t.Errorf("serials %d, then %d; run %d, then %d", serials, w.Serials(), runs, w.Record.LastRun)
	}
	w.Pause(false)
	settle(t, w)
	if w.Serials() == serials {
		t.Error("nothing happened after it was resumed")
	}
}

func TestDataOfAnotherClusterIsNeverTouched(t *testing.T) {
	for _, state := range []pg.DirState{pg.DirCluster, pg.DirForeign} {
		w := begin(t, "a b c d")
		w.Occupy("c", state, 999)
		w.Turns(60)
		accept(t, w, parse(t, "a b d(id=4); max_connections=300"))
		w.Turns(120)
		if err := w.Err(); err != nil {
			t.Fatal(err)
		}
		if !w.Foreign("c", state, 999) {
			t.Errorf("%s: something was done to it", state)
		}
		if _, member := w.Record.Members["c"]; member {
			t.Errorf("%s: c does not leave: %s", state, w.Unfinished())
		}
	}
}

func TestANodeThatLeftComesBack(t *testing.T) {
	w := begin(t, "a b c")
	for range 6 { // its agent remembers serials that are higher than those of its next life
		accept(t, w, parse(t, "a b c; work_mem=1MB"))
		settle(t, w)
		accept(t, w, parse(t, "a b c"))
		settle(t, w)
	}
	for range 3 {
		accept(t, w, parse(t, "a b"))
		settle(t, w)
		if ids := w.SystemIDs(); len(ids) != 2 {
			t.Fatalf("data left: %v", ids)
		}
		accept(t, w, parse(t, "a b c"))
		settle(t, w)
		if ids := w.SystemIDs(); ids["c"] != ids["a"] {
			t.Fatalf("data: %v", ids)
		}
	}
}

func TestAWipedRamdFindsItsPostgreSQLAgain(t *testing.T) {
	w := begin(t, "a b c")
	for _, node := range []string{"c", "b", "a"} {
		w.Break(sim.RamdWiped, node)
		settle(t, w)
	}
	if slices.ContainsFunc(w.Seen, func(id string) bool { return strings.HasPrefix(id, "clone/") && id != "clone/b" && id != "clone/c" }) {
		t.Errorf("seen %v", w.Seen)
	}
}

func TestAStandbyPromotedByHandIsCopiedAnew(t *testing.T) {
	w := begin(t, "a b c")
	w.Break(sim.Promoted, "b")
	settle(t, w)
	if !slices.Contains(w.Seen, "clone/b") {
		t.Errorf("seen %v", w.Seen)
	}
}

func TestAHostThatIsGoneForGoodLeavesInTheEnd(t *testing.T) {
	w := begin(t, "a b c d")
	w.Break(sim.HostDies, "d")
	accept(t, w, parse(t, "a b c"))
	w.Turns(100)
	if _, member := w.Record.Members["d"]; !member {
		t.Fatal("d was given up after 10 seconds")
	}
	w.Break(sim.LeaderMoves, "a")
	w.Turns(310)
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	if _, member := w.Record.Members["d"]; member {
		t.Errorf("d is never given up: %s", w.Unfinished())
	}
}

func TestTheSameSeedIsTheSameWorld(t *testing.T) {
	var texts []string
	for range 2 {
		c := sim.NewGenerator(5).Spec(6)
		w := sim.New(5, c)
		accept(t, w, c)
		if err := w.Chaos(600, 20); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, w.Transcript(100000))
	}
	if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
		t.Error(diff)
	}
}
