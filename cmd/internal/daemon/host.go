package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/cmd/internal/buildinfo"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup/wal"
	"github.com/ramhq/ram/pg/guard"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// host is the local PostgreSQL as the agent wants it.
type host struct {
	cluster, name string
	dataDir       string // ramd's
	guard         []string
	watchdog      string
	secrets       func() (reconcile.Secrets, bool)
	fallback      func() reconcile.Server // where the server is before the first assignment
	log           zerolog.Logger
	depot         depot
	exited        chan struct{} // holds one signal at most; never closed

	mu     sync.Mutex // guards what follows
	server reconcile.Server
	pass   string // the password that inst was opened with
	inst   *instance.Instance
	// settled is the assignment up to which roles and slots were seen to, recalled is set
	// once an earlier ramd's note of it was looked for, pid is the server's.
	settled  uint64
	recalled bool
	pid      int
	advanced time.Time
	// kept is from where on the primary keeps WAL for its slots.
	kept map[string]pg.LSN
	// role is how the replication role was when it was looked at last.
	role     instance.RoleState
	roleSeen time.Time
	watching <-chan struct{}
	closed   chan struct{}
	// lease is what was confirmed last, for the server that is to be started.
	lease lease
	// sync is the synchronous_standby_names that was seen last, syncSince what
	// Report.SyncSince says of it.
	sync     string
	syncSeen bool
	// assigned is what the agent acted on last, stopping is set while it stops the server.
	assigned reconcile.Assignment
	stopping bool
	// archive is nil until it runs; apart is since when the server has received no WAL.
	archive   *archive
	apart     time.Time
	syncSince pg.LSN
}

// lease is a term that was confirmed, until a moment.
type lease struct {
	term  uint64
	until time.Time
}

// Timings of the local server.
const (
	probeTimeout = 2 * time.Second
	stopTimeout  = time.Minute
	// handOverTimeout is short: nobody can write meanwhile.
	handOverTimeout = 10 * time.Second
	startTimeout    = 10 * time.Minute
	loadTimeout     = 3 * time.Second
)

func newHost(d *Daemon, record func() *reconcile.Record, secrets func() (reconcile.Secrets, bool)) *host {
	return &host{
		cluster: d.start.spec.Name, name: d.start.node.Name, dataDir: d.dataDir, guard: d.opts.GuardCommand, watchdog: d.opts.Watchdog, secrets: secrets,
		log:    d.log.With().Str("part", "postgres").Logger(),
		depot:  depot{record, d.dataDir},
		exited: make(chan struct{}, 1), closed: make(chan struct{}),
		fallback: func() reconcile.Server {
			// The spec in force may have been corrected since the start.
			if c := record().Spec; c != nil {
				if n, ok := c.Node(d.start.node.Name); ok && !n.Witness {
					return serverOf(c, n)
				}
			}
			return serverOf(d.start.spec, d.start.node)
		},
	}
}

func serverOf(c *spec.Cluster, n spec.Node) reconcile.Server {
	return reconcile.Server{
		Version: c.Postgres.Version, BinDir: c.Postgres.BinDir, User: c.Postgres.User,
		DataDir: n.DataDir, Host: n.Host, Port: n.Ports.Postgres,
	}
}

func (h *host) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.closed)
	if h.inst != nil {
		h.inst.Close()
	}
}

// Exited is agent.Host's.
func (h *host) Exited() <-chan struct{} { return h.exited }

// open is the instance for an assignment. While a server runs it stays the one
// that the server was started with, since only that one can stop it.
func (h *host) open(ctx context.Context, want reconcile.Server) (*instance.Instance, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if want == (reconcile.Server{}) {
		want = h.fallback()
	}
	secrets, _ := h.secrets()
	if h.inst != nil && h.server == want && h.pass == secrets.Superuser {
		return h.inst, nil
	}
	if h.inst != nil && h.pass == secrets.Superuser {
		if server, err := h.inst.Probe(ctx, nil); err == nil && server.State != pg.ServerStopped {
			return h.inst, nil
		}
	}
	dir := want.DataDir
	if dir == "" {
		dir = filepath.Join(h.dataDir, "postgres")
	}
	inst, err := instance.Open(instance.Config{
		Cluster: h.cluster, Name: h.name, Major: want.Version, BinDir: want.BinDir, User: want.User,
		DataDir: dir, StateDir: h.dataDir, Host: want.Host, Port: want.Port,
		SuperuserPassword: secrets.Superuser, GuardCommand: h.guard, Version: buildinfo.Version, Logger: h.log,
	})
	if err != nil {
		return nil, err
	}
	if h.inst != nil {
		h.inst.Close()
	}
	h.inst, h.server, h.pass = inst, want, secrets.Superuser
	if err := inst.Attach(ctx); err != nil {
		h.log.Warn().Err(err).Msg("could not attach to the guard of the running server")
	}
	h.watchExit()
	return inst, nil
}

