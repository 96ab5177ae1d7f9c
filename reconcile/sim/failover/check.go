package failover

import (
	"slices"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// ledger is what clients were told to be committed.
type ledger struct {
	acks []acknowledged
	// byLease is set while the primary was chosen by its predecessor's lease.
	byLease bool
}

type acknowledged struct {
	id    uint64
	index int
	// sure is set when the sync sets of the time, or later ones, vouch for it.
	sure bool
}

func guaranteed(sets []reconcile.SyncSet) bool {
	return len(sets) > 0 && !slices.ContainsFunc(sets, func(s reconcile.SyncSet) bool { return s.K == 0 })
}

func (h *host) has(a acknowledged) bool {
	return a.index <= len(h.disk.wal) && h.disk.wal[a.index-1].id == a.id
}

// acknowledge tells a client that its commit, which ends at records, is in force.
func (w *World) acknowledge(h *host, at int) {
	rec := w.record()
	a := acknowledged{id: h.disk.wal[at-1].id, index: at, sure: guaranteed(rec.Sync.Sets())}
	p := w.names[rec.Primary]
	if p != nil && p != h {
		switch {
		case w.ledger.byLease && p.server.writable() && !w.unguarded:
			w.breaks("S3: %s acknowledges a write while %s is the primary, and takes writes", h.name, p.name)
		case !w.ledger.byLease && a.sure && !p.has(a) && p.disk.state == pg.DirCluster:
			w.breaks("S2: %s acknowledges write %d at %s, and %s is the primary without it", h.name, a.id, lsn(at), p.name)
		case w.ledger.byLease:
			a.sure = false
		}
	}
	w.ledger.acks = append(w.ledger.acks, a)
}

// committed checks what a command made of the record.
func (w *World) committed(before, after *reconcile.Record, cmd reconcile.Command) {
	if cmd.Advance != nil && cmd.Advance.Effect.Settle {
		w.vouch(after)
	}
	if cmd.Open != nil {
		w.note("term %d is open, sets %+v", after.Term, after.Sync.Sets())
	}
	if e := cmd.Elect; e != nil {
		w.elected++
		w.chosen(before, *e)
	}
}

// vouch is for what the primary has when a set comes into force: it is on enough of
// the members, whatever was asked for when it was acknowledged.
func (w *World) vouch(after *reconcile.Record) {
	p := w.names[after.Primary]
	sure := guaranteed(after.Sync.Sets())
	for i, a := range w.ledger.acks {
		w.ledger.acks[i].sure = a.sure && (sure || p.has(a)) || sure && p.has(a)
	}
	w.note("sync set %+v counts alone", after.Sync.Current)
}

// chosen checks that the primary of a new term has every acknowledged write that it
// must have. What was lost by an operator's word, or by a lease, is forgotten.
func (w *World) chosen(before *reconcile.Record, e reconcile.Elect) {
	p := w.names[e.Node]
	in, verdict := e.Choice.Input, e.Choice.Verdict
	w.ledger.byLease = !guaranteed(before.Sync.Sets()) || verdict.MayLose != "" && in.Target != e.Node
	strict := !w.ledger.byLease && !in.AcceptLoss
	if p.disk.state != pg.DirCluster && strict {
		return // its data are gone since: what it had is asked of the next one
	}
	w.ledger.acks = slices.DeleteFunc(w.ledger.acks, func(a acknowledged) bool {
		if p.has(a) {
			return false
		}
		if a.sure && strict {
			w.breaks("S2: %s is chosen without write %d at %s, which was acknowledged", p.name, a.id, lsn(a.index))
		}
		return true
	})
}

// check is for what must hold after every event.
func (w *World) check() {
	rec := w.record()
	w.checkLeases(rec)
	for i, h := range w.hosts {
		if !h.server.writable() || h.guard == nil || h.guard.lease.until <= h.clock() {
			continue
		}
		for _, o := range w.hosts[i+1:] {
			if o.server.writable() && o.guard != nil && o.guard.lease.until > o.clock() && o.guard.lease.term == h.guard.lease.term {
				w.breaks("S1: %s and %s both hold a lease of term %d", h.name, o.name, h.guard.lease.term)
			}
		}
		if t := h.guard.lease.term; t > rec.Term || t == rec.Term && rec.Primary != h.name {
			w.breaks("S1: %s holds a lease of term %d, of which %q is the primary", h.name, t, rec.Primary)
		}
	}
}

// checkLeases checks that no lease of an earlier term is out when the primary was
// chosen because there was none.
func (w *World) checkLeases(rec *reconcile.Record) {
	if !w.ledger.byLease || w.unguarded || rec.Primary == "" {
		return
	}
	for _, h := range w.hosts {
		g := h.guard
		if g != nil && h.name != rec.Primary && h.server.writable() && g.lease.until > h.clock() && g.lease.term < rec.Term {
			w.breaks("S1: %s holds a lease of term %d, and %s was granted term %d", h.name, g.lease.term, rec.Primary, rec.Term)
		}
	}
}

// checkConnection checks that a standby that streams has nothing that its upstream lacks.
func (w *World) checkConnection(h, up *host) {
	n := len(h.disk.wal)
	if n > 0 && (n > len(up.disk.wal) || h.disk.wal[n-1] != up.disk.wal[n-1]) {
		w.breaks("%s streams from %s and has WAL of its own before %s: both are on timeline %d", h.name, up.name, lsn(n), h.disk.timeline())
	}
}

// checkLedger checks at the end that nothing that was vouched for is missing.
func (w *World) checkLedger() {
	p := w.names[w.record().Primary]
	for _, a := range w.ledger.acks {
		if a.sure && !p.has(a) {
			w.breaks("S2: %s lacks write %d at %s, which was acknowledged", p.name, a.id, lsn(a.index))
		}
	}
}
