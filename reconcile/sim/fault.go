package sim

import (
	"maps"
	"slices"
	"strings"

	"github.com/ramhq/ram/pg"
)

// Fault is something that goes wrong, or that somebody does by hand, on a host.
type Fault string

// The faults.
const (
	RamdDies     Fault = "ramd dies"
	RamdStarts   Fault = "ramd starts"
	ServerDies   Fault = "server dies"
	HostDies     Fault = "host dies"
	CutOff       Fault = "cut off"
	CutHeals     Fault = "reachable again"
	LeaderMoves  Fault = "leader moves"
	RamdWiped    Fault = "ramd is wiped"
	DataWiped    Fault = "data is wiped"
	SlotDropped  Fault = "slot is dropped"
	SlotLost     Fault = "slot is lost"
	WALRecycled  Fault = "WAL is recycled"
	Altered      Fault = "ALTER SYSTEM"
	AlteredLater Fault = "ALTER SYSTEM that needs a restart"
	HBAEdited    Fault = "pg_hba.conf is edited"
	MainEdited   Fault = "postgresql.conf is edited"
	ConfEdited   Fault = "ram.conf is edited"
	Promoted     Fault = "promoted by hand"
)

// often are the faults of Chaos, each as often as it is listed.
func often() []Fault {
	return []Fault{
		RamdDies, RamdDies, RamdStarts, RamdStarts, RamdStarts, ServerDies, ServerDies, HostDies, CutOff, CutHeals, CutHeals,
		LeaderMoves, LeaderMoves, RamdWiped, DataWiped, SlotDropped, SlotLost, WALRecycled,
		Altered, AlteredLater, HBAEdited, MainEdited, ConfEdited,
	}
}

func (w *World) fault() {
	faults := often()
	w.Break(faults[w.random.IntN(len(faults))], w.anyone().name)
}

// Break makes a fault happen on a host. One that makes no sense there does nothing.
func (w *World) Break(f Fault, name string) {
	h := w.hosts[name]
	w.note("%s: %s", name, f)
	switch f {
	case RamdDies:
		h.stopRamd()
	case RamdStarts:
		h.ramd = true
	case ServerDies:
		h.server = nil
	case HostDies:
		h.stopRamd()
		h.server = nil
	case CutOff:
		h.cut = true
	case CutHeals:
		h.cut = false
	case LeaderMoves:
		w.elect()
	case RamdWiped:
		if !w.spares(name) {
			return
		}
		h.stopRamd()
		h.incarnation++
		h.launched = 0
		h.ramd = true
	default:
		w.meddle(f, h)
	}
}

// spares reports whether Raft can do without a voter for good.
func (w *World) spares(name string) bool {
	others, left := 0, 0
	for other, m := range w.raft {
		if m.Voter && other != name {
			others++
			if w.connected(other) {
				left++
			}
		}
	}
	return !w.raft[name].Voter || 2*left > others+1
}

// meddle is what changes a data directory behind ramd's back.
func (w *World) meddle(f Fault, h *host) {
	if h.disk.state != pg.DirCluster {
		return
	}
	switch f {
	case DataWiped:
		// The primary's data is the only copy that nothing here can bring back,
		// and not even the leader knows yet who it is before initdb is identified.
		if h.name != w.Record.Primary && w.Record.Opening == nil {
			h.disk, h.server = disk{}, nil
		}
	case SlotDropped, SlotLost:
		w.spoilSlot(f, h)
	case WALRecycled:
		h.recycle()
	case Altered:
		h.alter("work_mem = '1GB'\n")
	case AlteredLater:
		h.alter("shared_buffers = '1GB'\n")
	case HBAEdited:
		h.disk.files.HBA += "host all all 0.0.0.0/0 trust\n"
	case MainEdited:
		h.disk.files.Main += "work_mem = '2GB'\n"
	case ConfEdited:
		h.disk.files.Managed = strings.Replace(h.disk.files.Managed, "hot_standby", "# hot_standby", 1)
	case Promoted:
		if h.server != nil && h.server.recovery {
			w.meddled = true
			h.disk.timeline++
			h.disk.lsn += 50
			h.disk.began, h.disk.control = h.disk.lsn, "in production"
			h.disk.files.Standby, h.server.recovery, h.server.receiver = false, false, nil
		}
	}
}

// alter is ALTER SYSTEM and a reload.
func (h *host) alter(line string) {
	h.disk.files.Auto += line
	if h.server != nil {
		h.server.reload(h.disk.files)
	}
}

func (w *World) spoilSlot(f Fault, h *host) {
	names := slices.Sorted(maps.Keys(h.disk.slots))
	if len(names) == 0 {
		return
	}
	w.meddled = true
	name := names[w.random.IntN(len(names))]
	slots := maps.Clone(h.disk.slots)
	h.disk.slots = slots
	if f == SlotDropped {
		delete(slots, name)
		return
	}
	slots[name] = pg.Slot{Name: name, WALStatus: "lost"}
	h.recycle()
}

// heal ends the faults that would keep a cluster from converging.
func (w *World) heal() {
	for _, h := range w.order {
		h.ramd, h.cut = true, false
	}
}

// Occupy puts data of another cluster, or a directory that is not PostgreSQL's,
// where a host's data directory should be.
func (w *World) Occupy(name string, state pg.DirState, system pg.SystemID) {
	h := w.hosts[name]
	h.server = nil
	h.disk = disk{state: state, system: system, timeline: 1, lsn: 500}
}

// Foreign reports whether a host still holds what Occupy put there.
func (w *World) Foreign(name string, state pg.DirState, system pg.SystemID) bool {
	d := w.hosts[name].disk
	return d.state == state && d.system == system && d.lsn == 500 && d.files == pg.ConfigFiles{}
}
