package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// unreachable is the silence after which a leader takes an agent for unreachable.
const unreachable = 500 * time.Millisecond

// leadership is the memory of one that believes that it leads.
type leadership struct {
	raftTerm uint64
	since    time.Duration
	heard    map[string]heard
	// opened is since when it knows that a term is open; barred are the voters that
	// refuse terms below barring, since when.
	opened  time.Duration
	asks    time.Duration // since when promises are asked for
	term    uint64
	barring uint64
	barred  map[string]time.Duration
	// asked is when the others were last asked whether the primary's server answers
	// them, served when one was asked that had an answer, unreached when all had had
	// their time for nothing.
	asked, served, unreached time.Duration
	end                      pg.LSN
}

type heard struct {
	report reconcile.Report
	at     time.Duration
}

func (h *host) hearReport(m message) {
	l := h.ramd.leads
	if l == nil {
		return
	}
	l.heard[m.from] = heard{*m.report, h.clock()}
	if rec := h.record(); m.from == rec.Primary {
		l.end = max(l.end, m.report.Server.LSN)
	}
	h.answer(m.from, m.asked)
}

// answer tells an agent its assignment. A leader that was deposed tells an old one.
func (h *host) answer(node string, asked time.Duration) {
	rec := h.record()
	h.w.send(message{from: h.name, to: node, asked: asked, answer: &answer{
		assignment: rec.Assignments[node], verified: asked != 0 && h.w.verified(h), hold: rec.Pause != nil,
	}})
}

// observed is what the leader knows.
func (h *host) observed() reconcile.Observed {
	l, rec := h.ramd.leads, h.record()
	obs := reconcile.Observed{Nodes: map[string]reconcile.NodeView{}}
	for name := range rec.Members {
		v := reconcile.NodeView{Silent: h.clock() - l.since}
		if x, ok := l.heard[name]; ok {
			v = reconcile.NodeView{Report: x.report, Reported: true, Silent: h.clock() - x.at}
			v.Reachable = v.Silent <= unreachable
		}
		obs.Nodes[name] = v
	}
	for _, o := range h.w.hosts {
		obs.Raft = append(obs.Raft, reconcile.RaftMember{Name: o.name, Incarnation: o.name, Voter: o.voter})
	}
	obs.Pulse = h.pulse()
	if h.w.bend.Observed != nil {
		h.w.bend.Observed(rec, &obs)
	}
	return obs
}

func (h *host) pulse() reconcile.Pulse {
	l, rec := h.ramd.leads, h.record()
	silent := h.clock() - h.ramd.beat
	p := reconcile.Pulse{Silent: silent, LSN: l.end, Unreached: h.unreached()}
	if rec.Opening == nil {
		return p
	}
	if l.term != rec.Term {
		l.term, l.opened, l.asks = rec.Term, h.clock(), h.clock()
	}
	if rec.Opening.Stopping {
		l.asks = h.clock()
	}
	p.Open, p.Asked = h.clock()-l.opened, h.clock()-l.asks
	if l.barring != rec.Term {
		return p
	}
	var times []time.Duration
	voters := 0
	for _, v := range h.w.hosts {
		if v.voter {
			voters++
		}
		if at, ok := l.barred[v.name]; ok && v.voter {
			times = append(times, at)
		}
	}
	if need := voters/2 + 1; len(times) >= need {
		slices.Sort(times)
		p.Barred = h.clock() - times[need-1]
	}
	return p
}

// round is one look of the leader.
func (w *World) round(h *host) {
	rec := h.record()
	if rec.Spec == nil || rec.Pause != nil {
		return
	}
	obs := h.observed()
	view := rec
	if w.bend.Record != nil {
		bent := *rec
		w.bend.Record(&bent)
		view = &bent
	}
	next := reconcile.Succeed(view, obs)
	if next.Ask {
		h.inquire(rec.Primary)
	}
	if next.Bar {
		h.barVoters(rec.Term)
	}
	switch {
	case next.Open != nil:
		w.try(h, reconcile.Command{Open: next.Open}, fmt.Sprintf("opens term %d: %s", next.Open.Term+1, next.Open.Opening.Reason))
	case next.Elect != nil:
		w.try(h, reconcile.Command{Elect: next.Elect}, fmt.Sprintf("elects %s for %d: %s %+v", next.Elect.Node, next.Elect.Term, next.Elect.Choice.Verdict.Reason, next.Elect.Choice.Input.Nodes))
	case next.Revive != nil:
		w.try(h, reconcile.Command{Advance: &reconcile.Advance{Step: "revive/" + rec.Primary, Effect: *next.Revive}}, "revives "+rec.Primary)
	default:
		w.plan(h, rec, obs)
	}
}

