package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// sync plans the set of standbys that commits wait for. A standby enters when it
// streams; the set that is in force and the next one both count until the
// primary has been seen to run the next.
func (d *differ) sync() {
	final := d.finalSync()
	state := d.rec.Sync
	if state.Next == nil && sameSync(state.Current, final) {
		return
	}
	primary := d.primary.Name
	issued := d.rec.Assignments[primary]
	s := Step{
		ID: stepID(StepSync, primary), Kind: StepSync, Node: primary,
		Summary: describeSync(final),
		Reason:  fmt.Sprintf("replication mode %s", d.want.Replication.Mode),
	}
	next, complete := d.nextSync(final)
	switch {
	case state.Next != nil:
		if d.runsSync(issued, *state.Next) {
			s.effect = &Effect{Settle: true}
		}
	case !complete:
		s.After = d.has(d.standbySteps()...)
	case !sameSync(state.Current, next) && d.obs.Nodes[primary].Running() && issued.Role == RolePrimary:
		issued.Serial++
		issued.Settings = maps.Clone(issued.Settings)
		issued.Settings[syncNamesSetting] = syncNames(next)
		s.effect = &Effect{Sync: &next, Assign: []Assign{{Node: primary, Assignment: issued}}}
	default:
		s.After = d.has(d.standbySteps()...)
	}
	d.add(s)
}

// finalSync is the set when every standby is there.
func (d *differ) finalSync() SyncSet {
	if d.want.Replication.Mode != spec.ModeQuorum || d.want.Replication.SyncStandbys == 0 {
		return SyncSet{}
	}
	set := SyncSet{K: d.want.Replication.SyncStandbys}
	for _, n := range d.nodes {
		if n.Electable() && n.Name != d.primary.Name {
			set.Members = append(set.Members, n.Name)
		}
	}
	sorted(set.Members)
	return set
}

// nextSync is the part of final that can be in force now: members that stay and
// members that stream. It is complete when there are enough, and when no further
// one is about to come.
func (d *differ) nextSync(final SyncSet) (next SyncSet, complete bool) {
	if final.K == 0 {
		return final, true
	}
	next.K = final.K
	coming := false
	for _, name := range final.Members {
		view := d.obs.Nodes[name]
		switch {
		case slices.Contains(d.rec.Sync.Current.Members, name),
			view.StreamingFrom(d.rec.Assignments[name].Upstream):
			next.Members = append(next.Members, name)
		case view.Reachable && view.Report.Problem == nil:
			coming = true
		}
	}
	shrinks := slices.ContainsFunc(d.rec.Sync.Current.Members, func(name string) bool {
		return !slices.Contains(final.Members, name)
	})
	return next, len(next.Members) >= final.K && (!coming || shrinks)
}

func (d *differ) standbySteps() []string {
	var ids []string
	for _, n := range d.nodes {
		if n.Electable() && n.Name != d.primary.Name {
			ids = append(ids, stepID(StepJoin, n.Name), stepID(StepClone, n.Name), stepID(StepStart, n.Name), stepID(StepFollow, n.Name))
		}
	}
	return ids
}

// runsSync reports whether the primary has been seen to run the set: a server
// that shows the serial of the assignment has read the file that it came in.
func (d *differ) runsSync(issued Assignment, set SyncSet) bool {
	view := d.obs.Nodes[d.primary.Name]
	names := syncNames(set)
	return settled(view, issued) &&
		issued.Settings[syncNamesSetting] == names &&
		view.Report.Server.Settings[syncNamesSetting] == names
}

func sameSync(a, b SyncSet) bool { return a.K == b.K && slices.Equal(a.Members, b.Members) }

func describeSync(s SyncSet) string {
	if s.K == 0 {
		return "commits wait for no standby"
	}
	return fmt.Sprintf("commits wait for any %d of %s", s.K, strings.Join(s.Members, ", "))
}

// leaving names the members that the spec no longer has, sorted.
func (d *differ) leaving() []string {
	var names []string
	for name := range d.rec.Members {
		if _, wanted := d.want.Node(name); !wanted {
			names = append(names, name)
		}
	}
	return sorted(names)
}

// gone reports whether a leaving node's slot may be dropped: it has stopped for
// good, or cannot be asked.
func (d *differ) gone(name string) bool {
	view := d.obs.Nodes[name]
	return view.Report.Retired || !view.Reachable
}

// departures plans the nodes that leave: out of the sync set, PostgreSQL stopped
// and its data put aside, out of Raft.
func (d *differ) departures() {
	for _, name := range d.leaving() {
		view := d.obs.Nodes[name]
		issued := d.rec.Assignments[name]
		if issued.Role != "" && !view.Report.Retired && view.Reachable {
			d.retire(name, view, issued)
		}
		leave := Step{
			ID: stepID(StepLeave, name), Kind: StepLeave, Node: name,
			Summary: fmt.Sprintf("node %s leaves the cluster", name),
			Reason:  "it is no longer in the spec",
			After:   d.has(stepID(StepRetire, name)),
		}
		if issued.Role != "" && !view.Reachable {
			leave.Destroys = fmt.Sprintf("the copy of the data on %s: its PostgreSQL is stopped, and its data directory set aside, when its ramd is back", name)
		}
		leave.After = append(leave.After, d.syncBefore(name)...)
		if len(leave.After) == 0 {
			leave.effect = &Effect{Leave: name}
		}
		d.add(leave)
	}
}

func (d *differ) syncBefore(name string) []string {
	inForce := slices.Contains(d.rec.Sync.Current.Members, name) ||
		d.rec.Sync.Next != nil && slices.Contains(d.rec.Sync.Next.Members, name)
	if !inForce {
		return nil
	}
	return d.has(stepID(StepSync, d.primary.Name))
}

func (d *differ) retire(name string, view NodeView, issued Assignment) {
	s := Step{
		ID: stepID(StepRetire, name), Kind: StepRetire, Node: name,
		Summary: fmt.Sprintf("stop PostgreSQL on %s and set its data directory aside", name),
		Reason:  "it is no longer in the spec",
		After:   d.syncBefore(name),
	}
	if view.Report.Data.State == pg.DirCluster {
		s.Destroys = fmt.Sprintf("the copy of the data on %s (kept aside on its host)", name)
	}
	if len(s.After) == 0 && issued.Role != RoleRetired {
		issued.Serial++
		issued.Role = RoleRetired
		s.effect = &Effect{Assign: []Assign{{Node: name, Assignment: issued}}}
	}
	d.add(s)
}
