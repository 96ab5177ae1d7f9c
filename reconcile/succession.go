package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// Succession is the next thing to do about primaryship: at most one of Open,
// Elect and Revive is set.
type Succession struct {
	Open  *Open
	Elect *Elect
	// Revive has the primary start its server again in the same term.
	Revive *Effect
	// Ask is set when others are to be asked whether the primary's PostgreSQL
	// answers them.
	Ask bool
	// Bar is set when the voters are to be told of the term.
	Bar bool
	// Waits says why nothing is done although there is no primary, or none that works.
	Waits string
}

const (
	// promisePatience is how long standbys that answer are waited for.
	promisePatience = 5 * time.Second
	// stopPatience is how long a switchover waits for the old primary to shut down.
	stopPatience = 20 * time.Second
)

// Succeed decides about primaryship: whether the primary is lost, and what comes
// next once a term is open. It is called whenever something was observed, and
// remembers nothing.
func Succeed(rec *Record, obs Observed) Succession {
	switch {
	case rec.Spec == nil || rec.Pause != nil || rec.SystemID == 0 || rec.Restoring != nil:
		return Succession{}
	case rec.Opening == nil:
		return watchPrimary(rec, obs)
	case rec.Opening.Stopping:
		return awaitStop(rec, obs)
	}
	in := FailoverInputOf(rec, obs)
	v := Failover(in)
	if v.Reclaim != "" && !rec.Assignments[v.Reclaim].Reclaim {
		return Succession{Open: reclaim(rec, v)}
	}
	if v.Choose == "" {
		return Succession{Waits: v.Reason, Bar: !in.Deposed.Dead}
	}
	return Succession{Elect: elect(rec, obs, in, v)}
}

// watchPrimary decides whether the primary is lost.
func watchPrimary(rec *Record, obs Observed) Succession {
	issued := rec.Assignments[rec.Primary]
	if issued.Role != RolePrimary {
		return Succession{}
	}
	why, dead := suspect(rec, obs)
	if why == "" {
		return Succession{Ask: suspicious(rec, obs)}
	}
	v := obs.Nodes[rec.Primary]
	intact := v.Report.Data.State == pg.DirCluster && v.Report.Data.SystemID == rec.SystemID
	if !rec.Spec.Failover.Automatic {
		if dead && intact {
			return Succession{Revive: revive(rec)}
		}
		return Succession{Waits: why + "; failover.automatic is false: ramctrl failover makes a standby the primary"}
	}
	cannot := cannotSucceed(rec, obs)
	switch {
	case dead && intact && (cannot != "" || !issued.Revived && !guarantees(rec.Sync.Sets())):
		return Succession{Revive: revive(rec)}
	case cannot != "":
		return Succession{Waits: why + "; " + cannot}
	}
	return Succession{Open: openTerm(rec, Opening{
		Cause: OpenFailover, Deposed: rec.Primary, Reason: why,
	})}
}

// suspect is why the primary is taken for lost; empty when it is not. It is dead
// when its agent says that the server which was launched for its assignment, and
// no earlier one, has ended.
func suspect(rec *Record, obs Observed) (why string, dead bool) {
	name := rec.Primary
	v, issued := obs.Nodes[name], rec.Assignments[name]
	r, limits := v.Report, rec.Spec.Failover
	held := v.Reachable && r.Serial == issued.Serial
	switch {
	case held && r.Server.State == pg.ServerStopped && r.Activity == nil && r.Data.State == pg.DirAbsent:
		return fmt.Sprintf("the data directory of %s is gone", name), true
	case held && r.Server.State == pg.ServerStopped && r.Activity == nil && !issued.mayLaunch(r.Launched):
		return fmt.Sprintf("PostgreSQL on %s has ended", name), true
	case held && r.Hung >= limits.Lease.Std():
		return fmt.Sprintf("PostgreSQL on %s has answered nobody for %s", name, limits.Lease), false
	case obs.Pulse.Silent > limits.Detect.Std() && obs.Pulse.Unreached:
		return fmt.Sprintf("nothing was heard of %s for more than %s, and no other node reaches its PostgreSQL", name, limits.Detect), false
	}
	return "", false
}

