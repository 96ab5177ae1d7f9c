package leader

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// Store replicates the record.
type Store interface {
	// Record is the latest one that this node has applied. It is never nil.
	Record() *reconcile.Record
	// Changed is closed when the record changes next.
	Changed() <-chan struct{}
	// Propose replicates a command and returns what Transition said of it.
	Propose(ctx context.Context, cmd reconcile.Command) error
}

// Group is the Raft group's membership.
type Group interface {
	Members() []reconcile.RaftMember
	SetVoter(ctx context.Context, node string, voter bool) error
	// Transfer hands leadership over to another voter.
	Transfer(ctx context.Context, node string) error
	// Remove takes a member out. When that member is this node itself it hands
	// leadership over first and returns ErrHandedOver.
	Remove(ctx context.Context, node string) error
}

// ErrHandedOver says that this node gave leadership away, so that its loop ends.
var ErrHandedOver = errors.New("leadership was handed over")

// Config says what a Leader is made of. All fields but Push are required.
type Config struct {
	Name   string // of this node, which signs what it does
	Store  Store
	Group  Group
	Logger zerolog.Logger
	// Push tells a node about a new assignment at once; it must not block.
	// Nodes that it does not reach learn with their next report.
	Push func(node string, a reconcile.Assignment)
	// Cluster is nil where nothing is known of the primary beside its reports.
	Cluster Cluster
	// Silence is how long a node may go without a report and count as reachable.
	Silence time.Duration
	// Interval is how often to look when nothing has been reported.
	Interval time.Duration
}

// Leader is the loop of the leading ramd. Report, Observed, Plan and Elapsed may
// be called concurrently, also while Run does not run.
type Leader struct {
	cfg   Config
	board atomic.Pointer[board] // nil while this node does not lead
	watch atomic.Pointer[watch] // as board
}

// New makes a Leader; Run runs it.
func New(cfg Config) *Leader { return &Leader{cfg: cfg} }

// Report takes in what an agent saw. It reports false when this node does not lead.
func (l *Leader) Report(r reconcile.Report) bool {
	b := l.board.Load()
	if b == nil {
		return false
	}
	b.put(r, time.Now())
	return true
}

// Observed is what the agents saw last; nothing when this node does not lead.
func (l *Leader) Observed() reconcile.Observed {
	b := l.board.Load()
	if b == nil {
		return reconcile.Observed{}
	}
	rec := l.cfg.Store.Record()
	obs := b.observed(rec, time.Now())
	obs.Raft = l.cfg.Group.Members()
	obs.Now = time.Now().UTC()
	if w := l.watch.Load(); w != nil {
		obs.Pulse = w.pulse(rec, time.Now())
	}
	return obs
}

// Kept is from where on the primary keeps WAL for each of its slots, as it reported last.
func (l *Leader) Kept() map[string]pg.LSN {
	b := l.board.Load()
	if b == nil {
		return nil
	}
	kept := map[string]pg.LSN{}
	for _, s := range b.report(l.cfg.Store.Record().Primary).Server.Slots {
		kept[s.Name] = s.RestartLSN
	}
	return kept
}

// Plan is the plan to want from here and now.
func (l *Leader) Plan(want *spec.Cluster) reconcile.Plan {
	return reconcile.Diff(want, l.cfg.Store.Record(), l.Observed())
}

// Run leads until ctx ends, which is when leadership does.
func (l *Leader) Run(ctx context.Context) error {
	b := newBoard(l.cfg.Silence)
	l.board.Store(b)
	defer l.board.Store(nil)
	l.cfg.Logger.Info().Msg("leading")
	defer l.cfg.Logger.Info().Msg("no longer leading")

	w := &watch{cluster: l.cfg.Cluster, wake: b.wake}
	l.watch.Store(w)
	defer w.calls.Wait()
	defer l.watch.Store(nil)

	r := round{Leader: l, patience: newPatience(), watch: w}
	ticker := time.NewTicker(l.cfg.Interval)
	defer ticker.Stop()
	for look := true; ; {
		changed := l.cfg.Store.Changed()
		again, err := r.succeed(ctx)
		if err == nil && !again && look && l.Informed() {
			err = r.run(ctx)
		}
		look = true
		if err != nil {
			return err
		}
		if again {
			continue
		}
		suspicion := time.NewTimer(r.untilSuspicion())
		select {
		case <-ctx.Done():
			suspicion.Stop()
			return nil
		case <-b.changed:
		case <-changed:
		case <-suspicion.C:
			look = false // nothing was reported: only the silence has grown
		case <-ticker.C:
			r.stepAside(ctx)
		}
		suspicion.Stop()
	}
}

// Informed reports whether it is time to decide: every member has reported to
// this leader, or has had the time to.
func (l *Leader) Informed() bool {
	b := l.board.Load()
	if b == nil {
		return false
	}
	if time.Since(b.begun) > l.cfg.Silence {
		return true
	}
	for _, v := range l.Observed().Nodes {
		if !v.Reported {
			return false
		}
	}
	return true
}

