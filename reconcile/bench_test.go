package reconcile_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/sim"
)

// BenchmarkDiff plans clusters of 10, 100 and 1,000 nodes of which all but the
// first two are of priority 0, so that they keep no slots, or, with mesh, each
// may become primary and keeps a slot for every other.
func BenchmarkDiff(b *testing.B) {
	for _, nodes := range []int{10, 100, 1000} {
		for _, shape := range []string{"star", "mesh"} {
			spec, changed := manyNodes(nodes, shape, ""), manyNodes(nodes, shape, "; max_connections=500")
			for _, state := range []string{"fresh", "converged", "changed"} {
				b.Run(fmt.Sprintf("nodes=%d/%s/%s", nodes, shape, state), func(b *testing.B) {
					want := mustSpec(b, spec)
					var w *sim.World
					if state == "fresh" {
						w = sim.New(1, want)
						w.Turns(1)
					} else {
						w = sim.Converged(want)
					}
					if state == "changed" {
						want = mustSpec(b, changed)
					}
					rec, obs := stored(b, w.Record), w.Observed()
					for b.Loop() {
						reconcile.Diff(want, rec, obs)
					}
				})
			}
		}
	}
}

func manyNodes(n int, shape, clauses string) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("node%04d", i)
		if i > 1 && shape == "star" {
			names[i] += "(priority=0)"
		}
	}
	return strings.Join(names, " ") + clauses
}

// stored is the record as it comes back from disk, where nothing is shared.
func stored(b *testing.B, rec *reconcile.Record) *reconcile.Record {
	text, err := json.Marshal(rec)
	if err != nil {
		b.Fatal(err)
	}
	again := &reconcile.Record{}
	if err := json.Unmarshal(text, again); err != nil {
		b.Fatal(err)
	}
	return again
}