// suspicious reports whether the silence is long enough to ask others.
func suspicious(rec *Record, obs Observed) bool {
	return obs.Pulse.Silent > AskAfter(rec.Spec.Failover.Detect.Std())
}

// AskAfter is the silence after which others are asked whether the primary's PostgreSQL
// answers them. They have the rest of detect for it.
func AskAfter(detect time.Duration) time.Duration { return detect / 3 }

func guarantees(sets []SyncSet) bool {
	return len(sets) > 0 && !slices.ContainsFunc(sets, func(s SyncSet) bool { return s.K == 0 })
}

// cannotSucceed is why opening a term would end with no primary, as far as can be
// told: the old one may yet be well, and is then better than none. Who answers is
// taken to promise.
func cannotSucceed(rec *Record, obs Observed) string {
	in := FailoverInput{
		Sets: rec.Sync.present(), Former: rec.Sync.Former,
		Deposed: Deposed{Node: rec.Primary, Timeline: rec.Assignments[rec.Primary].Timeline},
	}
	possible := false
	for _, n := range byID(rec.Spec.Nodes) {
		v := obs.Nodes[n.Name]
		r := v.Report
		c := Candidate{Node: n.Name, Priority: n.Priority, Timeline: r.Server.Timeline, Barren: barren(rec, v)}
		c.Promised = c.Barren || v.Running() && r.Server.Recovery && r.Data.SystemID == rec.SystemID
		if n.Witness || n.Name == rec.Primary || !c.Promised {
			continue
		}
		in.Nodes = append(in.Nodes, c)
		possible = possible || c.electable()
	}
	strict := rec.Spec.Replication.Mode == spec.ModeQuorum && rec.Spec.Replication.WhenShort != spec.WhenShortDegrade
	c := choice{in: in, promised: in.Nodes}
	slices.SortStableFunc(c.promised, c.compare)
	switch {
	case !possible:
		return "no standby that may become primary answers"
	case c.guaranteed():
		if missing := c.missingPromises(); missing != "" {
			return "so that no acknowledged write is lost " + missing
		}
	case strict:
		return "no sync set is in force: only it has every acknowledged write"
	}
	return ""
}

// barren reports whether a node that answers is a former primary, stopped, that has
// received nothing from any primary since: it counts for promises, with nothing to give.
func barren(rec *Record, v NodeView) bool {
	d := v.Report.Data
	return v.Reachable && v.Report.Server.State == pg.ServerStopped && d.State == pg.DirCluster &&
		d.SystemID == rec.SystemID && (d.WasPrimary() || d.Rewinding)
}

func revive(rec *Record) *Effect {
	a := rec.Assignments[rec.Primary]
	a.Serial++
	a.Launch, a.Revived = a.Serial, true
	return &Effect{Revision: rec.Revision, Assign: []Assign{{Node: rec.Primary, Assignment: a}}}
}

// OpenFor opens a term because an operator asked for it.
func OpenFor(rec *Record, cause OpenReason, target string, acceptLoss bool) *Open {
	o := Opening{Cause: cause, Deposed: rec.Primary, Target: target, AcceptLoss: acceptLoss, Reason: "an operator asked for it"}
	if rec.Opening != nil {
		o = *rec.Opening
		o.Target, o.AcceptLoss, o.Stopping = cmp.Or(target, o.Target), o.AcceptLoss || acceptLoss, o.Stopping && cause == OpenSwitchover
		if cause == OpenFailover {
			o.Cause = OpenFailover
		}
		return &Open{Term: rec.Term, Opening: o, Assign: freeze(rec, rec.Term, o)}
	}
	o.Stopping = cause == OpenSwitchover
	return openTerm(rec, o)
}

