package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// standby plans a standby: a new copy when it has none or has lost its place,
// changes otherwise.
func (d *differ) standby(n spec.Node) {
	view, issued := d.obs.Nodes[n.Name], d.rec.Assignments[n.Name]
	if reason := wrongData(n, view, d.rec.SystemID); reason != "" {
		d.block(n.Name, "%s", reason)
		return
	}
	if reason := d.cloneReason(n, view, issued); reason != "" {
		d.clone(n, view, issued, reason)
		return
	}
	d.running(n)
}

// cloneReason is why the node needs a new copy of the data; empty when it does not.
func (d *differ) cloneReason(n spec.Node, view NodeView, issued Assignment) string {
	data := view.Report.Data
	switch {
	case issued.Generation == 0 || issued.Role != RoleStandby:
		return "it has no data yet"
	case !view.Reported:
		return ""
	case data.State == pg.DirAbsent:
		return "it has no data directory"
	case data.Generation < issued.Generation:
		return "its copy is being made"
	case d.rec.Wishes[n.Name].Reinit:
		return "an operator asked for a new copy"
	case d.lostPlace(n, view):
		return fmt.Sprintf("WAL that it needs is no longer on %s", d.primary.Name)
	}
	return ""
}

// lostPlace reports whether a standby does not stream and cannot: its slot is
// lost, or its next WAL is older than all that the primary still has.
func (d *differ) lostPlace(n spec.Node, view NodeView) bool {
	if !view.Reachable || view.Report.Server.Receiver.Streaming() {
		return false
	}
	upstream := d.obs.Nodes[d.primary.Name]
	if !upstream.Running() {
		return false
	}
	slots := upstream.Report.Server.Slots
	i := slices.IndexFunc(slots, func(s pg.Slot) bool { return s.Name == pg.SlotName(n.Name) })
	if i >= 0 && slots[i].WALStatus == "lost" {
		return true
	}
	oldest := upstream.Report.Server.OldestWAL
	return view.Running() && oldest != 0 && view.Report.Server.LSN != 0 && view.Report.Server.LSN < oldest
}

func (d *differ) clone(n spec.Node, view NodeView, issued Assignment, reason string) {
	s := Step{
		ID: stepID(StepClone, n.Name), Kind: StepClone, Node: n.Name,
		Summary: fmt.Sprintf("clone %s from %s", n.Name, d.primary.Name),
		Reason:  reason,
		From:    d.primary.Name,
		Bytes:   d.obs.Nodes[d.primary.Name].Report.Server.Size,
	}
	s.After = d.has(stepID(StepJoin, n.Name), stepID(StepInit, d.primary.Name), stepID(StepStart, d.primary.Name))
	data := view.Report.Data
	if len(d.cloning) >= MaxClones {
		s.After = append(s.After, d.cloning[len(d.cloning)-MaxClones])
	}
	if view.Reachable && view.Report.Problem == nil {
		// What cannot begin, or does not get on, takes nobody's turn.
		d.cloning = append(d.cloning, s.ID)
	}
	final := d.final(n)
	a := d.staged(n, final)
	switch {
	case len(s.After) > 0:
	case !view.Reachable:
		s.Waits = fmt.Sprintf("ramd on %s to report", n.Name)
	case !d.ready(n.Name):
		s.Waits = fmt.Sprintf("slot %s on %s", pg.SlotName(n.Name), d.primary.Name)
	case issued.Generation > data.Generation && issued.same(a):
	default:
		a.Serial = d.firstSerial(n.Name)
		if issued.Generation <= data.Generation {
			a.Generation = max(issued.Generation, data.Generation) + 1
		}
		s.effect = &Effect{Assign: []Assign{{Node: n.Name, Assignment: a}}}
	}
	if view.StreamingFrom(issued.Upstream) {
		s.Interrupts = d.interrupts(n)
	}
	d.add(s)
	if later := d.restarts(a.Settings, final.Settings); len(later) > 0 {
		d.add(Step{
			ID: stepID(StepRestart, n.Name), Kind: StepRestart, Node: n.Name,
			Summary: fmt.Sprintf("restart PostgreSQL on %s", n.Name),
			Reason:  strings.Join(later, ", "),
			After:   d.has(s.ID),
		})
	}
	if p := view.Report.Problem; view.Reachable && p != nil {
		d.block(n.Name, "node %s: %s", n.Name, p.Text)
	}
}
