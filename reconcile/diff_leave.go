package reconcile

import (
	"fmt"
	"time"

	"github.com/ramhq/ram/pg"
)

// GiveUp is how long a node that leaves must have been silent to be taken out
// without having stopped its PostgreSQL. A leader that has not heard a node since
// it began knows nothing of it: the time counts from there.
const GiveUp = 30 * time.Second

// leaving names the members that the spec no longer has, sorted, and with them
// those that Raft has and the record does not.
func (d *differ) leaving() []string {
	if d.leavers != nil {
		return d.leavers
	}
	wanted := make(map[string]bool, len(d.nodes))
	for _, n := range d.nodes {
		wanted[n.Name] = true
	}
	d.leavers = []string{}
	for name := range d.rec.Members {
		if !wanted[name] {
			d.leavers = append(d.leavers, name)
		}
	}
	for _, m := range d.obs.Raft {
		if !wanted[m.Name] && !d.joined(m.Name) {
			d.leavers = append(d.leavers, m.Name)
		}
	}
	return sorted(d.leavers)
}

// gone reports whether nothing has to be kept for a leaving node: it never held
// data, has stopped for good, holds what is not ours to touch, or has been silent
// for too long.
func (d *differ) gone(name string) bool {
	view, issued := d.obs.Nodes[name], d.rec.Assignments[name]
	data := view.Report.Data
	foreign := data.State == pg.DirForeign || data.State == pg.DirCluster && data.SystemID != d.rec.SystemID
	return issued.Role == "" || issued.Role == RoleRetired && view.Report.Retired || foreign || d.lost(name)
}

// lost reports whether a node has been silent for so long that it is given up.
func (d *differ) lost(name string) bool {
	return givenUp(d.obs.Nodes[name])
}

func givenUp(v NodeView) bool { return !v.Reachable && v.Silent >= GiveUp }

// departures plans the nodes that leave: out of the sync set, PostgreSQL stopped
// and its data put aside, out of Raft.
func (d *differ) departures() {
	for _, name := range d.leaving() {
		if !d.gone(name) {
			d.retire(name)
		}
		d.leave(name)
	}
}

func (d *differ) retire(name string) {
	view, issued := d.obs.Nodes[name], d.rec.Assignments[name]
	s := Step{
		ID: stepID(StepRetire, name), Kind: StepRetire, Node: name,
		Summary: fmt.Sprintf("stop PostgreSQL on %s and set its data directory aside", name),
		Reason:  "it is no longer in the spec",
		After:   d.syncBefore(name),
	}
	if !view.Reported || view.Report.Data.State == pg.DirCluster {
		s.Destroys = fmt.Sprintf("the copy of the data on %s (kept aside on its host)", name)
	}
	switch {
	case d.inSync(name):
		if len(s.After) == 0 {
			s.Waits = "commits to wait for others"
		}
	case issued.Role != RoleRetired:
		issued.Serial++
		issued.Role = RoleRetired
		s.effect = &Effect{Assign: []Assign{{Node: name, Assignment: issued}}}
	case !view.Reachable:
		s.Waits = fmt.Sprintf("ramd on %s to answer, or to have been silent for %s", name, GiveUp)
	}
	d.add(s)
}

func (d *differ) leave(name string) {
	s := Step{
		ID: stepID(StepLeave, name), Kind: StepLeave, Node: name,
		Summary: fmt.Sprintf("node %s leaves the cluster", name),
		Reason:  "it is no longer in the spec",
		After:   append(d.has(stepID(StepRetire, name)), d.syncBefore(name)...),
		effect:  &Effect{Leave: name},
	}
	if d.rec.Assignments[name].Role != "" && d.lost(name) {
		s.Destroys = fmt.Sprintf("the copy of the data on %s: its PostgreSQL is stopped, and its data directory set aside, when its ramd is back", name)
	}
	if d.inSync(name) && len(s.After) == 0 {
		s.Waits, s.effect = "commits to wait for others", nil
	}
	d.unvote(name, &s)
	if len(s.After) > 0 {
		s.effect = nil
	}
	d.add(s)
}

func (d *differ) syncBefore(name string) []string {
	if !d.inSync(name) {
		return nil
	}
	return d.has(stepID(StepSync, d.primary.Name))
}