// watchExit signals Exited when the server that now runs has ended. It is called
// with mu held.
func (h *host) watchExit() {
	ended := h.inst.Exited()
	if ended == nil || ended == h.watching {
		return
	}
	h.watching = ended
	go func() {
		select {
		case <-ended:
			select {
			case h.exited <- struct{}{}:
			default:
			}
		case <-h.closed:
		}
	}()
}

// Look is agent.Host's.
func (h *host) Look(ctx context.Context, a reconcile.Assignment) (reconcile.Local, error) {
	var l reconcile.Local
	inst, err := h.open(ctx, a.Server)
	if err != nil {
		return l, err
	}
	probe, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	l.Server, err = inst.Probe(probe, reconcile.WatchedSettings())
	if lost := l.Server.State == pg.ServerHung && !l.Server.Guarded; err != nil && !lost {
		// A server whose guard and socket are lost, as by an rm -r, cannot tell more.
		return l, err
	}
	if l.Data, err = inst.Inspect(ctx); err != nil {
		return l, err
	}
	if l.Data.State == pg.DirCluster {
		if l.Files, err = inst.ReadConfig(); err != nil {
			return l, err
		}
	}
	if l.Launched, err = inst.Launched(); err != nil {
		return l, err
	}
	l.SyncSince = h.syncMark(ctx, inst, l.Server)
	l.Written = reconcile.WrittenSerial(l.Files)
	l.Loaded = serial(l.Server, reconcile.SerialSetting)
	// What was loaded had been written: files that do not say so were changed.
	if a.Serial > 0 && (l.Written == a.Serial || l.Loaded == a.Serial) {
		l.Drift = reconcile.FindDrift(a, h.paths(inst, a, l), l.Files)
	}
	l.Started = serial(l.Server, reconcile.StartedSetting)
	h.recallSettled(l)
	h.mu.Lock()
	l.Settled, l.Aside = h.settled, inst.HasAside()
	h.watchExit()
	h.mu.Unlock()
	h.advanceSlots(ctx, inst, l)
	l.Drift = append(l.Drift, h.roleDrift(ctx, inst, a, l)...)
	h.tendArchive(a, l)
	return l, nil
}

// settledNote says which assignment a server was settled for, so that a ramd that was
// started again has nothing to settle on a server that ran on.
type settledNote struct {
	Serial uint64 `json:"serial"`
	PID    int    `json:"pid"`
}

func (h *host) settledPath() string { return filepath.Join(h.dataDir, "settled.json") }

// setSettled notes that all is as an assignment has it. The note only saves work: it
// need not survive a crash of the host. Of a promise there is none, since each ramd
// makes it anew.
func (h *host) setSettled(a reconcile.Assignment) {
	h.mu.Lock()
	h.settled = a.Serial
	note := settledNote{a.Serial, h.pid}
	h.mu.Unlock()
	if a.Frozen() {
		note = settledNote{}
	}
	text, err := json.Marshal(note)
	if err == nil {
		err = renameio.WriteFile(h.settledPath(), append(text, '\n'), 0o600)
	}
	if err != nil {
		h.log.Debug().Err(err).Msg("what was settled is not noted")
	}
}

// recallSettled reads the note once.
func (h *host) recallSettled(l reconcile.Local) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pid = l.Server.PID
	if h.recalled {
		return
	}
	h.recalled = true
	var note settledNote
	text, err := os.ReadFile(h.settledPath())
	if err != nil || json.Unmarshal(text, &note) != nil {
		return
	}
	if h.settled == 0 && note.PID == l.Server.PID && note.PID != 0 && note.Serial == l.Loaded {
		h.settled = note.Serial
	}
}

// paths are what only this host knows of an assignment's files.
func (h *host) paths(inst *instance.Instance, a reconcile.Assignment, l reconcile.Local) reconcile.Paths {
	promoted := l.Server.State == pg.ServerRunning && !l.Server.Recovery || l.Data.WasPrimary()
	p := h.ownPaths(inst)
	p.Promoting = a.Role == reconcile.RolePrimary && l.Data.Standby && !promoted
	return p
}

// ownPaths are those that are the same whatever the host has been seen to do.
func (h *host) ownPaths(inst *instance.Instance) reconcile.Paths {
	run := h.runDir()
	return reconcile.Paths{
		Passfile:       inst.PasswordFile(),
		ArchiveCommand: wal.ArchiveCommand(h.program(), filepath.Join(run, walSocket), filepath.Join(run, walAhead)),
		RestoreCommand: wal.RestoreCommand(h.program(), filepath.Join(run, walSocket), filepath.Join(run, walGate)),
	}
}

