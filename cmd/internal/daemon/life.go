package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/buildinfo"
	"github.com/ramhq/ram/cmd/internal/netx"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/raftstore"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/agent"
	"github.com/ramhq/ram/reconcile/leader"
	"github.com/ramhq/ram/spec"
)

// life is one membership of this ramd: from opening its Raft directory until it
// is stopped, or removed from the cluster.
type life struct {
	start   start
	dataDir string
	watch   bool
	opts    Options
	log     zerolog.Logger

	machine *machine
	store   *raftstore.Store
	leader  *leading
	agent   *agent.Agent
	host    *host // nil on a witness
	peers   peers
	pulse   *pulse
	calls   sync.WaitGroup // pushes under way

	asked    atomic.Uint32 // counts anyAddress
	founding text          // cluster ID that this ramd is about to bootstrap with
	reason   text          // why it is not a member yet

	mu sync.Mutex
	id identity // guarded by mu

	// remove ends the life because the node was removed; the cause says so.
	remove context.CancelCauseFunc
}

// text is a string that several goroutines read and write.
type text struct{ v atomic.Pointer[string] }

func (t *text) Load() string {
	if p := t.v.Load(); p != nil {
		return *p
	}
	return ""
}

func (t *text) Store(s string) { t.v.Store(&s) }

// leading is the leader's loop with the knowledge whether this node leads.
type leading struct {
	*leader.Leader
	active atomic.Bool
}

// Leads reports whether this node leads and has seen all that was decided before.
func (l *leading) Leads() bool { return l.active.Load() }

// errRemoved ends a life whose node is no longer a member.
var errRemoved = errors.New("removed from the cluster")

// Timings of the loops at rest.
const (
	reportInterval = time.Second
	silence        = 5 * time.Second
)

// raftTimeouts are such that a leader who is lost together with the primary is
// replaced within the time after which the primary is suspected anyway.
func raftTimeouts(f spec.Failover) raftstore.Timeouts {
	heartbeat := min(max(f.Detect.Std()/2, leastHeartbeat), mostHeartbeat)
	return raftstore.Timeouts{Heartbeat: heartbeat, Election: heartbeat, Lease: heartbeat}
}

const (
	leastHeartbeat = 100 * time.Millisecond
	mostHeartbeat  = time.Second
)

func (d *Daemon) openLife(ctx context.Context) (*life, error) {
	l := &life{
		start: d.start, dataDir: d.dataDir, watch: d.opts.Watch, opts: d.opts, log: d.log,
		machine: newMachine(), pulse: newPulse(),
	}
	id, err := loadIdentity(d.dataDir)
	if err != nil {
		return nil, err
	}
	l.id = id
	l.peers = peers{http: &http.Client{Transport: d.transport}, token: l.peerToken}
	n := d.start.node
	l.store, err = raftstore.Open(ctx, raftstore.Config{
		Dir: filepath.Join(d.dataDir, "raft"), Cluster: d.start.spec.Name, Name: n.Name,
		Bind: address(n.Host, n.Ports.Raft), Advertise: address(n.Host, n.Ports.Raft),
		Version: buildinfo.Version, Machine: l.machine, Secret: l.raftSecret,
		Timeouts: raftTimeouts(l.start.spec.Failover),
		Logger:   d.log.With().Str("part", "raft").Logger(),
		Listen:   func(_ context.Context, addr string) (net.Listener, error) { return netx.Listen(addr) },
		Dial:     netx.Dial,
	})
	if err != nil {
		return nil, err
	}
	if !n.Witness {
		l.host = newHost(d, l.machine.Record, l.secrets)
	}
	var local agent.Host
	var jobs agent.Worker
	var extra func(*reconcile.Report)
	if l.host != nil {
		local, jobs, extra = l.host, worker{l.host, l.depot()}, l.host.extra
	}
	l.agent = agent.New(agent.Config{
		Worker: jobs, Extra: extra,
		Name: n.Name, Incarnation: l.store.Incarnation(), Version: buildinfo.Version,
		Host: local, Upward: l, Voters: l, Limits: l.limits, Interval: reportInterval,
		Logger: d.log.With().Str("part", "agent").Logger(),
	})
	return l, nil
}

