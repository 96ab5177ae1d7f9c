package daemon

import (
	"context"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/reconcile"
)

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
