package daemon

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/netx"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/agent"
	"github.com/ramhq/ram/spec"
)

// pulse is what a ramd knows of the primary as a voter. All times are of its own
// monotonic clock.
type pulse struct {
	began time.Time

	mu     sync.Mutex // guards what follows
	heard  map[string]heardBeat
	barred uint64 // no term below it is confirmed
	// ticked is when this process was last seen to run, awake since when it has done so
	// without a longer pause.
	ticked, awake time.Time
	pause         time.Duration
	// primary and term are those of the record, granted when this node learned of them.
	primary string
	term    uint64
	granted time.Time
	// verifiedAt is before a majority last said that it follows, in the leadership
	// verifiedIn.
	verifiedAt time.Time
	verifiedIn uint64
}

// learn notes who is the primary: one that was just made cannot have been heard yet.
func (p *pulse) learn(primary string, term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.primary != primary || p.term != term {
		p.primary, p.term, p.granted = primary, term, time.Now()
	}
}

// ticksPerDetect is how often a process looks at the clock within the time after which
// a primary is suspected. Missing two of the looks is a pause.
const ticksPerDetect = 6

// run notes that this process runs. One that was stopped, or got no CPU, has heard
// nobody for that long, which says nothing of the others.
func (p *pulse) run(ctx context.Context, limits func() agent.Limits) error {
	for {
		interval := max(limits().Detect/ticksPerDetect, 20*time.Millisecond)
		p.tick(time.Now(), 3*interval)
		if !sleep(ctx, interval) {
			return nil
		}
	}
}

// tick is called at least as often as pause, unless the process does not run.
func (p *pulse) tick(now time.Time, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pause = pause
	if now.Sub(p.ticked) > pause {
		p.awake = now
	}
	p.ticked = now
}

type heardBeat struct {
	at  time.Time
	lsn pg.LSN
}

func newPulse() *pulse {
	now := time.Now()
	return &pulse{began: now, ticked: now, awake: now, heard: map[string]heardBeat{}}
}

// bar has this voter confirm no earlier term any more.
func (p *pulse) bar(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.barred = max(p.barred, term)
}

// take notes a beat and returns the highest term that this voter knows of.
func (p *pulse) take(b reconcile.Beat, known uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	known = max(known, p.barred)
	if b.Term >= known {
		p.barred = b.Term
		p.heard[b.Node] = heardBeat{time.Now(), max(b.LSN, p.heard[b.Node].lsn)}
	}
	return known
}