// run lives until ctx ends (nil), the node is removed (errRemoved), or something
// breaks that cannot be mended. It calls ready when requests may be sent to it.
func (l *life) run(ctx context.Context, ready func()) error {
	ctx, l.remove = context.WithCancelCause(ctx)
	defer l.remove(nil)
	l.leader = &leading{Leader: leader.New(leader.Config{
		Name: l.start.node.Name, Store: l.ledger(), Group: group{l.start.node.Name, l.store},
		Logger: l.log.With().Str("part", "leader").Logger(),
		Push:   l.push(ctx), Cluster: electorate{l}, Silence: silence, Interval: reportInterval,
	})}
	ready()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.store.Run(ctx) })
	group.Go(func() error { return l.belong(ctx) })
	group.Go(func() error { return l.store.Lead(ctx, l.lead) })
	group.Go(func() error { return l.agent.Run(ctx) })
	group.Go(func() error { return l.keepTokens(ctx) })
	group.Go(func() error { return l.tellLeaders(ctx) })
	group.Go(func() error { return l.pulse.run(ctx, l.limits) })
	if l.host != nil {
		group.Go(func() error { return l.host.serveArchive(ctx) })
	}
	if l.watch {
		group.Go(func() error { return l.watchFile(ctx) })
	}
	err := group.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errRemoved) {
		return cause
	}
	return err
}

// close ends what openLife opened. The life must not run any more.
func (l *life) close() {
	l.calls.Wait()
	if l.host != nil {
		l.host.close()
	}
	if err := l.store.Close(); err != nil && !errors.Is(err, raftstore.ErrClosed) {
		l.log.Warn().Err(err).Msg("closing the Raft store")
	}
}

func (l *life) lead(ctx context.Context) error {
	if err := l.formRecord(ctx); err != nil {
		l.log.Warn().Err(err).Msg("could not make the first record; trying again")
		sleep(ctx, time.Second)
		return &raftstore.NotLeaderError{}
	}
	l.leader.active.Store(true)
	defer l.leader.active.Store(false)
	return l.leader.Run(ctx)
}

func (l *life) ledger() ledger { return ledger{l.machine, l.store} }

func (l *life) identity() identity {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id
}

func (l *life) setIdentity(id identity) error {
	if err := id.save(l.dataDir); err != nil {
		return fmt.Errorf("keep the cluster's identity: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.id = id
	return nil
}

func (l *life) keepSystemID(system pg.SystemID) error {
	id := l.identity()
	if id.SystemID == system {
		return nil
	}
	id.SystemID = system
	return l.setIdentity(id)
}

func (l *life) peerToken() string { return l.identity().PeerToken }

func (l *life) raftSecret() []byte {
	if token := l.peerToken(); token != "" {
		return []byte(token)
	}
	return nil
}

// secrets are those of the record; false while it has not arrived.
func (l *life) secrets() (reconcile.Secrets, bool) {
	rec := l.machine.Record()
	return rec.Secrets, rec.Formed()
}

func (l *life) setReason(reason string) {
	if reason != "" && reason != l.reason.Load() {
		l.log.Info().Str("reason", reason).Msg("not a member yet")
	}
	l.reason.Store(reason)
}

// removed ends the life: the leader says that this node is no longer a member.
func (l *life) removed(why string) {
	l.log.Warn().Str("reason", why).Msg("this node was removed from the cluster")
	l.remove(errRemoved)
}

// keepTokens writes the admin token and the system identifier beside the data as
// soon as they are known.
func (l *life) keepTokens(ctx context.Context) error {
	for {
		changed := l.machine.Changed()
		if secrets, ok := l.secrets(); ok {
			if err := writeSecretFile(filepath.Join(l.dataDir, "admin.token"), secrets.AdminToken); err != nil {
				return err
			}
		}
		if id := l.machine.Record().SystemID; id != 0 {
			return l.keepSystemID(id)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// Leads is api.Forwarder's.
func (l *life) Leads() bool { return l.leader.Leads() }

// awaitLeader is where the leader's API is. While leadership changes there is none for
// a moment, which is waited for.
func (l *life) awaitLeader(ctx context.Context) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, leaderWithin)
	defer cancel()
	for {
		changed := l.store.Changed()
		name, _, known := l.store.Leader()
		if addr, ok := l.leaderAddress(); ok && known && (name != l.start.node.Name || l.Leads()) {
			return addr, true
		}
		select {
		case <-changed:
		case <-time.After(leaderPoll):
		case <-ctx.Done():
			return "", false
		}
	}
}

const (
	leaderWithin = 3 * time.Second
	leaderPoll   = 50 * time.Millisecond
)

// forwarded marks a request that has been sent on once.
const forwarded = "X-Ram-Forwarded"

// Forward is api.Forwarder's.
func (l *life) Forward(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get(forwarded) != "" {
		return false
	}
	addr, ok := l.awaitLeader(r.Context())
	if !ok {
		return false
	}
	proxy := httputil.ReverseProxy{
		Transport: l.peers.http.Transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: addr})
			p.Out.Header.Set(forwarded, l.start.node.Name)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			api.WriteError(w, api.Errorf(http.StatusServiceUnavailable, "the leader at %s does not answer: %s", addr, err))
		},
	}
	proxy.ServeHTTP(w, r)
	return true
}
