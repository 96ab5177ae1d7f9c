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
			s.effect = &Effect{Sync: state.Next, Settle: true}
		}
	case !complete:
		s.After = d.has(d.standbySteps()...)
		s.Waits = d.missing(final, next, s.After)
	case !sameSync(state.Current, next) && d.obs.Nodes[primary].Running() && issued.Role == RolePrimary:
		issued.Serial++
		issued.Settings = maps.Clone(issued.Settings)
		issued.Settings[syncNamesSetting] = syncNames(next)
		s.effect = &Effect{Sync: &next, Assign: []Assign{{Node: primary, Assignment: issued}}}
	default:
		s.After = d.has(d.standbySteps()...)
		s.Waits = d.missing(final, next, s.After)
	}
	d.add(s)
}

// missing says what a sync set waits for when no step of the plan will bring it.
func (d *differ) missing(final, next SyncSet, after []string) string {
	if len(after) > 0 {
		return ""
	}
	for _, name := range final.Members {
		if !slices.Contains(next.Members, name) {
			return fmt.Sprintf("node %s to stream", name)
		}
	}
	return fmt.Sprintf("PostgreSQL on %s to run", d.primary.Name)
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
// one is about to come: one that is still being copied, or that runs and does not
// stream, is not waited for, since commits are safer with the others than without any.
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
		case view.Reachable && view.Report.Problem == nil && view.Report.Data.State == pg.DirCluster && !view.Running():
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
