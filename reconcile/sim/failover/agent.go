package failover

import (
	"slices"
	"strconv"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// daemon has a host's ramd do some of what it could do now.
func (w *World) daemon(h *host) {
	r := h.ramd
	if now := h.clock(); now-r.told >= 100*time.Millisecond || w.chance(10) {
		r.told = now
		h.tell()
	}
	h.beatVoters()
	if w.chance(50) {
		h.act()
	}
	if r.leads != nil && w.chance(40) {
		w.round(h)
	}
}

func (h *host) paths() reconcile.Paths {
	return reconcile.Paths{Promoting: h.ramd.assignment.Role == reconcile.RolePrimary && h.disk.files.Standby}
}

// files are the configuration of the host's assignment.
func (h *host) files() pg.ConfigFiles {
	f := reconcile.Files(h.ramd.assignment, h.paths())
	if h.w.bend.Files != nil {
		h.w.bend.Files(h.last, &f)
	}
	return f
}

// local is what the agent sees on its host.
func (h *host) local() reconcile.Local {
	l := reconcile.Local{
		Data: h.data(), Server: h.look(), Files: h.disk.files,
		Settled: h.ramd.settled, Launched: h.launched, SyncSince: h.seesSync(),
	}
	if h.disk.state == pg.DirCluster {
		l.Written = h.written()
		if a := h.ramd.assignment; l.Written == a.Serial && h.disk.files.Standby != (a.Role == reconcile.RoleStandby || h.paths().Promoting) {
			l.Drift = []reconcile.Drift{{Where: "file", Name: "standby.signal"}}
		}
	}
	if h.server != nil && l.Server.State == pg.ServerRunning {
		l.Loaded = number(h.server.conf[reconcile.SerialSetting])
		l.Started = number(h.server.conf[reconcile.StartedSetting])
	}
	return l
}

// written is the serial in the files; it is read again when they have changed.
func (h *host) written() uint64 {
	if h.read.text != h.disk.files.Managed {
		h.read.text, h.read.serial = h.disk.files.Managed, reconcile.WrittenSerial(h.disk.files)
	}
	return h.read.serial
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // absent means zero
	return n
}

func (h *host) data() pg.DataDirectory {
	if h.disk.state != pg.DirCluster {
		return pg.DataDirectory{State: pg.DirAbsent}
	}
	d := &h.disk
	return pg.DataDirectory{
		State: pg.DirCluster, Version: major, SystemID: system, Generation: d.generation, Timeline: d.timeline(),
		ControlState: d.control, Checkpoint: d.checkpoint, BackupLabel: d.label, Standby: d.files.Standby,
		Follows: d.follows, Rewinding: d.rewinding,
	}
}

// seesSync is where WAL ended at the first look after the one in which the primary
// was first seen to run its sync set, and its checkpointer to have read it.
func (h *host) seesSync() pg.LSN {
	s, seen := h.server, &h.ramd.synced
	if !s.writable() || s.stopped {
		return 0
	}
	switch {
	case seen.server != s || seen.names != s.conf[names]:
		*seen = synced{server: s, names: s.conf[names]}
	case seen.since == 0 && (!s.unloaded || h.w.bend.NoCheckpoint):
		seen.since = lsn(h.disk.flushed)
	}
	return seen.since
}

// tell reports to somebody who believes that he leads.
func (h *host) tell() {
	var leaders []string
	for _, o := range h.w.hosts {
		if o.ramd != nil && o.ramd.leads != nil {
			leaders = append(leaders, o.name)
		}
	}
	if len(leaders) == 0 {
		return
	}
	r := h.report()
	h.w.send(message{from: h.name, to: leaders[h.w.random.IntN(len(leaders))], report: &r, asked: h.clock()})
}

func (h *host) report() reconcile.Report {
	l := h.local()
	r := reconcile.Report{
		Node: h.name, Incarnation: h.name, Serial: h.ramd.assignment.Serial, Settled: l.Settled,
		Data: l.Data, Server: l.Server, Written: l.Written, Loaded: l.Loaded, Started: l.Started,
		Launched: l.Launched, SyncSince: l.SyncSince, Drift: l.Drift, Problem: h.ramd.problem,
		Retired: h.ramd.assignment.Role == reconcile.RoleRetired && h.disk.state != pg.DirCluster && h.server == nil,
	}
	if b := h.ramd.busy; b != nil {
		r.Activity = &reconcile.Activity{Step: b.act.Step}
	}
	if h.w.bend.PositionBeforeFreeze && h.ramd.frozenAt != 0 && h.ramd.assignment.Frozen() {
		r.Server.LSN = h.ramd.frozenAt
	}
	return r
}

// hearAnswer takes an assignment as the agent does: never one of a term or a serial
// below what the host's disk says was promised.
func (h *host) hearAnswer(m message) {
	a, r := m.answer.assignment, h.ramd
	if a.Serial == 0 {
		return
	}
	if !h.w.bend.ForgetsPromise && (a.Term < h.promised.term || a.Serial < h.promised.serial) {
		return
	}
	if r.confirmed && a.Serial < r.assignment.Serial {
		return
	}
	h.promised.term, h.promised.serial, h.last = a.Term, a.Serial, a
	r.heard = true
	if a.Serial != r.assignment.Serial {
		r.problem = nil
		if r.busy != nil && (a.Role != r.assignment.Role || a.Generation != r.assignment.Generation || a.Term != r.assignment.Term || a.Frozen() != r.assignment.Frozen()) {
			r.busy = nil
		}
	}
	r.assignment, r.hold, r.confirmed = a, m.answer.hold, true
	if m.answer.verified && a.Role == reconcile.RolePrimary && m.asked != 0 {
		h.extend(a.Term, m.asked)
	}
}

// act has the agent do its next act, or a part of it.
func (h *host) act() {
	r, w := h.ramd, h.w
	if !r.confirmed || r.hold {
		return
	}
	if r.busy != nil {
		if r.busy.left--; r.busy.left <= 0 {
			b := r.busy
			r.busy = nil
			h.finish(b.act)
		}
		return
	}
	act := reconcile.NextAct(r.assignment, h.local())
	if act.Kind != reconcile.ActNone && !r.heard {
		w.breaks("S4: %s: %s for %d, and no leader has said so", h.name, act.Kind, r.assignment.Serial)
	}
	switch act.Kind {
	case reconcile.ActNone:
		r.problem = nil
		return
	case reconcile.ActFail:
		r.problem = &reconcile.Problem{Step: act.Step, Text: act.Reason, Attempts: 1}
		return
	case reconcile.ActStart, reconcile.ActPromote:
		if r.assignment.Role == reconcile.RolePrimary && !h.leased() {
			return
		}
	case reconcile.ActInit, reconcile.ActClone, reconcile.ActRewind:
		if act.Kind == reconcile.ActRewind {
			if w.source(h) == nil {
				r.problem = &reconcile.Problem{Step: act.Step, Text: "the upstream does not answer", Attempts: 1}
				return
			}
			h.disk.rewinding = true
		}
		w.note("%s: begins to %s for %d", h.name, act.Kind, r.assignment.Serial)
		r.busy = &busy{act: act, left: 1 + w.random.IntN(8)}
		return
	}
	w.note("%s: %s for %d (%s)", h.name, act.Kind, r.assignment.Serial, act.Reason)
	r.problem = nil
	h.perform(act)
}

// leased reports whether the agent holds a lease for the term of its assignment.
func (h *host) leased() bool {
	l := h.ramd.lease
	return l.term == h.ramd.assignment.Term && h.clock() < l.until
}

// perform does an act that is over at once, or that goes on without the agent.
func (h *host) perform(act reconcile.Act) {
	r, w, s := h.ramd, h.w, h.server
	switch act.Kind {
	case reconcile.ActWrite:
		h.disk.files = h.files()
	case reconcile.ActStart:
		h.guard = &guard{}
		if r.assignment.Role == reconcile.RolePrimary {
			h.launched, h.guard.lease = r.assignment.Serial, r.lease
		}
		// A server that starts flushes and reads all WAL that is there, also what a
		// walreceiver had only written when it was killed.
		h.disk.flushed = len(h.disk.wal)
		h.boot(r.assignment.Serial)
	case reconcile.ActStop:
		s.stopping = w.now + tick*time.Duration(1+w.random.IntN(5))
	case reconcile.ActFence:
		// Killed sessions acknowledge nothing, but are there for a moment.
		s.stopping, s.senders, s.waiting = w.now+tick*time.Duration(1+w.random.IntN(3)), nil, nil
	case reconcile.ActHandOver:
		s.handing = true
	case reconcile.ActReload:
		s.load(h.disk.files)
	case reconcile.ActFreeze:
		r.frozenAt = lsn(h.disk.flushed / 2)
		s.load(h.disk.files)
		if h.w.bend.Files == nil {
			h.endReceiver()
		}
		r.settled = r.assignment.Serial
	case reconcile.ActPromote:
		h.launched, h.guard.lease = r.assignment.Serial, r.lease
		if s.promoting == 0 {
			s.begins = r.assignment.Timeline
			s.promoting = w.now + tick*time.Duration(1+w.random.IntN(5))
		}
	case reconcile.ActSlots:
		h.changeSlots(act)
	case reconcile.ActSettle:
		r.settled = r.assignment.Serial
	case reconcile.ActSetAside:
		h.disk = disk{}
	}
}

func (h *host) changeSlots(act reconcile.Act) {
	if h.disk.slots == nil {
		h.disk.slots = map[string]bool{}
	}
	for _, name := range act.Drop {
		delete(h.disk.slots, name)
	}
	for _, name := range act.Create {
		h.disk.slots[name] = true
	}
}

// finish is the end of an act that took a while.
func (h *host) finish(act reconcile.Act) {
	r, w := h.ramd, h.w
	if act.Kind == reconcile.ActInit {
		h.disk = disk{state: pg.DirCluster, generation: r.assignment.Generation, line: []branch{{1, 0}}}
		w.append(h)
		return
	}
	up := w.source(h)
	if up == nil {
		r.problem = &reconcile.Problem{Step: act.Step, Text: "the upstream does not answer", Attempts: 1}
		if act.Kind == reconcile.ActRewind {
			h.disk.rewinding = false // it had not begun to write
		}
		return
	}
	d, from := &h.disk, &up.disk
	if act.Kind == reconcile.ActRewind && (d.timeline() == from.timeline() || w.bend.NoRewind) {
		// pg_rewind compares numbers: no rewind required.
		d.rewinding, d.follows = false, r.assignment.Term
		d.control = "in archive recovery"
		w.note("%s: no rewind required", h.name)
		return
	}
	if act.Kind == reconcile.ActClone {
		*d = disk{state: pg.DirCluster, generation: r.assignment.Generation, label: true}
	}
	d.wal, d.line = slices.Clip(from.wal[:from.flushed]), slices.Clip(from.line)
	d.flushed, d.files, d.rewinding = from.flushed, from.files, false
	d.control = "in archive recovery"
	if act.Kind == reconcile.ActRewind {
		d.follows = r.assignment.Term
	}
	w.note("%s: %s is done, %s of timeline %d", h.name, act.Kind, lsn(d.flushed), d.timeline())
}

// source is the upstream that a copy or a rewind reads; nil when it does not answer.
func (w *World) source(h *host) *host {
	u := h.ramd.assignment.Upstream
	if u == nil {
		return nil
	}
	up := w.names[u.Node]
	if up.server == nil || up.server.stopped || !up.server.postmaster || !up.server.writable() || !w.talks(h.name, up.name) {
		return nil
	}
	return up
}
