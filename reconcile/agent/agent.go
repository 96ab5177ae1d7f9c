package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Host is the local PostgreSQL.
type Host interface {
	// Look says what is there. It is called from one goroutine at a time, never
	// during Do.
	Look(ctx context.Context, a reconcile.Assignment) (reconcile.Local, error)
	// Do carries out one act. When ctx ends it stops soon and leaves a state
	// that Look can tell.
	Do(ctx context.Context, a reconcile.Assignment, act reconcile.Act, progress func(done, total pg.Bytes)) error
	// Exited is signalled when the server has ended by itself.
	Exited() <-chan struct{}
	// Renew lets the server go on for ttl as the primary of a term. It may be called
	// at any time.
	Renew(ctx context.Context, term uint64, ttl time.Duration) error
	// Check opens a fresh session and writes through it. An error means that the
	// server did not answer. It may be called at any time.
	Check(ctx context.Context) error
}

// ErrImpossible marks an error of Host.Do after which trying again cannot help.
var ErrImpossible = errors.New("trying again does not help")

// Upward is the way to the leader.
type Upward interface {
	// Report tells the leader and brings back the node's assignment.
	Report(ctx context.Context, r reconcile.Report) (Answer, error)
}

// Answer is what the leader says to a report.
type Answer struct {
	// Assignment is confirmed by a leader that a majority follows.
	Assignment reconcile.Assignment `json:"assignment"`
	// Hold is set while the cluster is paused: the agent looks and does nothing.
	Hold bool `json:"hold,omitempty"`
	// Run is the latest run. With a new one, which an operator may have begun after
	// having mended something, what has failed is tried again at once.
	Run uint64 `json:"run,omitempty"`
	// Kept is from where on the primary keeps WAL for each of its slots; empty when that
	// is not known.
	Kept map[string]pg.LSN `json:"kept,omitempty"`
	// Job is the node's; nil when it has none.
	Job *reconcile.Job `json:"job,omitempty"`
}

// Config says what an Agent is made of. Host is nil on a witness.
type Config struct {
	Name        string
	Incarnation string
	Version     string
	Host        Host
	Upward      Upward
	Voters      Voters
	// Worker is nil where no jobs are done; Extra, which may be nil, adds to a report
	// what else the host knows.
	Worker Worker
	Extra  func(*reconcile.Report)
	// Limits are asked for whenever they are needed, since a spec may change them.
	Limits func() Limits
	Logger zerolog.Logger
	// Interval is how often to look and to report at rest.
	Interval time.Duration
}

// Agent is the loop of one host. Assign, Last and Kick may be called concurrently.
type Agent struct {
	cfg Config
	// work and report are signalled to wake the two loops; they hold one signal
	// at most and are never closed.
	work, report chan struct{}
	// first is closed by the working loop when it has looked once.
	first     chan struct{}
	firstOnce sync.Once

	mu sync.Mutex // guards what follows
	// confirmed is set once a live leader has given the assignment (S4).
	confirmed  bool
	assignment reconcile.Assignment
	hold       bool
	run        uint64
	looked     bool
	local      reconcile.Local
	activity   *activity
	problem    *trouble
	watch      string // Report.Watch
	// streamed is when the local standby was last seen to receive WAL, or not to run.
	streamed time.Time
	// answered is when a fresh session last had an answer, in time lived.
	answered     time.Duration
	everAnswered bool
	// cancel ends the act that is under way; nil when none is.
	cancel context.CancelFunc

	again int // quick looks in a row; only working uses it

	// employed is the node's job; nil for none.
	employed *work // guarded by mu

	lived lived
	beats sync.WaitGroup // calls to voters, and jobs
}

type activity struct {
	step        reconcile.StepKind
	begun       time.Time
	done, total pg.Bytes
}