// syncMark is the end of WAL when a fresh session first showed the sync set that a
// primary runs. That it does shows that every walsender has been told.
func (h *host) syncMark(ctx context.Context, inst *instance.Instance, s pg.Server) pg.LSN {
	names := s.Settings[syncNames]
	writes := s.State == pg.ServerRunning && !s.Recovery
	h.mu.Lock()
	known, since := writes && h.sync == names, h.syncSince
	fromNone := h.sync == "" && h.syncSeen && names != ""
	h.mu.Unlock()
	if known && since != 0 {
		return since
	}
	since = 0
	if writes {
		shown, end, err := inst.FreshSync(ctx, fromNone)
		if err != nil {
			h.log.Debug().Err(err).Msg("could not see which sync set is in force")
		}
		if err == nil && shown == names {
			since = end
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.State != pg.ServerRunning {
		names = "" // it will start to wait for standbys anew
	}
	h.syncSeen = true
	if since != 0 || !writes {
		h.sync, h.syncSince = names, since
	}
	return since
}

const syncNames = "synchronous_standby_names"

// Renew is agent.Host's.
func (h *host) Renew(ctx context.Context, term uint64, ttl time.Duration) error {
	h.mu.Lock()
	h.lease = lease{term, time.Now().Add(ttl)}
	inst := h.inst
	h.mu.Unlock()
	if inst == nil {
		return nil
	}
	err := inst.Renew(ctx, term, ttl)
	if errors.Is(err, guard.ErrNotRunning) {
		return nil // the server that is about to be started begins with it
	}
	return err
}

// unlimited is longer than any server runs.
const unlimited = 10 * 365 * 24 * time.Hour

// release lets the primary here go on until a ramd is back, which gives it a lease again.
func (h *host) release(ctx context.Context) {
	h.mu.Lock()
	term, inst := h.lease.term, h.inst
	h.mu.Unlock()
	if inst == nil || term == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := inst.Renew(ctx, term, unlimited)
	if err != nil && !errors.Is(err, guard.ErrNotRunning) {
		h.log.Warn().Err(err).Msg("PostgreSQL ends when its lease does, unless ramd is back before")
	}
}

// Check is agent.Host's. A server that refuses answers.
func (h *host) Check(ctx context.Context) error {
	h.mu.Lock()
	inst := h.inst
	h.mu.Unlock()
	if inst == nil {
		return nil
	}
	err := inst.WriteProbe(ctx)
	if ctx.Err() == nil {
		return nil
	}
	return err
}

func serial(s pg.Server, setting string) uint64 {
	n, err := strconv.ParseUint(s.Settings[setting], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// roleEvery is how often the primary looks whether standbys can still log in.
const roleEvery = 10 * time.Second

// roleDrift is a replication role that somebody dropped or changed on a primary
// that was settled.
func (h *host) roleDrift(ctx context.Context, inst *instance.Instance, a reconcile.Assignment, l reconcile.Local) []reconcile.Drift {
	if a.Role != reconcile.RolePrimary || l.Server.State != pg.ServerRunning || l.Server.Recovery || l.Settled < a.Serial {
		return nil
	}
	h.mu.Lock()
	due := time.Since(h.roleSeen) > roleEvery
	h.mu.Unlock()
	if secrets, ok := h.secrets(); due && ok {
		role, err := inst.ReplicationRole(ctx, reconcile.ReplicationRole, secrets.Replication)
		if err != nil {
			h.log.Debug().Err(err).Msg("could not look at the replication role")
			role = instance.RoleRight
		}
		h.sawRole(role)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.role == "" || h.role == instance.RoleRight {
		return nil
	}
	return []reconcile.Drift{{
		Where: "role", Name: reconcile.ReplicationRole, Have: string(h.role), Want: string(instance.RoleRight),
	}}
}

func (h *host) sawRole(role instance.RoleState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.role, h.roleSeen = role, time.Now()
}

// advanceEvery is how often a standby moves the slots that it keeps for the others.
const advanceEvery = 10 * time.Second

// keep takes what the primary's slots keep.
func (h *host) keep(kept map[string]pg.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = kept
}

// advanceSlots lets a standby's slots follow those of the primary, so that whoever
// becomes the primary has the WAL that the others need and no more. The former
// primary, which has no slot of its own there, gets what it lacks by a rewind.
func (h *host) advanceSlots(ctx context.Context, inst *instance.Instance, l reconcile.Local) {
	h.mu.Lock()
	due := l.Server.State == pg.ServerRunning && l.Server.Recovery && time.Since(h.advanced) > advanceEvery
	due = due && len(h.kept) > 0
	if due {
		h.advanced = time.Now()
	}
	kept := h.kept
	h.mu.Unlock()
	if !due {
		return
	}
	for _, s := range l.Server.Slots {
		to := l.Server.ReplayLSN
		if least, ok := kept[s.Name]; ok {
			to = min(to, least)
		}
		if s.Active || s.RestartLSN == 0 || s.RestartLSN >= to {
			continue
		}
		if err := inst.AdvanceSlot(ctx, s.Name, to); err != nil {
			h.log.Debug().Err(err).Str("slot", s.Name).Msg("slot stays where it is")
		}
	}
}
