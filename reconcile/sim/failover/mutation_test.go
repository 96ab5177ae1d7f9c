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

// keepsUpstream writes the upstream that was assigned before into a frozen standby's files.
func keepsUpstream(before reconcile.Assignment, f *pg.ConfigFiles) {
	if !strings.Contains(f.Managed, "primary_conninfo") && f.Standby && before.Node != "" {
		f.Managed += "primary_conninfo = 'host=" + before.Server.Host + " port=5432'\n"
	}
}

// mutations are rules that are bent, and what is to be found within so many seeds.
var mutations = []struct {
	rule  string
	bend  failover.Mutation
	finds string
	seeds uint64
}{
	{"a promise is not waited for", failover.Mutation{Observed: everybodyPromised}, "S2", 400},
	{"one promise is enough", failover.Mutation{Record: func(r *reconcile.Record) {
		r.Sync.Current.K = max(r.Sync.Current.K, len(r.Sync.Current.Members)*min(1, r.Sync.Current.K))
	}}, "S2", 400},
	{"only the set that is in force counts", failover.Mutation{Record: func(r *reconcile.Record) {
		if r.Opening != nil {
			r.Sync.Next, r.Sync.Former = nil, nil
		}
	}}, "S2", 400},
	{"only the set that is to come counts", failover.Mutation{Record: func(r *reconcile.Record) {
		if r.Opening != nil {
			r.Sync = reconcile.SyncState{Current: r.Sync.Target(), Former: r.Sync.Former}
		}
	}}, "S2", 400},
	{"earlier terms' sets are forgotten", failover.Mutation{Transition: func(r *reconcile.Record) { r.Sync.Former = nil }}, "S2", 400},
	{"a set counts alone before its members have what was written", failover.Mutation{Observed: func(_ *reconcile.Record, obs *reconcile.Observed) {
		for name, v := range obs.Nodes {
			if v.Report.SyncSince != 0 {
				v.Report.SyncSince = 1
				obs.Nodes[name] = v
			}
		}
	}}, "S2", 400},
	{"a set counts alone before the checkpointer has read it", failover.Mutation{NoCheckpoint: true}, "S2", 400},
	{"a promise is forgotten when ramd starts again", failover.Mutation{ForgetsPromise: true}, "S2", 400},
	{"an agent begins with what it remembers", failover.Mutation{Remembers: true}, "S", 400},
	{"a promised standby goes on receiving", failover.Mutation{Files: keepsUpstream}, "S2", 400},
	{"the position is told from before the promise", failover.Mutation{PositionBeforeFreeze: true}, "S2", 400},
	{"the furthest position wins on any timeline", failover.Mutation{Observed: func(rec *reconcile.Record, obs *reconcile.Observed) {
		for name, v := range obs.Nodes {
			if rec.Opening != nil {
				v.Report.Server.Timeline = 99
				obs.Nodes[name] = v
			}
		}
	}}, "S2", 400},
	{"a promotion begins whatever timeline comes next", failover.Mutation{AnyTimeline: true}, "timeline", 400},
	{"a server is called dead before all of it is", failover.Mutation{DeadEarly: true}, "S", 400},
	{"a lease is counted from the answer", failover.Mutation{LeaseFromAnswer: true}, "S3", 400},
	{"the lease is not waited for", failover.Mutation{Observed: func(_ *reconcile.Record, obs *reconcile.Observed) {
		obs.Pulse.Barred = 1 << 40
	}}, "S3", 400},
	{"voters confirm the leases of all terms", failover.Mutation{ConfirmsAnyTerm: true}, "S3", 400},
}

// hunt is try without patience for worlds that do not become whole: it looks for what
// is lost.
func hunt(t *testing.T, seed uint64, m failover.Mutation) error {
	t.Helper()
	w := failover.New(seed, failover.Options{Spec: cluster(t, seed), Mutation: m})
	_ = w.Settle(200) // a bent rule may keep it from that
	w.Unguarded(seed%3 == 0)
	for range 3 {
		if err := w.Run(700, 40); err != nil {
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
				err := hunt(t, seed, m.bend)
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
