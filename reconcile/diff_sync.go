package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// sync plans the set of standbys that commits wait for. A standby enters when it
// streams, and leaves when it is lost and enough others are there. All sets that
// count go on counting until the primary has been seen to run the one that is to
// count alone, and enough of its members to have all that was written before.
func (d *differ) sync() {
	final := d.finalSync()
	state := d.rec.Sync
	next, complete := d.nextSync(final)
	if state.settled() && sameSync(state.Current, final) && (!complete || sameSync(next, final)) {
		return
	}
	primary := d.primary.Name
	issued := d.rec.Assignments[primary]
	s := Step{
		ID: stepID(StepSync, primary), Kind: StepSync, Node: primary,
		Summary: describeSync(final),
		Reason:  fmt.Sprintf("replication mode %s", d.want.Replication.Mode),
	}
	target := state.Target()
	switch {
	case !state.settled() && d.runsSync(issued, target):
		s.effect = &Effect{Sync: &target, Settle: true}
	case complete && !sameSync(target, next) && d.leads() && issued.Role == RolePrimary:
		issued.Serial++
		issued.Settings = maps.Clone(issued.Settings)
		issued.Settings[syncNamesSetting] = syncNames(next)
		s.Summary = describeSync(next)
		s.effect = &Effect{Sync: &next, Assign: []Assign{{Node: primary, Assignment: issued}}}
	case !state.settled():
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
func (d *differ) finalSync() SyncSet { return fullSync(d.want, d.primary.Name) }

// nextSync is the part of final that can be in force now: members that stream, and
// those of the present set that are not lost. It is complete when there are enough,
// and when no further one is about to come: one that is still being copied, or
// that runs and does not stream, is not waited for, since commits are safer with
// the others than without any. With fewer than are asked for, the set stays as it
// is and commits wait, unless the spec has them go on without.
func (d *differ) nextSync(final SyncSet) (next SyncSet, complete bool) {
	if final.K == 0 {
		return final, true
	}
	next.K = final.K
	current := d.rec.Sync.Current.Members
	coming, unknown, staying := false, false, []string{}
	for _, name := range final.Members {
		view := d.obs.Nodes[name]
		member := slices.Contains(current, name)
		unknown = unknown || !view.Reported && view.Silent < firstReport
		switch {
		case view.StreamingFrom(d.rec.Assignments[name].Upstream), member && !d.lostStream(name):
			next.Members = append(next.Members, name)
		case !member && view.Reachable && view.Report.Problem == nil && view.Report.Data.State == pg.DirCluster && !view.Running():
			coming = true
		}
		if member {
			staying = append(staying, name)
		}
	}
	if len(next.Members) < next.K {
		next, complete = d.shortSync(next, staying)
		return next, complete && !unknown
	}
	shrinks := len(staying) < len(current)
	return next, (!coming || shrinks) && !unknown
}

// shortSync is the set while there are fewer standbys than commits are to wait for.
func (d *differ) shortSync(next SyncSet, staying []string) (SyncSet, bool) {
	if d.want.Replication.WhenShort == spec.WhenShortDegrade && len(d.rec.Sync.Current.Members) > 0 {
		next.K = len(next.Members)
		return next, true
	}
	for _, name := range staying {
		if !slices.Contains(next.Members, name) {
			next.Members = append(next.Members, name)
		}
	}
	sorted(next.Members)
	return next, len(next.Members) >= next.K
}

// lostStream reports whether a member of the set will not stream soon: it does not
// answer, cannot get on, gets a new copy, or runs as it was told and receives nothing.
// One that restarts, or is sent to another upstream, is not lost.
func (d *differ) lostStream(name string) bool {
	view, issued := d.obs.Nodes[name], d.rec.Assignments[name]
	r := view.Report
	switch {
	case !view.Reachable, r.Problem != nil, r.Data.State != pg.DirCluster, r.Data.Generation < issued.Generation, r.Data.Rewinding:
		return true
	case r.Server.State == pg.ServerStopped && r.Data.WasPrimary():
		return true // it has to be rewound
	case r.Activity != nil && (r.Activity.Step == StepClone || r.Activity.Step == StepRewind):
		return true
	}
	return d.leads() && r.Apart > apartLimit
}

// apartLimit is how long a member of the sync set may be without a stream: one that is
// sent to another primary, or loses its connection, is back in a moment.
const apartLimit = 2 * time.Second

func (d *differ) standbySteps() []string {
	var ids []string
	for _, n := range d.nodes {
		if n.Electable() && n.Name != d.primary.Name {
			ids = append(ids, stepID(StepJoin, n.Name), stepID(StepClone, n.Name), stepID(StepStart, n.Name), stepID(StepFollow, n.Name))
		}
	}
	return ids
}

// runsSync reports whether the set may count alone: a fresh session of the primary
// has shown it, and enough of its members have all WAL up to that moment. What is
// written later is acknowledged by the set only: a walsender reads its new
// configuration before it hears of WAL that it sent after it was told to.
func (d *differ) runsSync(issued Assignment, set SyncSet) bool {
	view := d.obs.Nodes[d.primary.Name]
	r, names := view.Report, syncNames(set)
	runs := settled(view, issued) && !r.Server.Recovery && r.SyncSince != 0 &&
		issued.Settings[syncNamesSetting] == names && r.Server.Settings[syncNamesSetting] == names
	have := 0
	for _, member := range set.Members {
		if slices.ContainsFunc(r.Server.Senders, func(s pg.WALSender) bool {
			return s.Application == pg.ApplicationName(member) && s.State == "streaming" && s.FlushLSN >= r.SyncSince
		}) {
			have++
		}
	}
	return runs && have >= set.K
}

func sameSync(a, b SyncSet) bool { return a.K == b.K && slices.Equal(a.Members, b.Members) }

func describeSync(s SyncSet) string {
	if s.K == 0 {
		return "commits wait for no standby"
	}
	return fmt.Sprintf("commits wait for any %d of %s", s.K, strings.Join(s.Members, ", "))
}
