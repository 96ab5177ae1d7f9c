package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ramhq/ram/reconcile"
)

// connected are the hosts whose ramd runs and is not cut off.
func (w *World) connected(name string) bool {
	h := w.hosts[name]
	m, member := w.raft[name]
	return h != nil && h.ramd && !h.cut && member && m.Incarnation == h.id()
}

// quorum reports whether a majority of the voters is there.
func (w *World) quorum() bool {
	voters, there := 0, 0
	for name, m := range w.raft {
		if m.Voter {
			voters++
			if w.connected(name) {
				there++
			}
		}
	}
	return 2*there > voters
}

// elect makes a connected voter the leader. It knows nothing yet.
func (w *World) elect() {
	var candidates []string
	for _, name := range slices.Sorted(maps.Keys(w.raft)) {
		if w.raft[name].Voter && w.connected(name) {
			candidates = append(candidates, name)
		}
	}
	w.leader = ""
	if len(candidates) > 0 && w.quorum() {
		w.leader = candidates[w.random.IntN(len(candidates))]
		w.since, w.heard = w.now, map[string]heard{}
		w.note("leader is %s", w.leader)
	}
}

// led reports whether there is a leader, after an election when there was none.
func (w *World) led() bool {
	if w.leader == "" || !w.connected(w.leader) || !w.raft[w.leader].Voter || !w.quorum() {
		w.elect()
	}
	return w.leader != ""
}

// exchange has a host report, and take the assignment that comes back. One that
// is not a member joins when the spec in force has it.
func (w *World) exchange(h *host) {
	if !w.led() || !h.ramd || h.cut {
		return
	}
	m, member := w.Record.Members[h.name]
	if !member || m.Incarnation != h.id() {
		w.join(h)
		return
	}
	w.heard[h.name] = heard{h.report(), w.now}
	h.accept(w.Record.Assignments[h.name])
}

func (w *World) join(h *host) {
	if w.Record.Spec == nil {
		return
	}
	n, wanted := w.Record.Spec.Node(h.name)
	if !wanted {
		return
	}
	// A wiped ramd is a new member: it votes again when the leader says so.
	w.raft[h.name] = reconcile.RaftMember{Name: h.name, Incarnation: h.id()}
	w.note("%s joins", h.id())
	if err := w.propose(reconcile.Command{Admit: &reconcile.Admit{Member: w.member(n, h)}}); err != nil {
		w.breaks("admit %s: %v", h.name, err)
	}
}

// informed reports whether the leader may decide.
func (w *World) informed(obs reconcile.Observed) bool {
	if !w.Informed || w.now-w.since > silence {
		return true
	}
	for _, v := range obs.Nodes {
		if !v.Reported {
			return false
		}
	}
	return true
}

// round is one look of the leader. It reports whether there was nothing to do.
func (w *World) round() (idle bool) {
	if !w.led() || w.Record.Spec == nil {
		return false
	}
	rec, obs := w.Record, w.Observed()
	if !w.informed(obs) {
		return false
	}
	if w.succeed(rec, obs) {
		rec, obs = w.Record, w.Observed()
	}
	plan := reconcile.Diff(rec.Spec, rec, obs)
	w.rounds++
	w.checkPlan(plan, rec, obs)
	w.witness(plan)
	if p := reconcile.Track(rec, plan); !p.Empty() {
		w.noteProgress(p)
		if err := w.propose(reconcile.Command{Progress: &p}); err != nil {
			w.breaks("progress: %v", err)
		}
	}
	steps := reconcile.Runnable(plan)
	for _, s := range steps {
		w.begin(s)
	}
	return len(plan.Steps) == 0 && len(plan.Blocked) == 0 && w.Record.Run == nil
}

// succeed carries out what is next about primaryship. It reports whether the record
// has changed.
func (w *World) succeed(rec *reconcile.Record, obs reconcile.Observed) bool {
	next := reconcile.Succeed(rec, obs)
	var err error
	switch {
	case next.Open != nil:
		w.note("leader: opens the term after %d: %s", next.Open.Term, next.Open.Opening.Reason)
		err = w.propose(reconcile.Command{Open: next.Open})
	case next.Elect != nil:
		w.note("leader: elects %s for term %d: %s", next.Elect.Node, next.Elect.Term, next.Elect.Choice.Verdict.Reason)
		err = w.propose(reconcile.Command{Elect: next.Elect})
	case next.Revive != nil:
		w.note("leader: revives %s", rec.Primary)
		err = w.propose(reconcile.Command{Advance: &reconcile.Advance{Step: "revive/" + rec.Primary, Effect: *next.Revive}})
	default:
		return false
	}
	if err != nil {
		w.breaks("succession: %v", err)
	}
	return err == nil
}

func (w *World) noteProgress(p reconcile.Progress) {
	w.note("run %d %s: begun %v, done %v, dropped %v, finished %v", p.Run, p.Open, p.Started, p.Done, p.Dropped, p.Finish)
}

// witness remembers what a plan shows.
func (w *World) witness(plan reconcile.Plan) {
	for _, s := range plan.Steps {
		if s.Interrupts != "" {
			w.Interrupts[s.ID] = s.Interrupts
		}
		if len(s.After) == 0 && s.Waits == "" && !slices.Contains(w.Seen, s.ID) {
			w.Seen = append(w.Seen, s.ID)
		}
	}
}

// begin carries out a step's effect as the leader does: Raft's members first.
func (w *World) begin(s reconcile.Step) {
	e := *s.Effect()
	paused := w.Record.Pause != nil
	if !paused {
		w.regroup(e)
	}
	err := w.propose(reconcile.Command{Advance: &reconcile.Advance{Step: s.ID, Effect: e}})
	switch {
	case err == nil && paused:
		w.breaks("step %s began while paused", s.ID)
	case err == nil:
		w.note("leader: %s (%s)%s", s.ID, s.Reason, assigned(e))
	case !errors.Is(err, reconcile.ErrStale):
		w.breaks("step %s: %v", s.ID, err)
	}
}

func assigned(e reconcile.Effect) string {
	text := ""
	for _, a := range e.Assign {
		text += fmt.Sprintf(" %s=%d", a.Node, a.Assignment.Serial)
	}
	return text
}

func (w *World) regroup(e reconcile.Effect) {
	for name, voter := range map[string]bool{e.Voter: true, e.Nonvoter: false} {
		if m, ok := w.raft[name]; ok {
			m.Voter = voter
			w.raft[name] = m
		}
	}
	if e.Leave != "" {
		delete(w.raft, e.Leave)
	}
	if !w.quorum() {
		w.breaks("the change of membership %+v costs Raft its majority", e)
	}
}
