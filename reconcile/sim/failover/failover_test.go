package failover_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/ramhq/ram/reconcile/sim"
	"github.com/ramhq/ram/reconcile/sim/failover"
	"github.com/ramhq/ram/spec"
)

// seeds is how many schedules are tried: RAM_SIM_SEEDS, or two thousand.
func seeds(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("RAM_SIM_SEEDS")
	if text == "" {
		return 2000
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatalf("RAM_SIM_SEEDS=%s: %v", text, err)
	}
	return n
}

// clusters are the specs that schedules take turns with.
var clusters = []string{
	"a b c",
	"a b c d; k=2",
	"a b c d e; k=2",
	"a b w(witness)",
	"a b c; async",
	"a b c d e; async",
	"a b c d e; k=1",
	"a b c(priority=0) d",
}

func cluster(t *testing.T, seed uint64) *spec.Cluster {
	t.Helper()
	return parse(t, clusters[seed%uint64(len(clusters))])
}

// parse reads a spec in one line, with a short lease.
func parse(t *testing.T, text string) *spec.Cluster {
	t.Helper()
	c, err := sim.ParseSpec(text)
	if err != nil {
		t.Fatal(err)
	}
	c.Failover.Detect, c.Failover.Lease = spec.Duration(300*time.Millisecond), spec.Duration(time.Second)
	return c
}

// ticks are those of the time with faults; a tick is 10 ms.
const ticks, patience = 1200, 6000

func try(t *testing.T, seed uint64, m failover.Mutation) error {
	t.Helper()
	w := failover.New(seed, failover.Options{Spec: cluster(t, seed), Mutation: m})
	if err := w.Settle(patience); err != nil {
		return fmt.Errorf("at first: %w", err)
	}
	w.Unguarded(seed%3 == 0)
	defer func() { t.Log(w.Counts()) }()
	for range 2 {
		if err := w.Run(ticks, 25); err != nil {
			return err
		}
		if err := w.Settle(patience); err != nil {
			return err
		}
	}
	return nil
}

func TestNoScheduleBreaksARule(t *testing.T) {
	for seed := range seeds(t) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			if err := try(t, seed, failover.Mutation{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}