// plan has the leader begin what a plan lets it begin.
func (w *World) plan(h *host, rec *reconcile.Record, obs reconcile.Observed) {
	if rec.Opening != nil || !w.chance(30) {
		return
	}
	for _, s := range reconcile.Runnable(reconcile.Diff(rec.Spec, rec, obs)) {
		if h.ramd == nil || h.ramd.leads == nil {
			return
		}
		w.try(h, reconcile.Command{Advance: &reconcile.Advance{Step: s.ID, Effect: *s.Effect()}}, s.ID+" ("+s.Reason+")")
	}
}

// try proposes a command, and when it is in force tells the nodes that it is about.
func (w *World) try(h *host, cmd reconcile.Command, what string) {
	before := h.record().Assignments
	if err := w.propose(h, cmd); err != nil {
		return
	}
	w.note("%s: %s", h.name, what)
	for _, o := range w.hosts {
		if h.record().Assignments[o.name].Serial != before[o.name].Serial {
			h.answer(o.name, 0)
		}
	}
}

func (h *host) barVoters(term uint64) {
	l := h.ramd.leads
	if l.barring != term {
		l.barring, l.barred = term, map[string]time.Duration{}
	}
	for _, v := range h.w.hosts {
		if _, done := l.barred[v.name]; v.voter && !done {
			h.w.send(message{from: h.name, to: v.name, bar: &bar{term: term}})
		}
	}
}

// unreached reports whether the others have lately been asked for nothing.
func (h *host) unreached() bool {
	l, detect := h.ramd.leads, h.failover().Detect.Std()
	if end := l.asked + detect - reconcile.AskAfter(detect); l.served < l.asked && end <= h.clock() {
		l.unreached = end
	}
	return l.unreached > l.served && h.clock()-l.unreached < detect
}

// inquire asks the others again once they have answered or had their time.
func (h *host) inquire(primary string) {
	l := h.ramd.leads
	h.unreached()
	if l.served < l.asked && l.unreached < l.asked {
		return
	}
	l.asked = h.clock()
	for _, o := range h.w.hosts {
		h.w.send(message{from: h.name, to: o.name, asked: l.asked, inquiry: &inquiry{primary: primary}})
	}
}

// hearInquiry sees whether the primary's PostgreSQL answers, or hears that it does.
func (h *host) hearInquiry(m message) {
	q := *m.inquiry
	if q.reply {
		if l := h.ramd.leads; l != nil && q.answers && q.primary == h.record().Primary {
			l.served = max(l.served, m.asked)
		}
		return
	}
	p := h.w.names[q.primary]
	if p == nil || p == h {
		return
	}
	q.reply = true
	q.answers = h.w.talks(h.name, q.primary) && p.server != nil && p.server.running && p.server.postmaster && !p.server.stopped && p.server.stopping == 0
	h.w.send(message{from: h.name, to: m.from, asked: m.asked, inquiry: &q})
}

// whole reports whether there is one primary, everybody streams from it, and some
// verified leader has nothing left to do.
func (w *World) whole() bool {
	rec := w.record()
	p := w.names[rec.Primary]
	if rec.Opening != nil || p == nil || !p.server.writable() {
		return false
	}
	for _, n := range rec.Spec.Nodes {
		h := w.names[n.Name]
		if n.Witness || h == p {
			continue
		}
		if h.server == nil || h.server.receiver == nil || h.server.receiver.from != p {
			return false
		}
	}
	return w.unfinished() == ""
}

// unfinished says what a verified leader still has to do.
func (w *World) unfinished() string {
	for _, h := range w.hosts {
		if !h.awake() || !w.verified(h) {
			continue
		}
		rec, obs := h.record(), h.observed()
		plan := reconcile.Diff(rec.Spec, rec, obs)
		text := reconcile.Succeed(rec, obs).Waits
		for _, s := range plan.Steps {
			text += fmt.Sprintf(" %s (%s; after %v; waits %q)", s.ID, s.Reason, s.After, s.Waits)
		}
		for _, b := range plan.Blocked {
			text += " blocked: " + b.Reason
		}
		if text == "" && rec.Opening != nil {
			text = "a term is open"
		}
		if text == "" {
			return ""
		}
		if rec.Opening != nil {
			text += fmt.Sprintf(" INPUT %+v", reconcile.FailoverInputOf(rec, obs))
		}
		return fmt.Sprintf("%s; primary %q, term %d, opening %+v, sync %+v", text, rec.Primary, rec.Term, rec.Opening, rec.Sync)
	}
	return "nobody leads"
}
