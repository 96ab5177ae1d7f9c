package reconcile

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// foresee has Failover choose among those that would promise now.
func (f *preflight) foresee() {
	in := f.input()
	v := Failover(in)
	f.p.To, f.p.Why = v.Choose, v.Reason
	f.describe(in, v)
	switch {
	case v.Reclaim != "":
		f.p.To = v.Reclaim
		f.p.Loss = &Loss{Unknown: true, Text: fmt.Sprintf("all that was written since %s was the primary: no node that answers has it", v.Reclaim)}
		f.p.Clients = fmt.Sprintf("writes, which fail or wait now, go on when %s takes them", v.Reclaim)
		return
	case v.Choose == "":
		f.p.Why = ""
		f.refuse("no node could be chosen now, it would wait for: %s%s", strings.TrimPrefix(v.Reason, "waits for "), f.ifAccepted())
		return
	case v.Choose == f.p.Primary:
		f.refuse("node %s would become the primary again: %s; see ramctrl status, and try again when that has changed", v.Choose, whyAgain(in, v))
		return
	case f.target != "" && v.Choose != f.target:
		f.warn("node %s would be chosen, not %s: %s", v.Choose, f.target, noteOf(v, f.target))
	}
	f.p.Loss = f.loss(in, v)
	if f.acceptLoss && f.p.Loss == nil {
		f.warn("as it looks now, nothing would be lost without --accept-data-loss either")
	}
	f.checkChosen(v.Choose)
	f.p.Clients = fmt.Sprintf("sessions on %s end, and writes fail or wait until %s takes them", f.p.Primary, v.Choose)
	if f.p.Open {
		f.p.Clients = fmt.Sprintf("writes, which fail or wait now, go on when %s takes them", v.Choose)
	}
}

// whyAgain is why the old primary would be taken: not because its server has ended,
// which it has only in this forecast.
func whyAgain(in FailoverInput, v Verdict) string {
	c := choice{in: in, promised: promisedOf(in)}
	if c.guaranteed() {
		return cmp.Or(c.missingPromises(), v.Reason)
	}
	return v.Reason
}

// input is what Failover would be given once everybody that answers has done what
// is asked of it.
func (f *preflight) input() FailoverInput {
	next := *f.rec
	open := OpenFor(f.rec, f.p.Cause, f.target, f.acceptLoss)
	next.Opening = &open.Opening
	if !f.p.Open {
		next.Term++
	}
	in := FailoverInputOf(&next, f.obs)
	in.Waited = in.Patience
	old := f.obs.Nodes[f.p.Primary]
	d := old.Report.Data
	in.Deposed.LeaseOver, in.Deposed.Clean = true, in.Deposed.Clean || f.p.Cause == OpenSwitchover
	if old.Reachable {
		in.Deposed.Dead = true
		in.Deposed.Intact = d.State == pg.DirCluster && d.SystemID == f.rec.SystemID && !d.Rewinding
	}
	for i, c := range in.Nodes {
		v, issued := f.obs.Nodes[c.Node], f.rec.Assignments[c.Node]
		c.Why = f.unfit(v, issued)
		c.Promised = c.Why == ""
		c.Reachable = c.Promised
		if barren(f.rec, v) && f.p.Cause == OpenFailover {
			c.Promised, c.Barren, c.Former = true, true, !v.Report.Data.Rewinding
			c.Timeline, c.LSN = v.Report.Data.Timeline, 0
		}
		if f.p.Cause == OpenSwitchover && c.Promised {
			// The old primary does not end before its standbys have all it wrote, its
			// last record included.
			c.LSN = max(c.LSN, in.Deposed.LSN+1)
		}
		in.Nodes[i] = c
	}
	return in
}

func (f *preflight) describe(in FailoverInput, v Verdict) {
	primary := f.obs.Nodes[f.p.Primary].Report.Server
	primary.LSN = max(primary.LSN, f.obs.Pulse.LSN)
	for _, c := range in.Nodes {
		s := f.obs.Nodes[c.Node].Report.Server
		n := PreflightNode{Node: c.Node, LSN: s.LSN, Chosen: c.Node == v.Choose, Note: noteOf(v, c.Node)}
		if s.LSN != 0 {
			n.Lag = int64(lag(c.Node, s, primary))
		}
		f.p.Nodes = append(f.p.Nodes, n)
	}
}

func noteOf(v Verdict, node string) string {
	for _, n := range v.Nodes {
		if n.Node == node {
			return n.Reason
		}
	}
	return ""
}

// ifAccepted says what --accept-data-loss would lead to.
func (f *preflight) ifAccepted() string {
	if f.acceptLoss || f.p.Cause == OpenSwitchover {
		return ""
	}
	other := Preflight(f.rec, f.obs, f.p.Cause, f.target, true)
	if other.Refused() || other.Loss == nil {
		return ""
	}
	return fmt.Sprintf("; with --accept-data-loss node %s would become the primary, and may lose: %s", other.To, other.Loss.Text)
}