// New makes an Agent; Run runs it.
func New(cfg Config) *Agent {
	return &Agent{cfg: cfg, work: make(chan struct{}, 1), report: make(chan struct{}, 1), first: make(chan struct{})}
}

// Run looks, acts and reports until ctx ends. It returns ctx's end as nil, and
// never another error: what fails is reported and tried again.
func (a *Agent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.reporting(ctx) })
	if a.cfg.Host != nil {
		group.Go(func() error { return a.working(ctx) })
		group.Go(func() error { return a.beating(ctx) })
		group.Go(func() error { return a.checking(ctx) })
	}
	defer a.beats.Wait()
	return group.Wait()
}

// Assign takes an assignment that the leader sends outside of a report's answer. The
// first of a process's life has to be an answer: what comes unasked may have been
// sent long ago, by one who leads no more (S4).
func (a *Agent) Assign(answer Answer) {
	a.mu.Lock()
	confirmed := a.confirmed
	a.mu.Unlock()
	if confirmed {
		a.accept(answer)
	}
}

// SetWatch sets what the reports say of the watched spec file.
func (a *Agent) SetWatch(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watch != text {
		a.watch = text
		signal(a.report)
	}
}

// Kick makes the agent look now.
func (a *Agent) Kick() { signal(a.work) }