func openTerm(rec *Record, o Opening) *Open {
	return &Open{Term: rec.Term, Opening: o, Assign: freeze(rec, rec.Term+1, o)}
}

// freeze are the assignments of an open term: nobody is primary, and nobody takes
// WAL from one. While the old primary shuts down in order the others stay connected.
func freeze(rec *Record, term uint64, o Opening) []Assign {
	var list []Assign
	for _, name := range slices.Sorted(maps.Keys(rec.Assignments)) {
		a := rec.Assignments[name]
		if a.Role != RolePrimary && a.Role != RoleStandby || o.Stopping && name != o.Deposed {
			continue
		}
		if a.Frozen() && a.Term == term && a.Clean == (o.Stopping && name == o.Deposed) {
			continue
		}
		a.Serial++
		a.Role, a.Term, a.Upstream, a.Rewind, a.Revived, a.Reclaim = RoleStandby, term, nil, false, false, false
		a.Clean = o.Stopping && name == o.Deposed
		list = append(list, Assign{Node: name, Assignment: a})
	}
	return list
}

// reclaim has a former primary become a candidate with what it wrote.
func reclaim(rec *Record, v Verdict) *Open {
	o := *rec.Opening
	a := rec.Assignments[v.Reclaim]
	a.Serial++
	a.Reclaim = true
	o.Reason = v.Reason
	return &Open{Term: rec.Term, Opening: o, Assign: []Assign{{Node: v.Reclaim, Assignment: a}}}
}

// awaitStop has a switchover go on when the old primary has stopped, or will not.
func awaitStop(rec *Record, obs Observed) Succession {
	o := *rec.Opening
	silent := obs.Pulse.Silent > rec.Spec.Failover.Detect.Std() && obs.Pulse.Unreached
	if !confirmedDead(rec, obs) && !silent && obs.Pulse.Open < stopPatience {
		return Succession{Waits: fmt.Sprintf("waits for %s to shut down", o.Deposed), Ask: suspicious(rec, obs)}
	}
	o.Stopping = false
	list := freeze(rec, rec.Term, o)
	list = slices.DeleteFunc(list, func(a Assign) bool { return a.Node == o.Deposed && confirmedDead(rec, obs) })
	return Succession{Open: &Open{Term: rec.Term, Opening: o, Assign: list}}
}

// confirmedDead reports whether the deposed primary's agent has said, holding an
// assignment of the open term, that no process of its server is left.
func confirmedDead(rec *Record, obs Observed) bool {
	name := rec.Opening.Deposed
	v, issued := obs.Nodes[name], rec.Assignments[name]
	if !v.Reachable || issued.Term != rec.Term || v.Report.Serial != issued.Serial || v.Report.Activity != nil {
		return false
	}
	// One that was never promoted is started again as the standby that it still is.
	s := v.Report.Server
	frozen := s.State == pg.ServerRunning && s.Recovery && s.WALComplete && issued.Frozen() && v.Report.Loaded == issued.Serial && v.Report.Settled >= issued.Serial
	return s.State == pg.ServerStopped || frozen
}

// FailoverInputOf gathers what the choice depends on. The record must have an open term.
func FailoverInputOf(rec *Record, obs Observed) FailoverInput {
	o := rec.Opening
	in := FailoverInput{
		Format: FailoverFormat, Term: rec.Term, Cause: o.Cause, Target: o.Target, AcceptLoss: o.AcceptLoss,
		Mode: rec.Spec.Replication.Mode, WhenShort: rec.Spec.Replication.WhenShort, MaxLag: pg.Bytes(rec.Spec.Replication.MaxLag),
		Sets: rec.Sync.present(), Former: rec.Sync.Former, Waited: obs.Pulse.Asked, Patience: promisePatience,
	}
	in.Deposed = deposedOf(rec, obs)
	for _, n := range byID(rec.Spec.Nodes) {
		if !n.Witness && (n.Name != o.Deposed || neverPromoted(rec, obs)) {
			in.Nodes = append(in.Nodes, candidateOf(rec, obs, n))
		}
	}
	return in
}

