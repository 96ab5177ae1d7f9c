package failover_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/sim/failover"
)

// everybodyPromised shows nodes that answer as if they had disconnected.
func everybodyPromised(rec *reconcile.Record, obs *reconcile.Observed) {
	for name, v := range obs.Nodes {
		a := rec.Assignments[name]
		if rec.Opening != nil && a.Frozen() && v.Report.Server.Recovery {
			v.Report.Serial, v.Report.Loaded, v.Report.Settled, v.Report.Server.WALComplete = a.Serial, a.Serial, a.Serial, true
			obs.Nodes[name] = v
		}
	}
}

// lostCopiesCount shows nodes whose data directory is gone as standbys that have promised.
func lostCopiesCount(rec *reconcile.Record, obs *reconcile.Observed) {
	for name, v := range obs.Nodes {
		if rec.Opening != nil && rec.Assignments[name].Frozen() && v.Report.Data.State == pg.DirAbsent {
			v.Report.Data = pg.DataDirectory{State: pg.DirCluster, SystemID: rec.SystemID}
			v.Report.Server = pg.Server{State: pg.ServerRunning, Recovery: true}
			obs.Nodes[name] = v
		}
	}
	everybodyPromised(rec, obs)
}

// mutations are rules that are bent, and what is to be found within so many seeds.
var mutations = []struct {
	rule string
	bend failover.Mutation
	// on is the cluster, finds how what is found begins, or a word of it, seeds how
	// many schedules it may take.
	on, finds string
	seeds     uint64
}{
	{"a promise is not waited for", failover.Mutation{Observed: everybodyPromised}, "a b c d e; k=2", "S2", 300},
	{"a copy that is lost counts", failover.Mutation{Observed: lostCopiesCount}, "a b c d", "S2", 300},
	{"one promise is enough", failover.Mutation{Record: func(r *reconcile.Record) {
		r.Sync.Current.K = max(r.Sync.Current.K, len(r.Sync.Current.Members)*min(1, r.Sync.Current.K))
	}}, "a b c d", "S2", 300},
	{"one promise fewer is enough", failover.Mutation{Record: func(r *reconcile.Record) {
		if r.Opening != nil && r.Sync.Current.K > 0 {
			r.Sync.Current.K++
		}
	}}, "a b c d e; k=2", "S2", 300},
	{"only the set that is to come counts", failover.Mutation{Record: func(r *reconcile.Record) {
		if r.Opening != nil {
			r.Sync = reconcile.SyncState{Current: r.Sync.Target(), Former: r.Sync.Former}
		}
	}}, "a b c d; k=2", "S2", 300},
	{"earlier terms' sets are forgotten", failover.Mutation{Transition: func(r *reconcile.Record) { r.Sync.Former = nil }}, "a b c d", "S2", 300},
	{"a set counts alone before the checkpointer has read it", failover.Mutation{NoCheckpoint: true}, "a b c", "S2", 300},
	{"an agent begins with what it remembers", failover.Mutation{Remembers: true}, "a b c; async", "S", 300},
	{"the position is told from before the promise", failover.Mutation{PositionBeforeFreeze: true}, "a b c", "S2", 300},
	{"a promotion begins whatever timeline comes next", failover.Mutation{AnyTimeline: true}, "a b c d; async", "timeline", 300},
	{"a server is called dead before all of it is", failover.Mutation{DeadEarly: true}, "a b c; async", "S", 300},
	{"the lease is not waited for", failover.Mutation{Observed: func(_ *reconcile.Record, obs *reconcile.Observed) {
		obs.Pulse.Barred = 1 << 40
	}}, "a b c; async", "S", 300},
}

// hunt is try without patience for worlds that do not become whole: it looks for what
// is lost.
func hunt(t *testing.T, seed uint64, on string, m failover.Mutation) error {
	t.Helper()
	w := failover.New(seed, failover.Options{Spec: parse(t, on), Mutation: m})
	_ = w.Settle(200) // a bent rule may keep it from that
	for range 3 {
		if err := w.Run(600, 60); err != nil {
			return err
		}
		if err := w.Settle(250); err != nil && w.Err() != nil {
			return err
		}
	}
	return nil
}

// A world that finds nothing shows nothing: each of the rules, when it is bent, is
// found to be.
func TestEveryBentRuleIsFound(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.rule, func(t *testing.T) {
			t.Parallel()
			others := map[string]bool{}
			for seed := range m.seeds {
				err := hunt(t, seed, m.on, m.bend)
				if err == nil {
					continue
				}
				text, _, _ := strings.Cut(err.Error(), "\n")
				if strings.HasPrefix(text, m.finds) || !strings.HasPrefix(m.finds, "S") && strings.Contains(text, m.finds) {
					t.Logf("seed %d: %s", seed, text)
					return
				}
				others[fmt.Sprintf("%.100s", text)] = true
			}
			t.Errorf("not found in %d schedules; what was: %v", m.seeds, others)
		})
	}
}

// What is found of bent rules is not found of straight ones.
func TestNoStraightRuleIsFound(t *testing.T) {
	for seed := uint64(60); seed < 70; seed++ {
		if err := hunt(t, seed, "a b c d", failover.Mutation{}); err != nil {
			t.Fatal(err)
		}
	}
}