// round is what one leadership remembers from one look to the next.
type round struct {
	*Leader
	patience *patience
	watch    *watch
	seen     reconcile.Observed
	// waits is what the succession waited for last, so that it is logged once.
	waits string
}

// run looks once and does what can be done. Only errors that end the leadership
// are returned.
func (r *round) run(ctx context.Context) error {
	rec := r.cfg.Store.Record()
	if !rec.Formed() || rec.Spec == nil {
		return nil
	}
	obs := r.Observed()
	if begun, err := r.handOver(ctx, rec, obs); begun || err != nil {
		return err
	}
	plan := reconcile.Diff(rec.Spec, rec, obs)
	progress := reconcile.Progress{}
	if rec.Pause == nil {
		progress = reconcile.Track(rec, plan)
	}
	progress.Events = append(progress.Events, reconcile.Notes(r.seen, obs)...)
	r.seen = obs
	if !progress.Empty() {
		if err := r.propose(ctx, reconcile.Command{Progress: &progress}); err != nil {
			return r.passing(ctx, "record progress", err)
		}
	}
	if err := r.tendJob(ctx, rec, obs); err != nil {
		return r.passing(ctx, "tend job", err)
	}
	if rec.Pause != nil {
		return nil
	}
	for _, step := range reconcile.Runnable(plan) {
		if err := r.begin(ctx, step); err != nil {
			return r.passing(ctx, step.ID, err)
		}
	}
	return nil
}

// tendJob records what has become of the job that is under way, or begins one that a
// schedule asks for.
func (r *round) tendJob(ctx context.Context, rec *reconcile.Record, obs reconcile.Observed) error {
	begin, end := reconcile.NextJob(rec, obs)
	switch {
	case end != nil:
		return r.propose(ctx, reconcile.Command{End: end})
	case begin != nil:
		return r.propose(ctx, reconcile.Command{Begin: begin})
	}
	return nil
}

// begin carries the effect of a step into the world.
func (r *round) begin(ctx context.Context, step reconcile.Step) error {
	effect := step.Effect()
	// What only records that something was seen is not an attempt at anything.
	records := effect.Settle || effect.Identify != 0
	if key := repetition(step.ID, *effect); !records {
		if r.patience.wait(key, time.Now()) > 0 {
			return nil
		}
		r.patience.issue(key, time.Now())
	}
	level := zerolog.InfoLevel
	if records {
		level = zerolog.DebugLevel // the end of what was logged when it began
	}
	r.cfg.Logger.WithLevel(level).Str("step", step.ID).Str("reason", step.Reason).Msg(step.Summary)
	if err := r.regroup(ctx, *effect); err != nil {
		return err
	}
	err := r.propose(ctx, reconcile.Command{Advance: &reconcile.Advance{Step: step.ID, Effect: *effect}})
	if err != nil {
		return err
	}
	for _, a := range effect.Assign {
		if r.cfg.Push != nil {
			r.cfg.Push(a.Node, a.Assignment)
		}
	}
	return nil
}

// repetition identifies what a step does, so that doing the same again counts as
// a repetition and going on does not: serials grow with each try.
func repetition(step string, e reconcile.Effect) string {
	e.Assign = slices.Clone(e.Assign)
	for i := range e.Assign {
		e.Assign[i].Assignment.Serial, e.Assign[i].Assignment.Restart = 0, 0
	}
	text, err := json.Marshal(e)
	if err != nil {
		return step // an effect always encodes
	}
	return fmt.Sprintf("%s %x", step, sha256.Sum256(text))
}

func (r *round) regroup(ctx context.Context, e reconcile.Effect) error {
	switch {
	case e.Voter != "":
		return r.cfg.Group.SetVoter(ctx, e.Voter, true)
	case e.Nonvoter != "":
		return r.cfg.Group.SetVoter(ctx, e.Nonvoter, false)
	case e.Leave != "":
		return r.cfg.Group.Remove(ctx, e.Leave)
	}
	return nil
}

func (r *round) propose(ctx context.Context, cmd reconcile.Command) error {
	cmd.At, cmd.By = time.Now().UTC(), r.cfg.Name
	return r.cfg.Store.Propose(ctx, cmd)
}

// passing decides what an error means for the leadership: a stale command or one
// of unknown outcome is looked at again in the next round.
func (r *round) passing(ctx context.Context, what string, err error) error {
	if errors.Is(err, ErrHandedOver) || ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, reconcile.ErrStale) {
		r.cfg.Logger.Debug().Err(err).Str("what", what).Msg("decided on a record that has moved on")
		return nil
	}
	r.cfg.Logger.Warn().Err(err).Str("what", what).Msg("could not be carried out; looking again")
	return nil
}