func deposedOf(rec *Record, obs Observed) Deposed {
	name := rec.Opening.Deposed
	n, _ := rec.Spec.Node(name)
	r := obs.Nodes[name].Report
	lease := longestLease(rec)
	d := Deposed{
		Node: name, Zone: n.Zone, Timeline: rec.Assignments[name].Timeline, Dead: confirmedDead(rec, obs), LSN: max(obs.Pulse.LSN, r.Server.LSN),
		LeaseOver: obs.Pulse.Barred > LeaseMargin(lease),
	}
	d.Intact = d.Dead && r.Data.State == pg.DirCluster && r.Data.SystemID == rec.SystemID && !r.Data.Rewinding && n.Name != ""
	if neverPromoted(rec, obs) {
		d.Dead, d.Intact = true, false
		return d
	}
	if d.Dead && r.Data.ControlState == "shut down" {
		d.Clean, d.LSN, d.EndTimeline = true, r.Data.Checkpoint, r.Data.Timeline
	}
	return d
}

// longestLease is the longest that may be out: a primary that was cut off may not have
// heard of a spec with a shorter one.
func longestLease(rec *Record) time.Duration {
	longest := rec.Spec.Failover.Lease
	for _, r := range rec.History {
		longest = max(longest, r.Spec.Failover.Lease)
	}
	return longest.Std()
}

// LeaseMargin is what is added to a lease that is waited for: two hosts' clocks may
// run at rates that differ a little.
func LeaseMargin(lease time.Duration) time.Duration { return lease + lease/20 }

// neverPromoted reports whether the deposed node was granted primaryship and lost it
// before its server had become a primary: it is a standby like the others.
func neverPromoted(rec *Record, obs Observed) bool {
	name := rec.Opening.Deposed
	v, issued := obs.Nodes[name], rec.Assignments[name]
	r := v.Report
	return v.Reachable && issued.Frozen() && issued.Term == rec.Term && r.Serial == issued.Serial &&
		r.Data.State == pg.DirCluster && r.Data.Standby && !r.Data.WasPrimary() && (r.Server.State == pg.ServerStopped || r.Server.Recovery)
}

func candidateOf(rec *Record, obs Observed, n spec.Node) Candidate {
	v, issued := obs.Nodes[n.Name], rec.Assignments[n.Name]
	r := v.Report
	c := Candidate{Node: n.Name, Zone: n.Zone, Priority: n.Priority, Timeline: r.Server.Timeline, LSN: r.Server.LSN}
	ours := r.Data.State == pg.DirCluster && r.Data.SystemID == rec.SystemID && !r.Data.Rewinding
	c.Reachable = v.Reachable && ours && issued.Frozen() && r.Problem == nil
	held := issued.Frozen() && issued.Term == rec.Term && r.Serial == issued.Serial
	switch {
	case held && barren(rec, v) && r.Activity == nil:
		c.Promised, c.Barren, c.Former, c.Timeline, c.LSN = true, true, !r.Data.Rewinding, r.Data.Timeline, 0
	case issued.Role == "":
		c.Why = "it holds no data yet"
	case !v.Reachable:
		c.Why = "its ramd does not answer"
	case !ours:
		c.Why = "it has no data directory that could be used"
	case r.Server.State == pg.ServerRunning && !r.Server.Recovery:
		c.Why = "its server does not run as a standby"
	case r.Problem != nil:
		c.Why = r.Problem.Text
	case r.Server.State != pg.ServerRunning:
		c.Why = fmt.Sprintf("its server is %s", r.Server.State)
	case r.Serial != issued.Serial || !issued.Frozen() || issued.Term != rec.Term || r.Loaded != issued.Serial || r.Settled < issued.Serial:
		c.Why = "it has not disconnected yet"
	case !r.Server.WALComplete:
		c.Why = "it has not read all of its WAL yet"
	default:
		c.Promised = true
	}
	return c
}

