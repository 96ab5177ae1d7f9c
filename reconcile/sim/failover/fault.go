package failover

import (
	"maps"
	"slices"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// fault is something that goes wrong, that ends going wrong, or that an operator does.
func (w *World) fault() {
	h := w.hosts[w.random.IntN(len(w.hosts))]
	if p := w.names[w.record().Primary]; p != nil && w.chance(30) {
		h = p
	}
	faults := []func(*host){
		w.crashHost, w.startHost, w.startHost, w.startHost, w.stopHost, w.contHost, w.contHost,
		w.killRamd, w.killRamd, w.startRamd, w.startRamd, w.startRamd, w.stopRamd, w.contRamd, w.contRamd,
		w.killServer, w.killServer, w.killPostmaster, w.hangServer, w.contServer,
		w.cutOff, w.cutOneWay, w.split, w.healNet, w.healNet, w.lose,
		w.moveLeader, w.operator, w.operator, w.slowDown, w.slowDown, w.speedUp, w.dropSlot, w.wipe,
	}
	if w.unguarded {
		faults = append(faults, w.killGuard, w.stopGuard)
	}
	faults[w.random.IntN(len(faults))](h)
}

func (w *World) crashHost(h *host) {
	if h.up {
		w.note("FAULT %s: the host dies", h.name)
		h.crash()
	}
}

func (w *World) startHost(h *host) {
	if !h.up {
		w.note("%s: the host starts", h.name)
		h.up = true
		h.startRamd()
	}
}

// wipe loses a data directory with the server that ran on it. It happens to one host at
// most, and while another has data that it could go on with: each further one could take
// the last copy.
func (w *World) wipe(h *host) {
	another := slices.ContainsFunc(w.hosts, func(o *host) bool {
		n, known := w.record().Spec.Node(o.name)
		return o != h && known && n.Electable() && o.disk.state == pg.DirCluster && !o.disk.rewinding
	})
	if w.wiped || !another || h.disk.state != pg.DirCluster {
		return
	}
	w.note("FAULT %s: the data directory is gone", h.name)
	w.wiped = true
	h.endServer()
	h.disk = disk{}
}

// giveUpData is what an operator does when a copy is gone, and with what is left no node
// is sure to have all that was acknowledged.
func (w *World) giveUpData() {
	rec := w.record()
	p := w.names[rec.Primary]
	if !w.wiped || rec.Opening == nil && (p == nil || p.disk.state == pg.DirCluster) {
		return
	}
	target := ""
	for _, h := range w.hosts {
		if h.disk.state == pg.DirCluster && !h.disk.rewinding && h.data().WasPrimary() {
			target = h.name
		}
	}
	for _, h := range w.hosts {
		if h.awake() && h.ramd.leads != nil {
			w.try(h, reconcile.Command{Open: reconcile.OpenFor(h.record(), reconcile.OpenFailover, target, true)}, "OPERATOR failover, with loss, to "+target)
		}
	}
}

// dropSlot is the hand of an operator; the walsender ends with its slot.
func (w *World) dropSlot(h *host) {
	for _, name := range slices.Sorted(maps.Keys(h.disk.slots)) {
		if h.server == nil || !w.chance(30) {
			continue
		}
		w.note("FAULT %s: slot %s is dropped", h.name, name)
		delete(h.disk.slots, name)
		for _, x := range h.server.senders {
			if o := w.names[x.standby]; pg.SlotName(x.standby) == name && o.server != nil && o.server.receiver != nil && o.server.receiver.sender == x {
				o.endReceiver()
			}
		}
	}
}

func (w *World) stopHost(h *host) {
	w.note("FAULT %s: the whole host stops", h.name)
	h.stopped = true
}

func (w *World) contHost(h *host) {
	if h.stopped {
		w.note("%s: the whole host goes on", h.name)
		h.stopped = false
		h.guardLooks()
	}
}

func (w *World) killRamd(h *host) {
	w.note("FAULT %s: ramd dies", h.name)
	h.ramd = nil
}

func (w *World) startRamd(h *host) {
	if h.ramd == nil && h.runs() {
		w.note("%s: ramd starts", h.name)
		h.startRamd()
	}
}

func (w *World) stopRamd(h *host) {
	if h.ramd != nil {
		w.note("FAULT %s: ramd stops", h.name)
		h.ramd.stopped = true
	}
}

func (w *World) contRamd(h *host) {
	if h.ramd != nil {
		h.ramd.stopped = false
	}
}

func (w *World) killServer(h *host) {
	if h.server != nil && h.guard != nil {
		w.note("FAULT %s: the postmaster dies, and its guard sees to the rest", h.name)
		h.endServer()
	}
}

// killPostmaster leaves backends that go on with what they were told.
func (w *World) killPostmaster(h *host) {
	if h.server != nil && h.server.postmaster {
		w.note("FAULT %s: the postmaster alone is killed", h.name)
		h.server.postmaster = false
	}
}

func (w *World) hangServer(h *host) {
	if h.server != nil {
		w.note("FAULT %s: PostgreSQL hangs", h.name)
		h.server.stopped = true
	}
}

func (w *World) contServer(h *host) {
	if h.server != nil {
		h.server.stopped = false
	}
}

// killGuard takes the postmaster along, unless that is dead already.
func (w *World) killGuard(h *host) {
	if h.guard == nil {
		return
	}
	w.note("FAULT %s: the guard is killed", h.name)
	h.guard = nil
	if h.server.postmaster {
		h.endServer()
	}
}

func (w *World) stopGuard(h *host) {
	if h.guard != nil {
		w.note("FAULT %s: the guard stops", h.name)
		h.guard.stopped = true
	}
}

func (w *World) cutOff(h *host) {
	w.note("FAULT %s: cut off", h.name)
	for _, o := range w.hosts {
		w.cut[[2]string{h.name, o.name}], w.cut[[2]string{o.name, h.name}] = true, true
	}
}

func (w *World) cutOneWay(h *host) {
	o := w.hosts[w.random.IntN(len(w.hosts))]
	w.note("FAULT nothing gets from %s to %s", h.name, o.name)
	w.cut[[2]string{h.name, o.name}] = true
}

// slowDown has a standby fall behind.
func (w *World) slowDown(h *host) {
	w.note("FAULT %s: receives slowly", h.name)
	h.slow = true
}

func (w *World) speedUp(h *host) { h.slow = false }

func (w *World) split(*host) {
	side := map[string]bool{}
	for _, h := range w.hosts {
		side[h.name] = w.chance(50)
	}
	w.note("FAULT split %v", side)
	for _, a := range w.hosts {
		for _, b := range w.hosts {
			if side[a.name] != side[b.name] {
				w.cut[[2]string{a.name, b.name}] = true
			}
		}
	}
}

func (w *World) healNet(*host) {
	w.note("the network is whole")
	w.loss = 0
	clear(w.cut)
}

func (w *World) lose(*host) {
	w.loss = 10 * w.random.IntN(4)
	w.note("FAULT %d %% of the messages are lost", w.loss)
}

// moveLeader deposes a leader without its knowing.
func (w *World) moveLeader(h *host) {
	if h.voter && h.awake() && h.acked == len(w.log)-1 && w.majority(func(v *host) bool { return v.awake() && w.talks(v.name, h.name) }) {
		h.lead()
	}
}

// operator does something that operators do, through somebody who leads.
func (w *World) operator(*host) {
	for _, h := range w.hosts {
		if h.awake() && h.ramd.leads != nil && h.record().Spec != nil {
			w.operate(h)
			return
		}
	}
}

func (w *World) operate(h *host) {
	rec := h.record()
	data := slices.DeleteFunc(slices.Clone(rec.Spec.Nodes), func(n spec.Node) bool { return n.Witness })
	target := ""
	if w.chance(50) {
		target = data[w.random.IntN(len(data))].Name
	}
	if target == rec.Primary {
		target = ""
	}
	settled := rec.Primary != "" && rec.SystemID != 0 || rec.Opening != nil
	switch n := w.random.IntN(20); {
	case n < 6 && settled:
		w.try(h, reconcile.Command{Open: reconcile.OpenFor(rec, reconcile.OpenSwitchover, target, false)}, "OPERATOR switchover to "+target)
	case n < 10 && settled:
		w.try(h, reconcile.Command{Open: reconcile.OpenFor(rec, reconcile.OpenFailover, target, false)}, "OPERATOR failover to "+target)
	case n < 11 && settled:
		w.try(h, reconcile.Command{Open: reconcile.OpenFor(rec, reconcile.OpenFailover, target, true)}, "OPERATOR failover, with loss, to "+target)
	case n < 13:
		w.try(h, reconcile.Command{Pause: &reconcile.SetPause{Paused: rec.Pause == nil}}, "OPERATOR pause or resume")
	default:
		w.respec(h)
	}
}

// respec changes the mode, k, or priorities.
func (w *World) respec(h *host) {
	rec := h.record()
	next := *rec.Spec
	next.Nodes = slices.Clone(next.Nodes)
	r := &next.Replication
	electable := 0
	for i := range next.Nodes {
		n := &next.Nodes[i]
		if !n.Witness && n.Name != rec.Primary && rec.Opening == nil && w.chance(20) {
			if n.Priority = 50 * w.random.IntN(3); w.wiped { // it may be the one that is left
				n.Priority += 50
			}
		}
		if n.Electable() {
			electable++
		}
	}
	switch w.random.IntN(4) {
	case 0:
		r.Mode, r.SyncStandbys = spec.ModeAsync, 0
	default:
		r.Mode, r.SyncStandbys = spec.ModeQuorum, 1+w.random.IntN(2)
	}
	r.WhenShort = spec.WhenShortWait
	if w.chance(20) {
		r.WhenShort = spec.WhenShortDegrade
	}
	if r.Mode == spec.ModeQuorum {
		r.SyncStandbys = min(r.SyncStandbys, electable-1)
	}
	if len(reconcile.Refuse(rec, &next)) > 0 || r.Mode == spec.ModeQuorum && r.SyncStandbys < 1 {
		return
	}
	w.try(h, reconcile.Command{Accept: &reconcile.Accept{Spec: &next, Base: rec.Revision, Cause: reconcile.CauseApply}}, "OPERATOR new spec, mode "+string(r.Mode))
}

// heal ends all faults.
func (w *World) heal() {
	w.note("all faults end")
	clear(w.cut)
	w.loss = 0
	for _, h := range w.hosts {
		h.up, h.stopped, h.slow = true, false, false
		if h.guard != nil {
			h.guard.stopped = false
		}
		h.guardLooks()
		h.startRamd()
		h.ramd.stopped = false
		if h.server != nil {
			h.server.stopped = false
		}
	}
	if w.tail != nil && w.tail.cmd.Pause != nil {
		w.tail = nil // nobody would resume it
	}
	if w.record().Pause != nil {
		if err := w.commit(reconcile.Command{Pause: &reconcile.SetPause{}}); err != nil {
			panic("sim: " + err.Error())
		}
		for _, h := range w.hosts {
			h.acked = len(w.log) - 1
			h.ramd.applied = h.acked
		}
	}
}
