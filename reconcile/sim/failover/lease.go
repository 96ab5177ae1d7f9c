package failover

import (
	"time"

	"github.com/ramhq/ram/reconcile"
)

// extend takes note of a lease, counted from before it was asked for, and tells the
// guard of a server that runs for the same term.
func (h *host) extend(term uint64, asked time.Duration) {
	from := asked
	if h.w.bend.LeaseFromAnswer {
		from = h.clock()
	}
	until := from + h.failover().Lease.Std()
	l := &h.ramd.lease
	if term > l.term {
		*l = lease{term, until}
	} else if term == l.term {
		l.until = max(l.until, until)
	}
	if g := h.guard; g != nil && !g.stopped && g.lease.term == l.term {
		g.lease.until = max(g.lease.until, l.until)
	}
}

// beatVoters has the agent of a primary ask all voters to confirm its lease.
func (h *host) beatVoters() {
	r := h.ramd
	if r.assignment.Role != reconcile.RolePrimary || !r.confirmed || h.clock()-r.beaten < h.failover().Detect.Std()/4 {
		return
	}
	r.beaten = h.clock()
	r.confirmations[r.beaten] = map[string]bool{}
	for asked := range r.confirmations {
		if r.beaten-asked > h.failover().Lease.Std() {
			delete(r.confirmations, asked)
		}
	}
	for _, v := range h.w.hosts {
		if v.voter {
			h.w.send(message{from: h.name, to: v.name, beat: &beat{node: h.name, term: r.assignment.Term}, asked: r.beaten})
		}
	}
}

// knows is the highest term that a voter has heard of.
func (h *host) knows() uint64 { return max(h.record().Term, h.ramd.barred) }

// hearBeat answers as a voter.
func (h *host) hearBeat(m message) {
	r, w := h.ramd, h.w
	lease := h.failover().Lease.Std()
	if m.beat.term < h.knows() && !w.bend.ConfirmsAnyTerm {
		return
	}
	r.beat = h.clock()
	alone := r.leads != nil && w.verified(h)
	if !alone && h.clock()-r.started <= lease+lease/20 && !w.bend.ConfirmsAnyTerm {
		return
	}
	r.barred = max(r.barred, m.beat.term)
	w.send(message{from: h.name, to: m.from, asked: m.asked, beat: &beat{node: m.beat.node, term: m.beat.term, confirmed: true, alone: alone}})
}

// hearConfirmation counts voters that confirm.
func (h *host) hearConfirmation(m message) {
	votes := h.ramd.confirmations[m.asked]
	if votes == nil || m.beat.term != h.ramd.assignment.Term {
		return
	}
	votes[m.from] = true
	if m.beat.alone || h.w.majority(func(v *host) bool { return votes[v.name] }) {
		h.extend(m.beat.term, m.asked)
	}
}

// hearBar has a voter refuse earlier terms, or the leader count one that does.
func (h *host) hearBar(m message) {
	r := h.ramd
	if !m.bar.confirmed {
		r.barred = max(r.barred, m.bar.term)
		h.w.send(message{from: h.name, to: m.from, bar: &bar{term: m.bar.term, confirmed: true}})
		return
	}
	if l := r.leads; l != nil && l.barring == m.bar.term {
		if _, counted := l.barred[m.from]; !counted {
			l.barred[m.from] = h.clock()
		}
	}
}
