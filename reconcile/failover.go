package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// FailoverFormat is the version of FailoverInput's and Verdict's JSON form.
const FailoverFormat = 1

// FailoverInput is all that the choice of a new primary depends on. It is kept
// with the verdict, so that the choice can be explained, and made again, later.
type FailoverInput struct {
	Format int `json:"format"`
	// Term is the one that was opened and is to be granted.
	Term  uint64     `json:"term"`
	Cause OpenReason `json:"cause"`
	// Target is the node that an operator asked for; empty for the best one.
	Target string `json:"target,omitempty"`
	// AcceptLoss is the operator's word that acknowledged writes may be lost.
	AcceptLoss bool `json:"accept_data_loss,omitempty"`

	Mode      spec.Mode      `json:"mode"`
	WhenShort spec.WhenShort `json:"when_short"`
	MaxLag    pg.Bytes       `json:"max_lag"`
	// Sets are the sync sets that count: the one in force and, while it changes,
	// the next one too.
	Sets []SyncSet `json:"sync_sets"`
	// Former are sets of earlier terms, which count for whoever has not reached the
	// timeline that the deposed primary began: it had all that they acknowledged.
	Former []SyncSet `json:"former_sets,omitempty"`

	Deposed Deposed `json:"deposed"`
	// Waited is how long the term has been open, Patience how long those that
	// answer and have not promised yet are waited for.
	Waited   time.Duration `json:"waited_ns"`
	Patience time.Duration `json:"patience_ns"`
	// Nodes are the data nodes but the deposed one, by ID.
	Nodes []Candidate `json:"nodes"`
}

// Deposed is the primary of the term before.
type Deposed struct {
	Node string `json:"node"`
	Zone string `json:"zone,omitempty"`
	// Dead is set when its agent has said, of the new term, that no process of its
	// server is left; Intact when its data directory is there to be started again.
	Dead   bool `json:"dead"`
	Intact bool `json:"intact"`
	// LeaseOver is set when its lease has surely expired (S3, S5).
	LeaseOver bool `json:"lease_over"`
	// Timeline is the one that it began; zero when it began none.
	Timeline pg.Timeline `json:"timeline,omitempty"`
	// LSN is the end of its WAL as it was last known; zero when it is not.
	LSN pg.LSN `json:"lsn,omitempty"`
	// Clean is set when it was shut down in order: LSN is where the last record of its
	// WAL begins, on EndTimeline.
	Clean       bool        `json:"clean,omitempty"`
	EndTimeline pg.Timeline `json:"end_timeline,omitempty"`
}

// Candidate is one node as the choice sees it.
type Candidate struct {
	Node     string `json:"node"`
	Zone     string `json:"zone,omitempty"`
	Priority int    `json:"priority"`
	// Reachable is set when its ramd answers and its server runs, or is on its way.
	Reachable bool `json:"reachable"`
	// Promised is set when it has disconnected from any primary for this term and
	// said where its WAL ends.
	Promised bool        `json:"promised"`
	Timeline pg.Timeline `json:"timeline,omitempty"`
	LSN      pg.LSN      `json:"lsn,omitempty"`
	// Barren is set for one that has promised and cannot be chosen: a former primary that
	// has received nothing from anybody since.
	Barren bool `json:"barren,omitempty"`
	// Former is set for a barren one whose data are whole: an operator may go on with them.
	Former bool `json:"former,omitempty"`
	// Why it has not promised.
	Why string `json:"why,omitempty"`
}

// Verdict is the outcome of Failover.
type Verdict struct {
	Format int    `json:"format"`
	Term   uint64 `json:"term"`
	// Choose is the node that gets primaryship; empty while it has to wait.
	Choose string `json:"choose,omitempty"`
	// Reclaim is a former primary that is to become a candidate with the history that it
	// wrote, since nobody else is left and an operator accepts the loss of what came after.
	Reclaim string `json:"reclaim,omitempty"`
	Reason  string `json:"reason"`
	// MayLose says what acknowledged writes may be lost; empty for none.
	MayLose string `json:"may_lose,omitempty"`
	// Nodes say of each node why it was chosen or not.
	Nodes []NodeVerdict `json:"nodes"`
}

// NodeVerdict is what the choice made of one node.
type NodeVerdict struct {
	Node   string `json:"node"`
	Chosen bool   `json:"chosen,omitempty"`
	Reason string `json:"reason"`
}

