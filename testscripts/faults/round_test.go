package faults

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundIsItsSeed(t *testing.T) {
	different := map[string]bool{}
	for seed := range uint64(200) {
		round := NewRound(seed)
		if diff := cmp.Diff(round.String(), NewRound(seed).String()); diff != "" {
			t.Errorf("seed %d, twice (-one +other):\n%s", seed, diff)
		}
		for _, f := range round.Faults {
			different[f.kind.name] = true
		}
	}
	if len(different) != len(kinds) {
		t.Errorf("200 seeds use %d sorts of faults of %d", len(different), len(kinds))
	}
}