// loss puts the verdict's word on what may be lost into bytes.
func (f *preflight) loss(in FailoverInput, v Verdict) *Loss {
	if v.MayLose == "" {
		return nil
	}
	chosen, furthest := Candidate{}, Candidate{}
	for _, c := range in.Nodes {
		if c.Node == v.Choose {
			chosen = c
		}
		if c.Promised && c.further(furthest) {
			furthest = c
		}
	}
	c := choice{in: in, promised: promisedOf(in)}
	old := f.obs.Nodes[f.p.Primary]
	known := chosen.LSN.Behind(max(in.Deposed.LSN, furthest.LSN))
	bytes := int64(known)
	switch {
	case c.guaranteed() && c.missingPromises() == "":
		known = chosen.LSN.Behind(furthest.LSN)
		return &Loss{Bytes: int64(known), AtMost: true, Text: fmt.Sprintf("at most %s of WAL, which %s has and %s has not", known.Human(), furthest.Node, chosen.Node)}
	case in.Deposed.LSN == 0:
		return &Loss{Bytes: bytes, Unknown: true, Text: fmt.Sprintf("it is not known how much, since nothing is known of where the WAL of %s ends", f.p.Primary)}
	case in.Deposed.Clean:
		return &Loss{Bytes: bytes, AtMost: true, Text: fmt.Sprintf("at most %s of WAL: %s was shut down in order", known.Human(), f.p.Primary)}
	case old.Running():
		return &Loss{Bytes: bytes, Text: fmt.Sprintf("%s of WAL as of now, and what %s writes until it is stopped", known.Human(), f.p.Primary)}
	}
	if known == 0 {
		return &Loss{Text: fmt.Sprintf("all that %s is known to have written is there; what it wrote after it was last heard, nobody knows", f.p.Primary)}
	}
	return &Loss{Bytes: bytes, Text: fmt.Sprintf("%s of WAL that %s is known to have written, and what it wrote after it was last heard, which nobody knows", known.Human(), f.p.Primary)}
}

func promisedOf(in FailoverInput) []Candidate {
	var list []Candidate
	for _, c := range in.Nodes {
		if c.Promised {
			list = append(list, c)
		}
	}
	return list
}

// checkChosen looks at what the new primary would begin with.
func (f *preflight) checkChosen(node string) {
	s := f.obs.Nodes[node].Report.Server
	for _, n := range f.p.Nodes {
		if n.Node == node && f.p.Cause == OpenSwitchover && pg.Bytes(n.Lag) > switchoverLag {
			f.refuse("node %s is %s behind, and clients would wait until it has the rest: try again when it is less than %s behind (ramctrl status)", node, pg.Bytes(n.Lag).Human(), switchoverLag.Human())
		}
	}
	if s.ReplayPaused {
		f.warn("replay is paused on node %s: it goes on with the promotion", node)
	}
	if left := s.ReplayLSN.Behind(s.LSN); s.ReplayLSN != 0 && left > switchoverLag {
		f.warn("node %s has %s of WAL to replay before it takes writes", node, left.Human())
	}
	f.checkGuarantee(node)
}

// checkWork looks at what is under way on the primary that a stop ends.
func (f *preflight) checkWork() {
	primary := f.obs.Nodes[f.p.Primary]
	if f.p.Open || f.p.Refused() || !primary.Running() {
		return
	}
	if trouble := archiveTrouble(primary.Report.Archive); trouble != "" {
		f.warn("not all WAL of %s is in the repository, and the next primary has to bring it there: %s", f.p.Primary, trouble)
	}
	t := primary.Report.Server.Transactions
	if t.PID != 0 && t.Age >= longTransaction {
		f.warn("the transaction of user %s on %s (pid %d) has been open for %s, and is rolled back: let it end first", t.User, f.p.Primary, t.PID, t.Age.Truncate(time.Second))
	}
	if t.Prepared > 0 && t.PreparedAge >= longTransaction {
		f.warn("%d prepared transactions, the oldest of user %s and for %s, stay prepared and keep their locks: end them with COMMIT PREPARED or ROLLBACK PREPARED (pg_prepared_xacts)", t.Prepared, t.PreparedBy, t.PreparedAge.Truncate(time.Second))
	}
}

// checkGuarantee tells when commits would find too few standbys to wait for.
func (f *preflight) checkGuarantee(node string) {
	r := f.rec.Spec.Replication
	if r.Mode != spec.ModeQuorum || r.SyncStandbys == 0 {
		return
	}
	follow := 0
	for _, n := range f.rec.Spec.Nodes {
		v := f.obs.Nodes[n.Name]
		if !n.Electable() || n.Name == node {
			continue
		}
		if f.unfit(v, f.rec.Assignments[n.Name]) == "" || n.Name == f.p.Primary && v.Running() && f.p.Cause == OpenSwitchover {
			follow++
		}
	}
	if follow >= r.SyncStandbys {
		return
	}
	effect := "writes wait until more do"
	if r.WhenShort == spec.WhenShortDegrade {
		effect = "writes are acknowledged without (when_short is degrade)"
	}
	f.warn("commits are to wait for %d of the standbys, and %d would follow %s as it looks now: %s", r.SyncStandbys, follow, node, effect)
}