// Failover chooses the primary of a term that was opened. It is the only place
// where that is decided.
//
// In quorum mode a choice is safe when, of each sync set that counts, n - k + 1 of
// its n members have promised to take no more WAL from earlier primaries: the old
// one can then no longer gather k of them, and of the k that had each acknowledged
// write at least one is among those that promised. The furthest of them therefore
// has them all. The deposed primary itself has them too, and is started again when
// it is dead and its data are there. No clock is part of this.
//
// Otherwise (async mode, or a set that asks for nobody) the old primary must be
// dead or its lease over, and what may be lost is bounded by MaxLag.
func Failover(in FailoverInput) Verdict {
	c := choice{in: in, v: Verdict{Format: FailoverFormat, Term: in.Term}}
	c.promised = slices.DeleteFunc(slices.Clone(in.Nodes), func(n Candidate) bool { return !n.Promised })
	slices.SortStableFunc(c.promised, c.compare)
	if c.guaranteed() {
		c.byPromises()
	} else {
		c.byLease()
	}
	c.explain()
	return c.v
}

// choice is one Failover under way.
type choice struct {
	in       FailoverInput
	v        Verdict
	promised []Candidate // the best first
}

// compare orders candidates: further first, then what the operator asked for,
// priority, the zone of the deposed primary, name.
func (c *choice) compare(a, b Candidate) int {
	here := func(n Candidate) bool { return n.Zone != "" && n.Zone == c.in.Deposed.Zone }
	return cmp.Or(
		-compareFlags(a.electable(), b.electable()),
		-cmp.Compare(a.Timeline, b.Timeline),
		-cmp.Compare(a.LSN, b.LSN),
		-compareFlags(a.Node == c.in.Target, b.Node == c.in.Target),
		-cmp.Compare(a.Priority, b.Priority),
		-compareFlags(here(a), here(b)),
		strings.Compare(a.Node, b.Node),
	)
}

func (n Candidate) electable() bool { return n.Priority > 0 && !n.Barren }

