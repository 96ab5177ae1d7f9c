package sim

import (
	"fmt"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// host is one machine: a disk, perhaps a server, perhaps a ramd.
type host struct {
	name, addr  string
	incarnation int
	disk        disk
	aside       []disk // copies that a clone replaced
	removed     []disk // copies put aside for good
	server      *server
	// launched is the note of the last start, or promotion, as a primary: it is on
	// the host's disk.
	launched uint64

	// ramd is set while the daemon runs; what follows it is its memory.
	ramd       bool
	cut        bool // neither reports nor answers get through
	confirmed  bool
	assignment reconcile.Assignment
	settled    uint64
	synced     synced
	problem    *reconcile.Problem
	busy       *busy
	seen       seen
}

// seen is what was made of the files when they were last read.
type seen struct {
	files   pg.ConfigFiles
	serial  uint64
	written uint64
	drift   []reconcile.Drift
}

// synced is what an agent has seen of the sync set that its primary runs.
type synced struct {
	names string
	known bool
	since pg.LSN
}

// busy is an act that takes several events.
type busy struct {
	act  reconcile.Act
	left int
}

func (h *host) id() string { return fmt.Sprintf("%s-%d", h.name, h.incarnation) }

func (h *host) paths() reconcile.Paths {
	return reconcile.Paths{
		Passfile:  "/etc/" + h.name,
		Promoting: h.assignment.Role == reconcile.RolePrimary && h.disk.files.Standby,
	}
}

// stopRamd ends the daemon in whatever it does; PostgreSQL goes on.
func (h *host) stopRamd() {
	h.ramd, h.confirmed, h.assignment = false, false, reconcile.Assignment{}
	h.settled, h.synced, h.problem, h.busy = 0, synced{}, nil, nil
}

// local is what the agent sees on its host.
func (h *host) local() reconcile.Local {
	l := reconcile.Local{
		Data: h.data(), Server: h.look(), Files: h.disk.files, Aside: len(h.aside) > 0,
		Settled: h.settled, Launched: h.launched, SyncSince: h.seesSync(),
	}
	if h.disk.state == pg.DirCluster {
		h.read()
		l.Written, l.Drift = h.seen.written, h.seen.drift
	}
	if h.server != nil {
		l.Loaded = h.server.serial(reconcile.SerialSetting)
		l.Started = h.server.serial(reconcile.StartedSetting)
	}
	return l
}

// seesSync is where WAL ended at the first look after the one in which the primary
// was first seen to run its present sync set.
func (h *host) seesSync() pg.LSN {
	if h.server == nil || h.server.recovery {
		h.synced = synced{}
		return 0
	}
	names := h.server.settings["synchronous_standby_names"]
	switch {
	case !h.synced.known || h.synced.names != names:
		h.synced = synced{names: names, known: true}
	case h.synced.since == 0:
		h.synced.since = h.disk.lsn
	}
	return h.synced.since
}

// read looks at the files again when they or the assignment have changed.
func (h *host) read() {
	key := seen{files: h.disk.files, serial: h.assignment.Serial}
	if h.seen.files == key.files && h.seen.serial == key.serial {
		return
	}
	key.written = reconcile.WrittenSerial(h.disk.files)
	if key.written == h.assignment.Serial {
		key.drift = reconcile.FindDrift(h.assignment, h.paths(), h.disk.files)
	}
	h.seen = key
}

func (h *host) data() pg.DataDirectory {
	d := pg.DataDirectory{State: pg.DirAbsent}
	if h.disk.state != "" {
		d.State = h.disk.state
	}
	if d.State == pg.DirCluster {
		d.Version, d.SystemID, d.Generation = major, h.disk.system, h.disk.generation
		d.Timeline, d.Standby = h.disk.timeline, h.disk.files.Standby
		d.ControlState, d.BackupLabel, d.Checkpoint, d.Follows = h.disk.control, h.disk.label, h.disk.checkpoint, h.disk.follows
	}
	return d
}

func (h *host) report() reconcile.Report {
	l := h.local()
	r := reconcile.Report{
		Node: h.name, Incarnation: h.id(), Serial: h.assignment.Serial, Settled: l.Settled,
		Data: l.Data, Server: l.Server, Written: l.Written, Loaded: l.Loaded, Started: l.Started,
		Launched: l.Launched, SyncSince: l.SyncSince,
		Drift: l.Drift, Problem: h.problem,
		Retired: h.assignment.Role == reconcile.RoleRetired && l.Data.State == pg.DirAbsent && l.Server.State == pg.ServerStopped,
	}
	if h.busy != nil {
		r.Activity = &reconcile.Activity{Step: h.busy.act.Step}
	}
	return r
}

// accept takes the leader's answer as the agent does.
func (h *host) accept(a reconcile.Assignment) {
	if h.confirmed && a.Serial < h.assignment.Serial && a.SystemID == h.assignment.SystemID {
		return
	}
	if a.Serial != h.assignment.Serial {
		h.problem = nil
		if h.busy != nil && (a.Role != h.assignment.Role || a.Generation != h.assignment.Generation || a.Frozen() != h.assignment.Frozen()) {
			h.busy = nil
		}
	}
	h.assignment, h.confirmed = a, a.Serial > 0
}

// act has the agent do its next act, or a part of it. It reports whether there
// was anything to do.
func (w *World) act(h *host) bool {
	if !h.ramd || !h.confirmed || w.Record.Pause != nil {
		return false
	}
	if h.busy != nil {
		w.goOn(h)
		return true
	}
	act := reconcile.NextAct(h.assignment, h.local())
	if act.Kind == reconcile.ActNone {
		h.problem = nil
		return false
	}
	w.note("%s: %s for %d (%s)", h.name, act.Kind, h.assignment.Serial, act.Reason)
	w.beforeAct(h, act)
	switch act.Kind {
	case reconcile.ActFail:
		h.problem = &reconcile.Problem{Step: act.Step, Text: act.Reason, Attempts: 1}
		return false
	case reconcile.ActInit, reconcile.ActClone:
		h.busy = &busy{act: act, left: 1 + w.random.IntN(4)}
		return true
	}
	before := h.problem
	w.perform(h, act)
	if h.problem == before && before != nil && before.Step == act.Step {
		h.problem = nil
	}
	return true
}

// perform does an act that takes one event.
func (w *World) perform(h *host, act reconcile.Act) {
	switch act.Kind {
	case reconcile.ActWrite:
		h.disk.files = reconcile.Files(h.assignment, h.paths())
	case reconcile.ActStart:
		h.start()
	case reconcile.ActStop, reconcile.ActFence:
		h.server = nil
	case reconcile.ActHandOver:
		h.disk.control, h.disk.checkpoint, h.server = "shut down", h.disk.lsn, nil
	case reconcile.ActFreeze:
		h.server.reload(h.disk.files)
		h.server.receiver, h.settled = nil, h.assignment.Serial
	case reconcile.ActPromote:
		h.promote()
	case reconcile.ActRewind:
		w.rewind(h)
	case reconcile.ActReload:
		h.server.reload(h.disk.files)
	case reconcile.ActSlots:
		h.changeSlots(act)
	case reconcile.ActSettle:
		h.settled = h.assignment.Serial
		h.disk.role = h.disk.role || h.assignment.Role == reconcile.RolePrimary
	case reconcile.ActSetAside:
		h.removed = append(h.removed, h.disk)
		h.disk = disk{}
	case reconcile.ActDropAside:
		h.aside = nil
	}
}

// start starts PostgreSQL for the assignment.
func (h *host) start() {
	if h.assignment.Role == reconcile.RolePrimary {
		h.launched = h.assignment.Serial
	}
	h.server = startServer(h.disk, h.assignment)
	h.disk.label, h.disk.control = false, "in production"
	if h.server.recovery {
		h.disk.control = "in archive recovery"
	}
}

// promote ends recovery: the server is on a timeline of its own.
func (h *host) promote() {
	h.launched = h.assignment.Serial
	h.disk.timeline++
	h.disk.began, h.disk.control = h.disk.lsn, "in production"
	h.disk.files.Standby, h.server.recovery, h.server.receiver = false, false, nil
}

// rewind makes a directory fit to follow its upstream.
func (w *World) rewind(h *host) {
	copied, why := w.backup(h)
	if why != "" {
		h.problem = &reconcile.Problem{Step: reconcile.StepRewind, Text: why, Attempts: 1}
		return
	}
	d := &h.disk
	d.timeline, d.lsn, d.oldest, d.role = copied.timeline, copied.lsn, copied.oldest, copied.role
	d.files, d.control, d.label, d.follows = copied.files, "in archive recovery", false, h.assignment.Term
}

func (h *host) changeSlots(act reconcile.Act) {
	slots := h.disk.copied().slots
	if slots == nil {
		slots = map[string]pg.Slot{}
	}
	for _, name := range act.Drop {
		delete(slots, name)
	}
	for _, name := range act.Create {
		slots[name] = pg.Slot{Name: name, RestartLSN: h.disk.lsn, WALStatus: "reserved"}
	}
	h.disk.slots = slots
}

// goOn continues a long act; only its end changes the disk, since both build
// beside the data directory and then rename.
func (w *World) goOn(h *host) {
	b := h.busy
	b.left--
	if b.left > 0 {
		return
	}
	h.busy = nil
	if b.act.Kind == reconcile.ActInit {
		w.initdbs++
		h.disk = disk{
			state: pg.DirCluster, system: pg.SystemID(7000 + w.initdbs), generation: h.assignment.Generation,
			timeline: 1, lsn: 1000, oldest: 1000,
		}
		return
	}
	copied, why := w.backup(h)
	if why != "" {
		h.problem = &reconcile.Problem{Step: reconcile.StepClone, Text: why, Attempts: 1}
		w.note("%s: clone failed: %s", h.name, why)
		return
	}
	if h.disk.state == pg.DirCluster {
		h.aside = append(h.aside, h.disk)
	}
	h.disk = copied
}

// backup is a base backup of h's upstream, through its slot.
func (w *World) backup(h *host) (disk, string) {
	u := h.assignment.Upstream
	up := w.at(u.Host)
	switch {
	case up == nil || up.server == nil || up.server.recovery || up.server.number("port") != u.Port:
		return disk{}, "the upstream does not answer"
	case !up.disk.role || !up.server.lets(h.addr):
		return disk{}, "the upstream does not let the replication role in"
	}
	slot, there := up.disk.slots[u.Slot]
	if !there || slot.WALStatus == "lost" {
		return disk{}, "the slot is gone"
	}
	d := up.disk.copied()
	d.slots, d.generation, d.label, d.follows = nil, h.assignment.Generation, true, 0
	slot.RestartLSN = d.lsn
	up.disk.slots[u.Slot] = slot
	return d, ""
}

func (w *World) at(addr string) *host { return w.addresses[addr] }
