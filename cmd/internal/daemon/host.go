package daemon

import (
	"context"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/cmd/internal/buildinfo"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup/wal"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// host is the local PostgreSQL as the agent wants it.
type host struct {
	cluster, name string
	dataDir       string // ramd's
	guard, env    []string
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
		cluster: d.start.spec.Name, name: d.start.node.Name, dataDir: d.dataDir, guard: d.opts.GuardCommand, env: d.opts.Env, watchdog: d.opts.Watchdog, secrets: secrets,
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
		SuperuserPassword: secrets.Superuser, GuardCommand: h.guard, Env: h.env, Version: buildinfo.Version, Logger: h.log,
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

func serial(s pg.Server, setting string) uint64 {
	n, err := strconv.ParseUint(s.Settings[setting], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
