package reconcile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// takeTurn has a restart wait for its turn: ram takes no server down while it
// has taken down another, or while another does not serve.
func (d *differ) takeTurn(n spec.Node, s *Step) {
	if s.effect == nil {
		s.After = append(s.After, d.turn(n)...)
		return
	}
	if !d.obs.Nodes[n.Name].Reachable {
		s.Waits, s.effect = fmt.Sprintf("ramd on %s to answer", n.Name), nil
		return
	}
	other := d.restartingOther(n.Name)
	if n.Name == d.primary.Name || d.serves(n) {
		s.After = append(s.After, d.turn(n)...)
		other = cmp.Or(other, d.unhealthy(n.Name))
	} else {
		// It is down already and may need the restart to come back, as may others:
		// waiting for each other to be healthy they would wait for ever.
		s.After = append(s.After, d.going...)
	}
	switch {
	case other != "":
		s.Waits, s.effect = fmt.Sprintf("node %s to be healthy: two servers are not taken down at a time", other), nil
	case len(s.After) == 0:
		d.going = append(d.going, s.ID)
	}
}

// turn is what restarts before n: standbys one after the other, then the
// primary, or the primary first.
func (d *differ) turn(n spec.Node) []string {
	if n.Name == d.primary.Name {
		return d.has(d.restarted...)
	}
	if len(d.restarted) > 0 {
		return d.has(d.restarted[len(d.restarted)-1])
	}
	return d.has(stepID(StepRestart, d.primary.Name))
}

// serves reports whether a data node's server was seen to do what it is assigned
// to: a primary runs, a standby streams.
func (d *differ) serves(n spec.Node) bool {
	view := d.obs.Nodes[n.Name]
	return view.Running() && (n.Name == d.primary.Name || view.StreamingFrom(d.rec.Assignments[n.Name].Upstream))
}

// unhealthy names another data node that is assigned and does not serve; empty
// when all do.
func (d *differ) unhealthy(than string) string {
	if d.sick == nil {
		d.sick = []string{}
		for _, n := range d.nodes {
			if _, assigned := d.rec.Assignments[n.Name]; assigned && !n.Witness && !d.serves(n) && !d.neverServed(n) {
				d.sick = append(d.sick, n.Name)
			}
		}
	}
	return otherThan(d.sick, than)
}

// neverServed reports whether a node cannot get its first copy: nobody relies on
// it, so that it holds nobody up.
func (d *differ) neverServed(n spec.Node) bool {
	view := d.obs.Nodes[n.Name]
	return view.Reachable && view.Report.Problem != nil && view.Report.Data.State == pg.DirAbsent && !d.inSync(n.Name)
}

// inSync reports whether commits may be waiting for the node.
func (d *differ) inSync(name string) bool {
	return slices.ContainsFunc(d.rec.Sync.Sets(), func(s SyncSet) bool { return slices.Contains(s.Members, name) })
}

// restartingOther names another node that was told to restart and is not back.
func (d *differ) restartingOther(than string) string {
	if d.away == nil {
		d.away = []string{}
		for _, n := range d.nodes {
			view, issued := d.obs.Nodes[n.Name], d.rec.Assignments[n.Name]
			if issued.Restart > view.Report.Started || d.restarting(n, view, issued) {
				d.away = append(d.away, n.Name)
			}
		}
	}
	return otherThan(d.away, than)
}

// otherThan is the first of names that is not than; names are without repetition.
func otherThan(names []string, than string) string {
	for _, name := range names[:min(len(names), 2)] {
		if name != than {
			return name
		}
	}
	return ""
}

// order adds what comes last, and what steps wait for that were planned after them: a restart waits
// for copies that are being made, which it would take the source or the peer away
// from, and a configuration that is held back waits for the restart that frees it.
func (d *differ) order() {
	var copies []string
	for _, s := range d.plan.Steps {
		if s.Kind == StepClone && len(s.After) == 0 && s.Waits == "" {
			copies = append(copies, s.ID)
		}
	}
	restart := stepID(StepRestart, d.primary.Name)
	for _, s := range d.later {
		s.After = append(s.After, d.has(restart)...)
		d.add(s)
	}
	for i := range d.plan.Steps {
		s := &d.plan.Steps[i]
		switch {
		case s.Kind == StepRestart && s.effect != nil:
			s.After = append(s.After, copies...)
		case slices.Contains(d.held, s.ID) && s.Waits == "":
			first := fmt.Sprintf("node %s to go first", d.primary.Name)
			s.After = d.has(restart)
			if s.Node == d.primary.Name {
				s.After, first = d.has(d.restarted...), "the standbys to go first"
			}
			if len(s.After) == 0 {
				s.Waits = first
			}
		}
	}
}