// since is the time in which this process ran and heard no beat of a node.
func (p *pulse) since(node string) (time.Duration, pg.LSN) {
	p.mu.Lock()
	pause := p.pause
	p.mu.Unlock()
	now := time.Now()
	if pause > 0 {
		p.tick(now, pause)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.heard[node]
	from := p.awake
	if h.at.After(from) {
		from = h.at
	}
	if node == p.primary && p.granted.After(from) {
		from = p.granted
	}
	return now.Sub(from), h.lsn
}

// limits are the times of the spec in force, or of the one that ramd was started with.
func (l *life) limits() agent.Limits {
	f := l.start.spec.Failover
	if c := l.machine.Record().Spec; c != nil {
		f = c.Failover
	}
	return agent.Limits{Detect: f.Detect.Std(), Lease: f.Lease.Std()}
}

// withoutLease reports whether safety rests on promises alone, so that PostgreSQL may
// go on when its ramd is stopped in order. In async mode the lease is what keeps two
// primaries apart, and a stopped ramd has to be back before it ends.
func (l *life) withoutLease() bool {
	rec := l.machine.Record()
	if rec.Spec == nil || rec.Primary != l.start.node.Name || rec.Opening != nil {
		return false
	}
	for _, s := range rec.Sync.Sets() {
		if s.K == 0 {
			return false
		}
	}
	return rec.Spec.Replication.Mode == spec.ModeQuorum
}

// takeBeat is a voter's side of a beat. A voter that has just started confirms
// nothing until a lease has passed: it may have been told of a higher term before.
func (l *life) takeBeat(ctx context.Context, b reconcile.Beat) (reconcile.Confirmation, error) {
	rec := l.machine.Record()
	if m, ok := rec.Members[b.Node]; rec.Formed() && (!ok || m.Incarnation != b.Incarnation) {
		return reconcile.Confirmation{}, api.Errorf(http.StatusGone, "node %s (incarnation %s) is not a member", b.Node, b.Incarnation)
	}
	c := reconcile.Confirmation{Term: l.pulse.take(b, rec.Term)}
	if b.Term < c.Term || rec.Term == b.Term && rec.Primary != b.Node {
		return c, nil
	}
	c.Voter = time.Since(l.pulse.began) > reconcile.LeaseMargin(l.limits().Lease)
	if l.leader.Leads() && rec.Term == b.Term {
		c.Leader, c.Age = l.verified(ctx)
	}
	return c, nil
}

// verifiedFor is how long it is enough to have verified that a majority follows. What
// is confirmed by it is that much shorter.
const verifiedFor = time.Second

// verified reports whether a majority follows this leader, and how long ago that was
// known at the latest.
func (l *life) verified(ctx context.Context) (bool, time.Duration) {
	l.pulse.mu.Lock()
	at, term := l.pulse.verifiedAt, l.pulse.verifiedIn
	l.pulse.mu.Unlock()
	now, reign := time.Now(), l.store.Reign()
	if age := now.Sub(at); !at.IsZero() && term == reign && age < verifiedFor {
		return true, age
	}
	if l.store.VerifyLeader(ctx) != nil {
		return false, 0
	}
	l.pulse.mu.Lock()
	defer l.pulse.mu.Unlock()
	l.pulse.verifiedAt, l.pulse.verifiedIn = now, reign
	return true, time.Since(now)
}

// Names is agent.Voters'.
func (l *life) Names() []string {
	var names []string
	for _, m := range l.store.Members() {
		if m.Voter {
			names = append(names, m.Name)
		}
	}
	return names
}

// Beat is agent.Voters'.
func (l *life) Beat(ctx context.Context, voter string, b reconcile.Beat) (reconcile.Confirmation, error) {
	if voter == l.start.node.Name {
		return l.takeBeat(ctx, b)
	}
	var c reconcile.Confirmation
	err := l.callMember(ctx, voter, pathBeat, b, &c)
	return c, err
}

func (l *life) callMember(ctx context.Context, node, path string, in, out any) error {
	m, ok := l.machine.Record().Members[node]
	if !ok {
		return api.Errorf(http.StatusNotFound, "node %s is not a member", node)
	}
	return l.peers.call(ctx, address(m.Host, m.APIPort), http.MethodPost, path, in, out)
}

// electorate is the other nodes as the leader's loop wants them.
type electorate struct{ *life }

// Heard is leader.Cluster's.
func (e electorate) Heard(node string) (time.Duration, pg.LSN) {
	rec := e.machine.Record()
	e.pulse.learn(rec.Primary, rec.Term)
	return e.pulse.since(node)
}

// Ask is leader.Cluster's.
func (e electorate) Ask(ctx context.Context, node string, server reconcile.Upstream) (bool, error) {
	if node == e.start.node.Name {
		return answers(ctx, address(server.Host, server.Port)), nil
	}
	var up bool
	err := e.callMember(ctx, node, pathAsk, asking{Address: address(server.Host, server.Port), WithinMS: untilDeadline(ctx).Milliseconds()}, &up)
	return up, err
}

// Bar is leader.Cluster's.
func (e electorate) Bar(ctx context.Context, voter string, term uint64) error {
	if voter == e.start.node.Name {
		e.pulse.bar(term)
		return nil
	}
	return e.callMember(ctx, voter, pathBar, barring{Term: term}, nil)
}

// asking is a question whether a PostgreSQL server answers.
type asking struct {
	Address  string `json:"address"`
	WithinMS int64  `json:"within_ms"`
}

// barring tells of a term.
type barring struct {
	Term uint64 `json:"term"`
}

// untilDeadline is the time that a context leaves, or a second.
func untilDeadline(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return time.Second
}

// sslRequest asks a PostgreSQL server for encryption: the postmaster forks, and its
// child answers with one byte. Nothing is logged, and no session begins.
var sslRequest = [...]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

// answers reports whether a PostgreSQL server on an address answers.
func answers(ctx context.Context, addr string) bool {
	conn, err := netx.Dial(ctx, addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(sslRequest[:]); err != nil {
		return false
	}
	var answer [1]byte
	_, err = io.ReadFull(conn, answer[:])
	return err == nil
}

// whileLeader is a context that ends when another leader is known than name: a call to
// one that is lost is not waited for.
func (l *life) whileLeader(ctx context.Context, name string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			changed := l.store.Changed()
			if now, _, ok := l.store.Leader(); ok && now != name {
				cancel()
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return ctx, cancel
}

// tellLeaders has the agent report at once to each new leader, and keeps in mind who
// is the primary.
func (l *life) tellLeaders(ctx context.Context) error {
	last := ""
	for {
		changed := l.store.Changed()
		if name, _, ok := l.store.Leader(); ok && name != last {
			last = name
			l.agent.Tell()
		}
		rec := l.machine.Record()
		l.pulse.learn(rec.Primary, rec.Term)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