// Tell makes the agent report now, as to a new leader.
func (a *Agent) Tell() { signal(a.report) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (a *Agent) accept(answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin(answer.Run)
	next := answer.Assignment
	if a.confirmed && next.Serial < a.assignment.Serial {
		return // a slower road brought an older one
	}
	if a.confirmed == (next.Serial > 0) && next.Serial == a.assignment.Serial && next.SystemID == a.assignment.SystemID && a.hold == answer.Hold {
		return
	}
	if a.cancel != nil && !continues(a.assignment, next, answer.Hold) {
		a.cancel()
	}
	if next.Serial != a.assignment.Serial {
		a.problem = nil
	}
	a.assignment, a.hold, a.confirmed = next, answer.Hold, next.Serial > 0
	signal(a.work)
}

// begin takes note of a run. It is called with mu held.
func (a *Agent) begin(run uint64) {
	if run <= a.run {
		return
	}
	a.run = run
	if a.problem != nil {
		again := *a.problem
		again.attempts, again.retryAt = 0, time.Time{}
		a.problem = &again
		signal(a.work)
	}
}

// continues reports whether an act that was begun for one assignment still makes
// sense for the next.
func continues(was, is reconcile.Assignment, hold bool) bool {
	return !hold && was.Role == is.Role && was.Generation == is.Generation &&
		was.Upstream != nil == (is.Upstream != nil) && (was.Upstream == nil || was.Upstream.Node == is.Upstream.Node)
}

// working looks and acts.
func (a *Agent) working(ctx context.Context) error {
	ticker := time.NewTicker(a.cfg.Interval)
	defer ticker.Stop()
	for {
		for a.turn(ctx) {
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.work:
		case <-a.cfg.Host.Exited():
		case <-ticker.C:
		}
	}
}

// turn looks once and does one act. It reports whether there may be another to do.
func (a *Agent) turn(ctx context.Context) bool {
	a.mu.Lock()
	assignment, confirmed, hold := a.assignment, a.confirmed, a.hold
	a.mu.Unlock()

	local, err := a.cfg.Host.Look(ctx, assignment)
	if ctx.Err() != nil {
		return false
	}
	defer a.firstOnce.Do(func() { close(a.first) })
	if err != nil {
		a.fail(reconcile.Act{Kind: reconcile.ActFail}, err)
		return false
	}
	a.saw(local)
	if !confirmed || hold {
		return false
	}
	act := reconcile.NextAct(assignment, local)
	switch {
	case act.Kind == reconcile.ActNone:
		a.succeed()
		a.lookAgain(ctx, assignment, local)
		return false
	case act.Kind == reconcile.ActFail:
		a.fail(act, errors.New(act.Reason))
		return false
	case a.waits(act):
		return false
	}
	return a.do(ctx, assignment, act)
}

// soon is how long after a look one follows when something is about to change by itself.
const soon = 20 * time.Millisecond

// lookAgain looks soon, a number of times, at what is about to change by itself.
func (a *Agent) lookAgain(ctx context.Context, assignment reconcile.Assignment, l reconcile.Local) {
	if !passing(assignment, l) {
		a.again = 0
		return
	}
	if a.again++; a.again > lookAgainLimit {
		return
	}
	time.AfterFunc(soon, func() {
		if ctx.Err() == nil {
			a.Kick()
		}
	})
}

// lookAgainLimit bounds the quick looks at what does not change.
const lookAgainLimit = 50

// passing reports whether a server is in a state that seldom lasts: a standby is about
// to connect, or to have read its WAL, a follower to catch up, or the sync set that is
// in force has yet to be seen by a fresh session.
func passing(a reconcile.Assignment, l reconcile.Local) bool {
	switch {
	case l.Server.State == pg.ServerStarting, l.Server.State == pg.ServerStopping:
		return true
	case l.Server.State != pg.ServerRunning:
		return false
	case l.Server.Recovery && a.Upstream != nil:
		return !l.Server.Receiver.Streaming()
	case l.Server.Recovery:
		return !l.Server.WALComplete
	}
	return l.SyncSince == 0 || trailing(l)
}

// saw keeps what was seen, and reports it at once when it is news.
func (a *Agent) saw(local reconcile.Local) {
	a.mu.Lock()
	before := a.local
	first := !a.looked
	a.local, a.looked = local, true
	if s := local.Server; s.State != pg.ServerRunning || !s.Recovery || s.Receiver.Streaming() {
		a.streamed = time.Now()
	}
	a.mu.Unlock()
	if first || news(before, local) {
		signal(a.report)
	}
}

func (a *Agent) do(ctx context.Context, assignment reconcile.Assignment, act reconcile.Act) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mu.Lock()
	if a.hold || a.assignment.Serial != assignment.Serial {
		a.mu.Unlock()
		return true // decided on what has changed while it was looked
	}
	a.cancel = cancel
	a.activity = &activity{step: act.Step, begun: time.Now()}
	a.mu.Unlock()
	quiet := act.Kind == reconcile.ActSettle || act.Kind == reconcile.ActWrite
	log := a.cfg.Logger.With().Str("act", string(act.Kind)).Uint64("serial", assignment.Serial).Logger()
	if !quiet {
		log.Info().Str("reason", act.Reason).Msg("acting")
		signal(a.report)
	}
	err := a.leased(ctx, assignment, act)
	if err == nil {
		err = a.cfg.Host.Do(ctx, assignment, act, a.progress)
	}

	a.mu.Lock()
	a.cancel, a.activity = nil, nil
	a.mu.Unlock()
	signal(a.report)
	switch {
	case err == nil:
		a.solved(act)
		return true
	case ctx.Err() != nil:
		return false
	}
	log.Warn().Err(err).Msg("act failed")
	a.fail(act, err)
	return false
}

// leased has a server become primary only with a lease that was confirmed for it:
// the assignment may have been long on its way.
func (a *Agent) leased(ctx context.Context, assignment reconcile.Assignment, act reconcile.Act) error {
	if assignment.Role != reconcile.RolePrimary || act.Kind != reconcile.ActStart && act.Kind != reconcile.ActPromote {
		return nil
	}
	left, err := a.confirm(ctx, assignment.Term)
	if err != nil {
		return err
	}
	return a.cfg.Host.Renew(ctx, assignment.Term, left)
}

// progress is given to Host.Do, which calls it as often as it likes.
func (a *Agent) progress(done, total pg.Bytes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.activity == nil {
		return
	}
	a.activity.done, a.activity.total = done, total
	signal(a.report)
}