func compareFlags(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// guaranteed reports whether every acknowledged write is on members of sync sets.
func (c *choice) guaranteed() bool {
	return guarantees(slices.Concat(c.in.Sets, c.in.Former))
}

func (c *choice) byPromises() {
	missing := c.missingPromises()
	switch {
	case len(c.promised) > 0 && (missing == "" || c.hasCleanEnd(c.promised[0])):
		c.takeBest()
	case c.mayYetPromise() && c.in.Waited < c.in.Patience:
		c.wait("%s", missing)
	case c.revivable():
		c.take(c.in.Deposed.Node, "it has every acknowledged write, its server is dead and its data are there; "+missing)
	case c.in.AcceptLoss && c.oldIsGone():
		c.takeLossy(missing)
	case c.in.AcceptLoss:
		c.wait("the lease of %s to end, since no promises keep it from going on", c.in.Deposed.Node)
	default:
		c.wait("%s; start one of them, or %s, or accept the loss of writes (ramctrl failover --accept-data-loss)", missing, c.in.Deposed.Node)
	}
}

// missingPromises says which sync set has too few promises; empty when none.
func (c *choice) missingPromises() string {
	if missing := c.missingOf(c.in.Sets, func(Candidate) bool { return true }); missing != "" || c.reached() {
		return missing
	}
	// Of an earlier term a former primary may have what nobody else that is there has.
	return c.missingOf(c.in.Former, func(n Candidate) bool { return !n.Barren })
}

// missingOf counts those promises that are taken for one of the set's.
func (c *choice) missingOf(sets []SyncSet, counts func(Candidate) bool) string {
	for _, s := range sets {
		need, have := len(s.Members)-s.K+1, 0
		var absent []string
		for _, member := range s.Members {
			if i := slices.IndexFunc(c.promised, func(n Candidate) bool { return n.Node == member }); i >= 0 && counts(c.promised[i]) {
				have++
			} else {
				absent = append(absent, member)
			}
		}
		if have < need {
			return fmt.Sprintf("%d of %s must promise, %d have; missing: %s", need, strings.Join(s.Members, ", "), have, strings.Join(absent, ", "))
		}
	}
	return ""
}

// reached reports whether the best of those that promised has WAL of the timeline that
// the deposed primary began, and with it all that was there before. That another one
// has, which cannot be chosen, is of no use.
func (c *choice) reached() bool {
	return c.in.Deposed.Timeline != 0 && len(c.promised) > 0 &&
		c.promised[0].electable() && c.promised[0].Timeline >= c.in.Deposed.Timeline
}

func (c *choice) mayTakeTarget() bool {
	return slices.ContainsFunc(c.promised, func(n Candidate) bool { return n.Node == c.in.Target && n.electable() })
}

// mayYetPromise reports whether nodes answer that have not promised yet.
func (c *choice) mayYetPromise() bool {
	return slices.ContainsFunc(c.in.Nodes, func(n Candidate) bool { return n.Reachable && !n.Promised })
}

// revivable reports whether the deposed primary can be started again: it is the
// one server that surely has every write that it acknowledged.
func (c *choice) revivable() bool { return c.in.Deposed.Dead && c.in.Deposed.Intact }

func (c *choice) oldIsGone() bool { return c.in.Deposed.Dead || c.in.Deposed.LeaseOver }

// takeBest takes the first of those that promised. A target that is still on its
// way, or behind, is waited for.
func (c *choice) takeBest() {
	best := c.promised[0]
	furthest := c.furthestMember()
	switch {
	case !best.electable():
		c.fallBack("none of those that promised may become primary")
	case c.in.AcceptLoss && c.mayTakeTarget():
		c.takeTarget(furthest)
	case furthest.further(best):
		c.fallBack(fmt.Sprintf("%s may have acknowledged writes that %s lacks, and its priority is 0", furthest.Node, best.Node))
	case c.in.Target != "" && best.Node != c.in.Target && c.in.Waited < c.in.Patience && c.answers(c.in.Target):
		c.wait("node %s, which was asked for, to have all that %s has", c.in.Target, best.Node)
	case c.behindCleanEnd(best) && c.revivable():
		c.take(c.in.Deposed.Node, fmt.Sprintf("no standby has received all that it wrote before it was stopped (%s)", c.in.Deposed.LSN))
	default:
		c.take(best.Node, "it is the furthest of those that promised")
	}
}

// furthestMember is the furthest of those members of sync sets that promised: every
// acknowledged write is on it.
func (c *choice) furthestMember() Candidate {
	var furthest Candidate
	for _, n := range c.promised {
		member := !n.Barren && slices.ContainsFunc(slices.Concat(c.in.Sets, c.in.Former), func(s SyncSet) bool { return slices.Contains(s.Members, n.Node) })
		if member && (furthest.Node == "" || n.further(furthest)) {
			furthest = n
		}
	}
	return furthest
}

func (n Candidate) further(than Candidate) bool {
	return cmp.Or(cmp.Compare(n.Timeline, than.Timeline), cmp.Compare(n.LSN, than.LSN)) > 0
}

// takeTarget takes what the operator asked for, with his word that it may cost writes.
func (c *choice) takeTarget(furthest Candidate) {
	i := slices.IndexFunc(c.promised, func(n Candidate) bool { return n.Node == c.in.Target })
	target := c.promised[i]
	c.take(target.Node, "an operator asked for it")
	if furthest.further(target) {
		c.v.MayLose = fmt.Sprintf("what %s has after %s, %s at most", furthest.Node, target.LSN, target.LSN.Behind(furthest.LSN))
	}
}

// hasCleanEnd reports whether a node has the last thing that the old primary wrote
// before it was shut down in order, and with it everything.
func (c *choice) hasCleanEnd(n Candidate) bool {
	d := c.in.Deposed
	return d.Dead && d.Clean && n.electable() && n.Timeline == d.EndTimeline && n.LSN > d.LSN
}

// behindCleanEnd reports whether a switchover would lose what the old primary wrote
// last: nothing that was acknowledged, but there is no need to.
func (c *choice) behindCleanEnd(n Candidate) bool {
	return c.in.Cause == OpenSwitchover && c.in.Deposed.Clean && n.LSN <= c.in.Deposed.LSN
}

func (c *choice) answers(node string) bool {
	return slices.ContainsFunc(c.in.Nodes, func(n Candidate) bool { return n.Node == node && (n.Reachable || n.Promised) })
}

// fallBack starts the former primary again, if that can be, or else goes on with an
// earlier one, which the operator has to name: it costs all that was written since.
func (c *choice) fallBack(why string) {
	former := c.former()
	switch {
	case c.revivable():
		c.take(c.in.Deposed.Node, why)
	case former == "":
		c.v.Reason = fmt.Sprintf("%s; start %s, or give another node a priority", why, c.in.Deposed.Node)
	case c.mayYetPromise() && c.in.Waited < c.in.Patience:
		c.wait("those that answer to disconnect; %s", why)
	case c.in.AcceptLoss && c.in.Target == former:
		c.v.Reclaim = former
		c.v.Reason = fmt.Sprintf("%s: node %s, a primary before, goes on with what it has", why, former)
	default:
		c.v.Reason = fmt.Sprintf("%s; start %s, or lose what was written since %s was the primary (ramctrl failover --accept-data-loss --to %[3]s)", why, c.in.Deposed.Node, former)
	}
}

// former is the former primary whose data are whole that was asked for, or else the one
// that was primary last, as far as timelines tell. Empty when there is none.
func (c *choice) former() string {
	var best Candidate
	for _, n := range c.promised {
		switch {
		case !n.Former || n.Priority == 0:
		case n.Node == c.in.Target:
			return n.Node
		case best.Node == "" || n.Timeline > best.Timeline:
			best = n
		}
	}
	return best.Node
}

// byLease chooses when acknowledged writes may be on the old primary alone.
func (c *choice) byLease() {
	strict := c.in.Mode == spec.ModeQuorum && c.in.WhenShort != spec.WhenShortDegrade && !c.in.AcceptLoss
	switch {
	case !c.oldIsGone():
		c.wait("%s to be dead, or its lease to end", c.in.Deposed.Node)
	case strict && len(c.promised) > 0 && c.hasCleanEnd(c.promised[0]):
		c.take(c.promised[0].Node, fmt.Sprintf("it has all that %s wrote before it was shut down", c.in.Deposed.Node))
	case strict && c.revivable():
		c.take(c.in.Deposed.Node, "no sync set was in force: it alone surely has every acknowledged write")
	case strict:
		c.wait("%s: no sync set was in force, so that it alone surely has every acknowledged write (ramctrl failover --accept-data-loss goes on without)", c.in.Deposed.Node)
	case c.mayYetPromise() && c.in.Waited < c.in.Patience:
		c.wait("the standbys that answer to disconnect from %s", c.in.Deposed.Node)
	case len(c.promised) == 0 || !c.promised[0].electable():
		c.fallBack("no standby that may become primary is there")
	case !c.in.AcceptLoss && c.in.Deposed.LSN == 0:
		c.fallBack(fmt.Sprintf("nothing is known of where the WAL of %s ends, so that max_lag bounds nothing", c.in.Deposed.Node))
	case c.tooFarBehind(c.promised[0]):
		c.fallBack(fmt.Sprintf("%s, the furthest standby, is %s behind, more than max_lag (%s)", c.promised[0].Node, c.behind(c.promised[0]).Human(), c.in.MaxLag.Human()))
	case c.revivable() && c.in.Cause == OpenFailover && c.in.Target == "" && c.behind(c.promised[0]) > 0:
		c.take(c.in.Deposed.Node, "it has every acknowledged write, its server is dead and its data are there")
	default:
		c.takeLossy("nothing but its lag says what it lacks")
	}
}

func (c *choice) behind(n Candidate) pg.Bytes { return n.LSN.Behind(c.in.Deposed.LSN) }

// tooFarBehind bounds the loss.
func (c *choice) tooFarBehind(n Candidate) bool {
	return !c.in.AcceptLoss && c.behind(n) > c.in.MaxLag
}

func (c *choice) takeLossy(why string) {
	switch {
	case len(c.promised) > 0 && c.promised[0].electable():
	case c.former() != "":
		c.fallBack("no standby that may become primary is there")
		return
	default:
		c.wait("a standby that may become primary")
		return
	}
	best := c.promised[0]
	c.take(best.Node, "it is the furthest that is there; "+why)
	switch {
	case c.in.Deposed.LSN == 0:
		c.v.MayLose = "writes that no standby there has received"
	case c.in.Deposed.Clean && c.behind(best) == 0:
	case c.behind(best) == 0:
		c.v.MayLose = fmt.Sprintf("writes after %s, of which nothing is known", best.LSN)
	default:
		c.v.MayLose = fmt.Sprintf("at least the last %s of WAL that %s is known to have written", c.behind(best), c.in.Deposed.Node)
	}
}

func (c *choice) take(node, reason string) { c.v.Choose, c.v.Reason = node, reason }

func (c *choice) wait(format string, args ...any) {
	c.v.Reason = "waits for " + fmt.Sprintf(format, args...)
}