// elect is the choice carried out: the new primary, and those that promised to it
// as its followers.
func elect(rec *Record, obs Observed, in FailoverInput, v Verdict) *Elect {
	e := &Elect{Term: rec.Term, Node: v.Choose, Choice: Choice{Input: in, Verdict: v}}
	chosen := rec.Assignments[v.Choose]
	chosen.Serial++
	chosen.Launch = chosen.Serial
	// A newer copy that was asked for and not made is not waited for.
	chosen.Generation = obs.Nodes[v.Choose].Report.Data.Generation
	chosen.Role, chosen.Term, chosen.Upstream, chosen.Clean, chosen.Rewind = RolePrimary, rec.Term, nil, false, false
	chosen.Settings = maps.Clone(chosen.Settings)
	if v.Choose != in.Deposed.Node {
		e.Timeline = nextTimeline(rec, obs)
		if chosen.Reclaim {
			e.Timeline++ // it does not continue the timeline before, and a gap says so: see ahead
		}
		chosen.Timeline = e.Timeline
		set := fullSync(rec.Spec, v.Choose)
		e.Sync = &set
		chosen.Settings[syncNamesSetting] = syncNames(set)
	}
	e.Assign = []Assign{{Node: v.Choose, Assignment: chosen}}
	n, _ := rec.Spec.Node(v.Choose)
	for _, c := range in.Nodes {
		if c.Node == v.Choose || !follows(c, in, v.Choose) {
			continue // Diff sees to it when the new primary runs
		}
		a := rec.Assignments[c.Node]
		a.Serial++
		a.Upstream = &Upstream{Node: n.Name, Host: n.Host, Port: chosen.Server.Port, Slot: pg.SlotName(c.Node)}
		e.Assign = append(e.Assign, Assign{Node: c.Node, Assignment: a})
	}
	return e
}

// nextTimeline is one that no server of the cluster has ever been on. PostgreSQL
// itself only knows of those that it has heard of, and two servers that began the
// same one would each take the other's WAL for their own.
func nextTimeline(rec *Record, obs Observed) pg.Timeline {
	last := max(rec.Timeline, 1)
	for _, v := range obs.Nodes {
		last = max(last, v.Report.Server.Timeline, v.Report.Data.Timeline)
	}
	return last + 1
}

// follows reports whether a node that promised can follow the chosen one as it is. The
// former primary has sent nothing that it does not have itself. After an end in order,
// which the chosen one has, nobody can come to be ahead, promised or not.
func follows(c Candidate, in FailoverInput, chosen string) bool {
	if chosen == in.Deposed.Node {
		return c.Promised
	}
	i := slices.IndexFunc(in.Nodes, func(n Candidate) bool { return n.Node == chosen })
	to := in.Nodes[i]
	endless := in.Deposed.Clean && c.Reachable && to.Timeline == in.Deposed.EndTimeline && to.LSN > in.Deposed.LSN
	return (c.Promised || endless) && c.Timeline == to.Timeline && c.LSN <= to.LSN
}

// fullSync is the set of all nodes that may succeed a primary. Standbys run their
// own all the time, so that the first write after a promotion waits for it.
func fullSync(c *spec.Cluster, primary string) SyncSet {
	if c.Replication.Mode != spec.ModeQuorum || c.Replication.SyncStandbys == 0 {
		return SyncSet{}
	}
	set := SyncSet{K: c.Replication.SyncStandbys}
	for _, n := range c.Nodes {
		if n.Electable() && n.Name != primary {
			set.Members = append(set.Members, n.Name)
		}
	}
	sorted(set.Members)
	return set
}
