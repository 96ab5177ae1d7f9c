package daemon

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/agent"
)

// Do is agent.Host's.
func (h *host) Do(ctx context.Context, a reconcile.Assignment, act reconcile.Act, progress func(done, total pg.Bytes)) error {
	inst, err := h.open(ctx, a.Server)
	if err != nil {
		return err
	}
	h.setStopping(act.Kind == reconcile.ActStop || act.Kind == reconcile.ActHandOver || act.Kind == reconcile.ActFence)
	defer h.setStopping(false)
	switch act.Kind {
	case reconcile.ActInit:
		return inst.Init(ctx, instance.InitOptions{Generation: a.Generation, Files: h.files(inst, a)})
	case reconcile.ActClone:
		return h.clone(ctx, inst, a, progress)
	case reconcile.ActRestore:
		return h.restore(ctx, inst, a, progress)
	case reconcile.ActWrite:
		return h.write(ctx, inst, a)
	case reconcile.ActStart:
		return h.launch(ctx, inst, a)
	case reconcile.ActStop:
		return inst.Stop(ctx, guard.Fast, stopTimeout)
	case reconcile.ActReload:
		return h.reload(ctx, inst, a)
	case reconcile.ActFence:
		return inst.KillTree(ctx)
	case reconcile.ActHandOver:
		return h.handOver(ctx, inst)
	case reconcile.ActFreeze:
		return h.freeze(ctx, inst, a)
	case reconcile.ActPromote:
		return h.promote(ctx, inst, a)
	case reconcile.ActRewind:
		return h.rewind(ctx, inst, a, progress)
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
	return reconcile.Files(a, h.ownPaths(inst))
}

// handOver shuts a primary down in order, after a checkpoint that takes the writing
// out of the time in which nobody can write.
func (h *host) handOver(ctx context.Context, inst *instance.Instance) error {
	if err := inst.Checkpoint(ctx); err != nil {
		h.log.Warn().Err(err).Msg("no checkpoint before the shutdown")
	}
	return inst.Stop(ctx, guard.Fast, handOverTimeout)
}

func (h *host) freeze(ctx context.Context, inst *instance.Instance, a reconcile.Assignment) error {
	frozen, err := inst.Freeze(ctx)
	if err != nil {
		return err
	}
	h.log.Info().Stringer("lsn", frozen.LSN).Uint32("timeline", uint32(frozen.Timeline)).Bool("complete", frozen.Complete).
		Uint64("term", a.Term).Msg("frozen")
	h.setSettled(a)
	return nil
}

func (h *host) promote(ctx context.Context, inst *instance.Instance, a reconcile.Assignment) error {
	if err := inst.NoteLaunch(a.Serial); err != nil {
		return err
	}
	if err := inst.ReserveTimelines(a.Timeline); err != nil {
		return err
	}
	return inst.Promote(ctx)
}

func (h *host) rewind(ctx context.Context, inst *instance.Instance, a reconcile.Assignment, progress func(done, total pg.Bytes)) error {
	secrets, ok := h.secrets()
	if !ok {
		return errNoSecrets
	}
	restoreWAL, shut := h.openArchive()
	defer shut()
	err := inst.Rewind(ctx, instance.RewindOptions{
		RestoreWAL: restoreWAL,
		Source: pg.Conninfo{
			"host": a.Upstream.Host, "port": strconv.Itoa(a.Upstream.Port), "user": reconcile.SuperuserRole,
			"dbname": "postgres", "application_name": "ramd", "connect_timeout": "5",
		},
		Password: secrets.Superuser, Generation: a.Generation, Term: a.Term, Progress: progress,
	})
	if errors.Is(err, instance.ErrRewindImpossible) {
		return fmt.Errorf("%w: %w", agent.ErrImpossible, err)
	}
	return err
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
func (h *host) launch(ctx context.Context, inst *instance.Instance, a reconcile.Assignment) (err error) {
	secrets, ok := h.secrets()
	if !ok {
		return errNoSecrets
	}
	if err = h.keepPassword(inst, secrets); err != nil {
		return err
	}
	options := instance.StartOptions{
		Args:    map[string]string{reconcile.StartedSetting: strconv.FormatUint(a.Serial, 10)},
		Timeout: startTimeout,
	}
	options.Watchdog = h.watchdog
	if a.Role == reconcile.RolePrimary {
		if options.Lease, options.Term, err = h.leaseFor(a.Term); err != nil {
			return err
		}
		if err := inst.NoteLaunch(a.Serial); err != nil {
			return err
		}
	}
	return inst.Start(ctx, options)
}

// leaseFor is what is left of the lease that was confirmed for a term.
func (h *host) leaseFor(term uint64) (time.Duration, uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := time.Until(h.lease.until)
	if h.lease.term != term || left <= 0 {
		return 0, 0, fmt.Errorf("no lease of term %d is confirmed", term)
	}
	return left, term, nil
}

func (h *host) keepPassword(inst *instance.Instance, secrets reconcile.Secrets) error {
	return inst.KeepPassword(pg.PassfileEntry{User: reconcile.ReplicationRole, Password: secrets.Replication})
}

func (h *host) write(ctx context.Context, inst *instance.Instance, a reconcile.Assignment) error {
	local, err := h.Look(ctx, a)
	if err != nil {
		return err
	}
	secrets, ok := h.secrets()
	if !ok {
		return errNoSecrets
	}
	if err := h.keepPassword(inst, secrets); err != nil {
		return err
	}
	return inst.WriteConfig(reconcile.Files(a, h.paths(inst, a, local)))
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
	h.setSettled(a)
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
