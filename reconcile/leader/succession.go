package leader

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// succeed does the next thing about primaryship. It reports whether there may be
// another one to do at once.
func (r *round) succeed(ctx context.Context) (again bool, err error) {
	rec := r.cfg.Store.Record()
	if !rec.Formed() || rec.Spec == nil {
		return false, nil
	}
	s := reconcile.Succeed(rec, r.Observed())
	r.say(s.Waits)
	if s.Ask {
		r.watch.ask(ctx, rec)
	}
	if s.Bar {
		r.watch.bar(ctx, rec, r.voters())
	}
	switch {
	case s.Open != nil:
		r.cfg.Logger.Warn().Uint64("term", s.Open.Term+1).Str("deposed", s.Open.Opening.Deposed).Str("reason", s.Open.Opening.Reason).Msg("opening a term")
		return r.decide(ctx, reconcile.Command{Open: s.Open}, s.Open.Assign)
	case s.Elect != nil:
		r.cfg.Logger.Info().Uint64("term", s.Elect.Term).Str("primary", s.Elect.Node).Str("reason", s.Elect.Choice.Verdict.Reason).Msg("granting primaryship")
		return r.decide(ctx, reconcile.Command{Elect: s.Elect}, s.Elect.Assign)
	case s.Revive != nil:
		return false, r.revive(ctx, s.Revive)
	}
	return false, nil
}

// decide records a decision and tells those whom it concerns at once.
func (r *round) decide(ctx context.Context, cmd reconcile.Command, assign []reconcile.Assign) (again bool, err error) {
	if err := r.propose(ctx, cmd); err != nil {
		return false, r.passing(ctx, "succession", err)
	}
	for _, a := range assign {
		if r.cfg.Push != nil {
			r.cfg.Push(a.Node, a.Assignment)
		}
	}
	return true, nil
}

func (r *round) revive(ctx context.Context, effect *reconcile.Effect) error {
	node := effect.Assign[0].Node
	key := repetition("revive/"+node, *effect)
	if r.patience.wait(key, time.Now()) > 0 {
		return nil
	}
	r.patience.issue(key, time.Now())
	r.cfg.Logger.Warn().Str("node", node).Msg("starting the primary's server again")
	_, err := r.decide(ctx, reconcile.Command{Advance: &reconcile.Advance{Step: "revive/" + node, Effect: *effect}}, effect.Assign)
	return err
}

// say logs what the succession waits for, once.
func (r *round) say(waits string) {
	if waits != "" && waits != r.waits {
		r.cfg.Logger.Warn().Str("waits", waits).Msg("no primary can be made yet")
	}
	r.waits = waits
}

func (r *round) voters() []string {
	var names []string
	for _, m := range r.cfg.Group.Members() {
		if m.Voter {
			names = append(names, m.Name)
		}
	}
	return names
}

// Bounds of how often a leader looks whether the primary has fallen silent.
const (
	leastSuspicion = 10 * time.Millisecond
	mostSuspicion  = 10 * time.Second
)

// untilSuspicion is the time until silence of the primary begins to mean
// something: that others are asked, that it is suspected, that a wait is over.
func (r *round) untilSuspicion() time.Duration {
	rec := r.cfg.Store.Record()
	if r.cfg.Cluster == nil || rec.Spec == nil || rec.Pause != nil {
		return mostSuspicion
	}
	detect := rec.Spec.Failover.Detect.Std()
	if rec.Opening != nil {
		return max(leastSuspicion, detect/10)
	}
	if rec.Primary == "" {
		return mostSuspicion
	}
	silent, _ := r.cfg.Cluster.Heard(rec.Primary)
	for _, limit := range []time.Duration{reconcile.AskAfter(detect), detect} {
		if silent <= limit {
			return max(leastSuspicion, limit-silent+time.Millisecond)
		}
	}
	return max(leastSuspicion, detect/10)
}

// stepAside hands leadership to another voter when the primary is on this host, so
// that the loss of it costs no election.
func (r *round) stepAside(ctx context.Context) {
	rec := r.cfg.Store.Record()
	if rec.Primary != r.cfg.Name || rec.Run != nil || rec.Pause != nil || !r.Informed() {
		return
	}
	obs := r.Observed()
	voters := slices.DeleteFunc(r.voters(), func(name string) bool {
		return name == r.cfg.Name || !obs.Nodes[name].Reachable
	})
	if len(voters) == 0 {
		return
	}
	slices.SortFunc(voters, func(a, b string) int {
		return cmp.Or(compareWitness(rec, a, b), strings.Compare(a, b))
	})
	key := "step aside"
	if r.patience.wait(key, time.Now()) > 0 {
		return
	}
	r.patience.issue(key, time.Now())
	r.cfg.Logger.Info().Str("to", voters[0]).Msg("handing leadership over: the primary is on this host")
	if err := r.cfg.Group.Transfer(ctx, voters[0]); err != nil && ctx.Err() == nil {
		r.cfg.Logger.Warn().Err(err).Msg("leadership was not handed over")
	}
}

// compareWitness puts witnesses first: no primary will ever be there.
func compareWitness(rec *reconcile.Record, a, b string) int {
	witness := func(name string) int {
		if n, ok := rec.Spec.Node(name); ok && n.Witness {
			return 0
		}
		return 1
	}
	return cmp.Compare(witness(a), witness(b))
}
