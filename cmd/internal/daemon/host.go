package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/cmd/internal/buildinfo"
	"github.com/ramhq/ram/pg"
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
	secrets       func() (reconcile.Secrets, bool)
	fallback      func() reconcile.Server // where the server is before the first assignment
	log           zerolog.Logger
	exited        chan struct{} // holds one signal at most; never closed

	mu     sync.Mutex // guards what follows
	server reconcile.Server
	pass   string // the password that inst was opened with
	inst   *instance.Instance
	// settled is the assignment up to which roles and slots were seen to.
	settled  uint64
	advanced time.Time
	// role is how the replication role was when it was looked at last.
	role     instance.RoleState
	roleSeen time.Time
	watching <-chan struct{}
	closed   chan struct{}
}

// Timings of the local server.
const (
	probeTimeout = 2 * time.Second
	stopTimeout  = time.Minute
	startTimeout = 10 * time.Minute
	loadTimeout  = 3 * time.Second
)

func newHost(d *Daemon, record func() *reconcile.Record, secrets func() (reconcile.Secrets, bool)) *host {
	return &host{
		cluster: d.start.spec.Name, name: d.start.node.Name, dataDir: d.dataDir, guard: d.opts.GuardCommand, secrets: secrets,
		log:    d.log.With().Str("part", "postgres").Logger(),
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
	l.Written = reconcile.WrittenSerial(l.Files)
	l.Loaded = serial(l.Server, reconcile.SerialSetting)
	// What was loaded had been written: files that do not say so were changed.
	if a.Serial > 0 && (l.Written == a.Serial || l.Loaded == a.Serial) {
		l.Drift = reconcile.FindDrift(a, reconcile.Paths{Passfile: inst.PasswordFile()}, l.Files)
	}
	l.Started = serial(l.Server, reconcile.StartedSetting)
	h.mu.Lock()
	l.Settled, l.Aside = h.settled, inst.HasAside()
	h.watchExit()
	h.mu.Unlock()
	h.advanceSlots(ctx, inst, l)
	l.Drift = append(l.Drift, h.roleDrift(ctx, inst, a, l)...)
	return l, nil
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

// advanceSlots lets a standby's slots follow what it has replayed, so that they
// keep WAL for a while and not for ever.
func (h *host) advanceSlots(ctx context.Context, inst *instance.Instance, l reconcile.Local) {
	h.mu.Lock()
	due := l.Server.State == pg.ServerRunning && l.Server.Recovery && time.Since(h.advanced) > advanceEvery
	if due {
		h.advanced = time.Now()
	}
	h.mu.Unlock()
	if !due {
		return
	}
	for _, s := range l.Server.Slots {
		if s.Active || s.RestartLSN == 0 || s.RestartLSN >= l.Server.ReplayLSN {
			continue
		}
		if err := inst.AdvanceSlot(ctx, s.Name, l.Server.ReplayLSN); err != nil {
			h.log.Debug().Err(err).Str("slot", s.Name).Msg("slot stays where it is")
		}
	}
}

// Do is agent.Host's.
func (h *host) Do(ctx context.Context, a reconcile.Assignment, act reconcile.Act, progress func(done, total pg.Bytes)) error {
	inst, err := h.open(ctx, a.Server)
	if err != nil {
		return err
	}
	switch act.Kind {
	case reconcile.ActInit:
		return inst.Init(ctx, instance.InitOptions{Generation: a.Generation, Files: h.files(inst, a)})
	case reconcile.ActClone:
		return h.clone(ctx, inst, a, progress)
	case reconcile.ActWrite:
		return h.write(inst, a)
	case reconcile.ActStart:
		return h.launch(ctx, inst, a)
	case reconcile.ActStop:
		return inst.Stop(ctx, guard.Fast, stopTimeout)
	case reconcile.ActReload:
		return h.reload(ctx, inst, a)
	case reconcile.ActSlots:
		return changeSlots(ctx, inst, act)
	case reconcile.ActSettle:
		return h.settle(ctx, inst, a)
	case reconcile.ActSetAside:
		aside, err := inst.SetAside(ctx, time.Now().UTC(), act.Reason)
		if err == nil && aside != "" {
			h.log.Info().Str("kept", aside).Msg("data directory set aside")
		}
		return err
	case reconcile.ActDropAside:
		return inst.RemoveAside()
	}
	return fmt.Errorf("this ramd does not know how to %q: upgrade it", act.Kind)
}

func (h *host) files(inst *instance.Instance, a reconcile.Assignment) pg.ConfigFiles {
	return reconcile.Files(a, reconcile.Paths{Passfile: inst.PasswordFile()})
}

var errNoSecrets = errors.New("the cluster's secrets have not arrived on this node yet")

func (h *host) clone(ctx context.Context, inst *instance.Instance, a reconcile.Assignment, progress func(done, total pg.Bytes)) error {
	secrets, ok := h.secrets()
	if !ok {
		return errNoSecrets
	}
	if err := h.keepPassword(inst, secrets); err != nil {
		return err
	}
	return inst.Clone(ctx, instance.CloneOptions{
		Generation: a.Generation, SystemID: a.SystemID,
		Source: pg.Conninfo{
			"host": a.Upstream.Host, "port": strconv.Itoa(a.Upstream.Port), "user": reconcile.ReplicationRole,
			"application_name": pg.ApplicationName(h.name),
		},
		Password: secrets.Replication, Slot: a.Upstream.Slot, Files: h.files(inst, a), Progress: progress,
	})
}

// launch starts the server. Its configuration may be older than the file with the
// password that it names, which is not in the data directory.
func (h *host) launch(ctx context.Context, inst *instance.Instance, a reconcile.Assignment) error {
	secrets, ok := h.secrets()
	if !ok {
		return errNoSecrets
	}
	if err := h.keepPassword(inst, secrets); err != nil {
		return err
	}
	return inst.Start(ctx, instance.StartOptions{
		Args:    map[string]string{reconcile.StartedSetting: strconv.FormatUint(a.Serial, 10)},
		Timeout: startTimeout,
	})
}

func (h *host) keepPassword(inst *instance.Instance, secrets reconcile.Secrets) error {
	return inst.KeepPassword(pg.PassfileEntry{User: reconcile.ReplicationRole, Password: secrets.Replication})
}

func (h *host) write(inst *instance.Instance, a reconcile.Assignment) error {
	secrets, ok := h.secrets()
	if !ok {
		return errNoSecrets
	}
	if err := h.keepPassword(inst, secrets); err != nil {
		return err
	}
	return inst.WriteConfig(h.files(inst, a))
}

// reload has the server read its files, and waits until a session shows that it has.
func (h *host) reload(ctx context.Context, inst *instance.Instance, a reconcile.Assignment) error {
	if err := inst.Reload(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	for {
		server, err := inst.Probe(ctx, reconcile.WatchedSettings())
		if err == nil && serial(server, reconcile.SerialSetting) == a.Serial {
			return nil
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("PostgreSQL does not take the new configuration: see %s", inst.LogFile())
		}
	}
}

func changeSlots(ctx context.Context, inst *instance.Instance, act reconcile.Act) error {
	for _, name := range act.Drop {
		if err := dropSlot(ctx, inst, name); err != nil {
			return err
		}
	}
	for _, name := range act.Create {
		if err := inst.CreateSlot(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// dropSlot drops a slot that no member is to use any more. The server of a node that
// was removed while its ramd was down may go on streaming through it, and comes
// back whenever it is cut off: cutting and dropping are tried until they meet.
func dropSlot(ctx context.Context, inst *instance.Instance, name string) error {
	for range 20 {
		if err := inst.DropSlot(ctx, name); !errors.Is(err, instance.ErrSlotActive) {
			return err
		}
		if err := inst.FreeSlot(ctx, name); err != nil {
			return err
		}
		sleep(ctx, 10*time.Millisecond) // its process takes a moment to end
	}
	return inst.DropSlot(ctx, name)
}

func (h *host) settle(ctx context.Context, inst *instance.Instance, a reconcile.Assignment) error {
	secrets, ok := h.secrets()
	if !ok {
		return errNoSecrets
	}
	if a.Role == reconcile.RolePrimary {
		if err := inst.EnsureReplicationRole(ctx, reconcile.ReplicationRole, secrets.Replication); err != nil {
			return err
		}
		h.sawRole(instance.RoleRight)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = a.Serial
	return nil
}

// stopServer stops PostgreSQL because the operator wants the whole node stopped.
func (h *host) stopServer(ctx context.Context) error {
	inst, err := h.open(ctx, reconcile.Server{})
	if err != nil {
		return err
	}
	return inst.Stop(ctx, guard.Fast, stopTimeout)
}

// retire stops PostgreSQL and sets its data aside after this node was removed
// without being asked. Data of another cluster is not touched.
func (h *host) retire(ctx context.Context, id pg.SystemID) {
	a := reconcile.Assignment{Role: reconcile.RoleRetired, Serial: 1, SystemID: id}
	for ctx.Err() == nil {
		l, err := h.Look(ctx, a)
		if err == nil {
			if l.Data.State == pg.DirCluster && (id == 0 || l.Data.SystemID != id) {
				h.log.Warn().Stringer("system_id", l.Data.SystemID).Msg("the data directory is not known to be this cluster's, and left as it is")
				return
			}
			act := reconcile.NextAct(a, l)
			if act.Kind == reconcile.ActNone {
				return
			}
			err = h.Do(ctx, a, act, func(_, _ pg.Bytes) {})
		}
		if err != nil {
			h.log.Warn().Err(err).Msg("could not retire PostgreSQL; trying again")
			sleep(ctx, time.Second)
		}
	}
}
