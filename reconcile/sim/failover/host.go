package failover

import (
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// host is one machine.
type host struct {
	w          *World
	name, addr string
	voter      bool
	// rate is how far its clock comes in a second, in milliseconds; skew where it began.
	rate, skew time.Duration
	up         bool
	stopped    bool // all its processes are, and will go on
	slow       bool // WAL takes long to get there

	// What follows is on its disk: Raft's, and that of PostgreSQL.
	raftTerm        uint64
	acked, snapshot int
	disk            disk
	// launched and promised are the agent's notes; last is what it was assigned.
	launched uint64
	promised struct{ term, serial uint64 }
	last     reconcile.Assignment

	read struct {
		text   string
		serial uint64
	}

	ramd   *ramd
	guard  *guard
	server *server
}

// ramd is the memory of a daemon.
type ramd struct {
	stopped bool
	started time.Duration
	applied int

	// The agent's.
	confirmed, hold bool
	heard           bool // a leader since it started
	assignment      reconcile.Assignment
	settled         uint64
	synced          synced
	frozenAt        pg.LSN // where WAL ended before the last freeze
	problem         *reconcile.Problem
	busy            *busy
	lease           lease
	confirmations   map[time.Duration]map[string]bool
	beaten, told    time.Duration

	// The voter's: the highest term that it was told of, and the last beat.
	barred uint64
	beat   time.Duration

	leads *leadership
}

// lease is until when a primary of a term may run, by its host's clock.
type lease struct {
	term  uint64
	until time.Duration
}

// synced is what an agent has seen of the sync set that its primary runs.
type synced struct {
	server *server
	names  string
	since  pg.LSN
}

// busy is an act that takes a while.
type busy struct {
	act  reconcile.Act
	left int
}

// guard is the parent of a postmaster. A lease that is zero binds it to nothing.
type guard struct {
	stopped bool
	lease   lease
}

func (h *host) runs() bool { return h.up && !h.stopped }

// clock is the host's monotonic clock.
func (h *host) clock() time.Duration { return h.skew + h.w.now*h.rate/1000 }

func (h *host) startRamd() {
	if h.ramd != nil || !h.up {
		return
	}
	h.ramd = &ramd{started: h.clock(), applied: h.snapshot, confirmations: map[time.Duration]map[string]bool{}}
	h.ramd.beat = h.clock()
	if h.w.bend.Remembers && h.last.Serial > 0 {
		h.ramd.assignment, h.ramd.confirmed = h.last, true
		h.ramd.lease = lease{h.last.Term, h.clock() + h.failover().Lease.Std()}
	}
}

// record is the record as far as the host's ramd has applied it.
func (h *host) record() *reconcile.Record { return h.w.log[h.ramd.applied] }

// failover are the limits of the spec that the host knows; those of the first one
// while it knows none.
func (h *host) failover() spec.Failover {
	if rec := h.record(); rec.Spec != nil {
		return rec.Spec.Failover
	}
	return h.w.log[min(2, len(h.w.log)-1)].Spec.Failover
}

// guardLooks is the guard's loop: it ends a server whose lease is over, and what is
// left of one whose postmaster is dead.
func (h *host) guardLooks() {
	g := h.guard
	if g == nil || g.stopped || !h.runs() || h.server == nil {
		return
	}
	if g.lease.until != 0 && h.clock() >= g.lease.until {
		h.w.note("%s: the lease of term %d is over: its server is killed", h.name, g.lease.term)
		h.endServer()
		return
	}
	if !h.server.postmaster && h.w.chance(6) {
		h.w.note("%s: its guard has killed what the postmaster left", h.name)
		h.endServer()
	}
}

// endServer is the end of every process of the server.
func (h *host) endServer() {
	h.server, h.guard = nil, nil
}

// crash is the end of all processes, and of all that was not flushed.
func (h *host) crash() {
	h.ramd, h.up, h.stopped = nil, false, false
	h.endServer()
	d := &h.disk
	d.wal = d.wal[:d.flushed:d.flushed]
}
