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
	case !view.Reported, data.State == "":
		return ""
	case data.State == pg.DirAbsent:
		return "it has no data directory"
	case data.Generation < issued.Generation:
		return "its copy is being made"
	case data.Generation < d.rec.Floor:
		return "its data are of before the cluster was restored"
	case d.rec.Wishes[n.Name].Reinit:
		return "an operator asked for a new copy"
	case data.Rewinding:
		return "a rewind of its data was interrupted"
	case view.Reachable && view.Report.Problem != nil && view.Report.Problem.Impossible && view.Report.Problem.Step == StepRewind:
		return "its data cannot be rewound: " + view.Report.Problem.Text
	case outlived(n.Name, view, d.obs.Nodes[d.primary.Name]) && !d.catchesUp(view):
		return fmt.Sprintf("it cannot follow %s any more: the WAL that it needs is gone, or it has some of its own", d.primary.Name)
	}
	return ""
}

// outlived reports whether a standby does not stream and cannot: its slot is
// lost, its next WAL is older than all that the upstream still has, or it was
// promoted behind ramd's back and has WAL that the upstream never had.
func outlived(node string, v, upstream NodeView) bool {
	if !v.Reachable || v.Report.Server.Receiver.Streaming() || !upstream.Running() {
		return false
	}
	up, server := upstream.Report.Server, v.Report.Server
	slot := pg.SlotName(node)
	i, found := slices.BinarySearchFunc(up.Slots, slot, func(s pg.Slot, name string) int { return strings.Compare(s.Name, name) })
	switch {
	case found && up.Slots[i].WALStatus == "lost":
		return true
	case !v.Running():
		return false
	}
	behind := up.OldestWAL != 0 && server.LSN != 0 && server.LSN < up.OldestWAL
	return behind || up.Timeline != 0 && server.Timeline > up.Timeline
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
	final.Rewind = false // that was said of the data which are to be replaced
	a := d.staged(n, final)
	d.copyFrom(n, view, issued, &a, &s)
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
			a.Generation = max(issued.Generation, data.Generation, d.rec.Floor) + 1
		}
		s.effect = &Effect{Assign: []Assign{{Node: n.Name, Assignment: a}}}
	}
	if view.StreamingFrom(issued.Upstream) {
		s.Interrupts = d.interrupts(n)
	}
	d.add(s)
	if later := d.restarts(a.Settings, final.Settings); len(later) > 0 {
		d.later = append(d.later, Step{
			ID: stepID(StepRestart, n.Name), Kind: StepRestart, Node: n.Name,
			Summary: fmt.Sprintf("restart PostgreSQL on %s", n.Name),
			Reason:  strings.Join(later, ", "),
			After:   []string{s.ID},
		})
	}
	if p := view.Report.Problem; view.Reachable && p != nil {
		d.block(n.Name, "node %s: %s", n.Name, p.Text)
	}
}

// copyFrom says where a new copy comes from: the primary, or, when an operator wants
// that, a backup.
func (d *differ) copyFrom(n spec.Node, view NodeView, issued Assignment, a *Assignment, s *Step) {
	a.Retain = issued.Retain && view.Report.Data.Generation < d.rec.Floor
	switch wish := d.rec.Wishes[n.Name]; {
	case issued.Generation > view.Report.Data.Generation:
		a.Restore = issued.Restore // it is being made
	case wish.Reinit:
		a.Restore = wish.Restore
	}
	if a.Restore != nil {
		s.From = "repository " + a.Restore.Repository
		s.Summary = fmt.Sprintf("rebuild %s from backup %s of repository %s", n.Name, a.Restore.Backup, a.Restore.Repository)
	}
}

// succession is the plan while there is no primary: nothing but the choice of one.
func (d *differ) succession() {
	o := d.rec.Opening
	s := Step{
		ID: string(StepFailover), Kind: StepFailover, Node: o.Target,
		Summary:    fmt.Sprintf("another node becomes the primary of term %d", d.rec.Term),
		Reason:     o.Reason,
		Interrupts: "writes stop until there is a primary",
	}
	if d.rec.Pause == nil {
		s.Waits = Succeed(d.rec, d.obs).Waits
	} else {
		s.Waits = "ramctrl resume"
	}
	d.add(s)
}
