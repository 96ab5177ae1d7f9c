package sim

import (
	"maps"
	"slices"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// Converged is a world in which want has converged. It is for clusters that are
// too large to be simulated round by round: all standbys but the first get
// theirs from the first one's assignment, at once. It returns nil when that did
// not make the plan empty.
func Converged(want *spec.Cluster) *World {
	w := New(1, want)
	w.unchecked = true
	w.mustPropose(reconcile.Command{Accept: &reconcile.Accept{Spec: want, Cause: reconcile.CauseApply}})
	for len(w.Record.Assignments) < 2 {
		w.bulk()
		w.round()
	}
	w.assignAll()
	for range 20 {
		w.bulk()
		if w.round() {
			return w
		}
	}
	return nil
}

// bulk lets every host do all that it can.
func (w *World) bulk() {
	w.now++
	for _, h := range w.all() {
		for range 12 {
			w.act(h)
		}
	}
	w.flow()
	for _, h := range w.all() {
		w.exchange(h)
	}
}

// assignAll gives the standbys that have no assignment one like the first's.
func (w *World) assignAll() {
	primary := w.Record.Assignments[w.Record.Primary]
	var model reconcile.Assignment
	for _, a := range w.Record.Assignments {
		if a.Role == reconcile.RoleStandby {
			model = a
		}
	}
	e := reconcile.Effect{Revision: w.Record.Revision}
	for _, n := range w.Record.Spec.Nodes {
		if _, has := w.Record.Assignments[n.Name]; !has {
			e.Assign = append(e.Assign, reconcile.Assign{Node: n.Name, Assignment: assignmentLike(model, primary, n)})
		}
	}
	w.mustPropose(reconcile.Command{Advance: &reconcile.Advance{Step: "all", Effect: e}})
}

func assignmentLike(a, primary reconcile.Assignment, n spec.Node) reconcile.Assignment {
	upstream := *a.Upstream
	upstream.Slot = pg.SlotName(n.Name)
	a.Node, a.Upstream, a.Serial = n.Name, &upstream, 1
	a.Server.Host, a.Server.Port, a.Server.DataDir = n.Host, n.Ports.Postgres, n.DataDir
	a.Settings = maps.Clone(a.Settings)
	a.Settings["listen_addresses"] = n.Host
	a.Slots = nil
	if n.Electable() {
		a.Slots = append(slices.DeleteFunc(slices.Clone(primary.Slots), func(s string) bool { return s == upstream.Slot }), pg.SlotName(primary.Node))
		slices.Sort(a.Slots)
	}
	return a
}
