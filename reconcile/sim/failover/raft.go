package failover

import (
	"errors"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// errLost says that a command was not committed, as far as the proposer knows.
var errLost = errors.New("no majority")

// majority reports whether those voters for which ok holds are more than half.
func (w *World) majority(ok func(*host) bool) bool {
	voters, yes := 0, 0
	for _, h := range w.hosts {
		if h.voter {
			voters++
			if ok(h) {
				yes++
			}
		}
	}
	return 2*yes > voters
}

// awake reports whether a host's ramd can answer at once.
func (h *host) awake() bool { return h.runs() && h.ramd != nil && !h.ramd.stopped }

// obeys reports whether a voter takes what the leader of a Raft term sends.
func (w *World) obeys(voter, leader *host, term uint64) bool {
	return voter.awake() && w.talks(voter.name, leader.name) && voter.raftTerm <= term
}

// verified reports whether a majority says that h leads.
func (w *World) verified(h *host) bool {
	return h.ramd.leads != nil && w.majority(func(v *host) bool { return w.obeys(v, h, h.ramd.leads.raftTerm) })
}

// propose has h, which believes that it leads, replicate a command.
func (w *World) propose(h *host, cmd reconcile.Command) error {
	l := h.ramd.leads
	cmd.At, cmd.By = time.Unix(0, 0).Add(w.now), "sim"
	if l == nil {
		return errLost
	}
	var holders []string
	for _, v := range w.hosts {
		if w.obeys(v, h, l.raftTerm) {
			holders = append(holders, v.name)
		}
	}
	if !w.majority(func(v *host) bool { return w.obeys(v, h, l.raftTerm) }) || h.ramd.applied != len(w.log)-1 {
		if h.ramd.applied == len(w.log)-1 && w.tail == nil {
			w.tail = &pending{cmd: cmd, holders: holders, index: len(w.log)}
		}
		h.ramd.leads = nil // a leader that cannot commit steps down
		return errLost
	}
	w.tail = nil
	err := w.commit(cmd)
	for _, v := range w.hosts {
		if w.obeys(v, h, l.raftTerm) {
			v.raftTerm, v.acked = l.raftTerm, len(w.log)-1
		}
	}
	h.ramd.applied = len(w.log) - 1
	if w.chance(1) && w.loss > 0 {
		h.ramd.leads = nil // deposed before it hears that its command is in force
		return errLost
	}
	return err
}

// commit applies a command to the record for good.
func (w *World) commit(cmd reconcile.Command) error {
	before := w.record()
	next, err := reconcile.Transition(before, cmd)
	if err != nil {
		return err
	}
	if w.bend.Transition != nil {
		w.bend.Transition(next)
	}
	w.log = append(w.log, next)
	w.committed(before, next, cmd)
	return nil
}

func (w *World) mustPropose(cmd reconcile.Command) {
	if err := w.propose(w.hosts[0], cmd); err != nil {
		panic("sim: " + err.Error())
	}
}

// lead makes h the leader of a new Raft term.
func (h *host) lead() {
	w := h.w
	w.raft++
	for _, v := range w.hosts {
		if v.awake() && w.talks(v.name, h.name) {
			v.raftTerm = w.raft
		}
	}
	if p := w.tail; p != nil {
		if p.index == len(w.log) && contains(p.holders, h.name) {
			w.note("%s finds a command that was under way", h.name)
			_ = w.commit(p.cmd) // one that is refused is refused on every node alike
			for _, v := range w.hosts {
				if v.awake() && w.talks(v.name, h.name) {
					v.acked = len(w.log) - 1
				}
			}
		}
		w.tail = nil
	}
	h.acked = len(w.log) - 1
	h.ramd.applied = h.acked
	h.ramd.leads = &leadership{raftTerm: w.raft, since: h.clock(), heard: map[string]heard{}, barred: map[string]time.Duration{}}
	w.note("%s leads", h.name)
}

// elections has voters without a leader elect one, deposed leaders find out, and
// followers learn what was committed.
func (w *World) elections() {
	led := false
	for _, h := range w.hosts {
		if !h.awake() || h.ramd.leads == nil {
			continue
		}
		l := h.ramd.leads
		superseded := h.raftTerm > l.raftTerm
		for _, v := range w.hosts {
			superseded = superseded || v.awake() && w.talks(v.name, h.name) && v.raftTerm > l.raftTerm
		}
		switch {
		case superseded && w.chance(20), !w.verified(h) && w.chance(4):
			h.ramd.leads = nil
			w.note("%s no longer leads", h.name)
			continue
		}
		if !w.verified(h) {
			continue
		}
		led = true
		for _, v := range w.hosts {
			if v != h && w.obeys(v, h, l.raftTerm) && w.chance(30) {
				v.raftTerm, v.acked = l.raftTerm, h.ramd.applied
				v.ramd.applied = h.ramd.applied
				if w.chance(5) {
					v.snapshot = v.acked
				}
			}
		}
	}
	if led || !w.chance(10) {
		return
	}
	h := w.hosts[w.random.IntN(len(w.hosts))]
	if h.voter && h.awake() && h.acked == len(w.log)-1 && w.majority(func(v *host) bool { return v.awake() && w.talks(v.name, h.name) }) {
		h.lead()
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
