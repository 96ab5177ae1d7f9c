package reconcile

import (
	"fmt"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
)

// PreflightFormat is the version of Preflighted's JSON form.
const PreflightFormat = 1

// switchoverLag is how far behind a standby may be that takes over: clients wait
// until it has the rest.
const switchoverLag = 16 * pg.MB

// longTransaction is how old a transaction is that somebody would miss: it is not done
// again by itself in the time that applications try again.
const longTransaction = time.Minute

// Preflighted is what a failover or a switchover would come to if it began now.
type Preflighted struct {
	Format int        `json:"format"`
	Cause  OpenReason `json:"cause"`
	// Term is the record's; Open is set when it is open already, and would be
	// asked of differently.
	Term uint64 `json:"term"`
	// At is when a planned switchover is to begin; zero for one that begins now.
	At   time.Time `json:"at,omitzero"`
	Open bool      `json:"open,omitempty"`
	// Primary is the node that is replaced, To the one that would become the primary
	// as far as can be told; empty when none would.
	Primary string `json:"primary"`
	To      string `json:"to"`
	// Why is what speaks for To.
	Why string `json:"why,omitempty"`
	// Clients is what they notice.
	Clients string          `json:"clients,omitempty"`
	Nodes   []PreflightNode `json:"nodes"`
	// Refusals are why it would not be begun, each with the next action.
	Refusals []string `json:"refusals"`
	Warnings []string `json:"warnings"`
	// Loss is what acknowledged writes it may cost; nil for none.
	Loss *Loss `json:"loss,omitempty"`
}

// Refused reports whether it would not be begun.
func (p Preflighted) Refused() bool { return len(p.Refusals) > 0 }

// PreflightNode is one node but the primary, as it stands.
type PreflightNode struct {
	Node string `json:"node"`
	LSN  pg.LSN `json:"lsn,omitempty"`
	// Lag is in bytes of WAL, behind what the primary is known to have.
	Lag    int64 `json:"lag_bytes"`
	Chosen bool  `json:"chosen,omitempty"`
	// Note is why the node would be chosen or not.
	Note string `json:"note"`
}

// Loss bounds what a failover may cost, as far as that can be told.
type Loss struct {
	// Bytes of WAL are known to be on other servers and not on the new primary.
	Bytes int64 `json:"bytes"`
	// AtMost is set when nothing beyond Bytes can be lost; Unknown when it is not
	// known where the old primary's WAL ended, so that Bytes says nothing.
	AtMost  bool   `json:"at_most"`
	Unknown bool   `json:"unknown,omitempty"`
	Text    string `json:"text"`
}

// Preflight tells what OpenFor would lead to, and refuses what would leave the
// cluster without a primary or with one that an operator cannot mean. Target is
// empty for the best node.
func Preflight(rec *Record, obs Observed, cause OpenReason, target string, acceptLoss bool) Preflighted {
	f := preflight{rec: rec, obs: obs, target: target, acceptLoss: acceptLoss, p: Preflighted{
		Format: PreflightFormat, Cause: cause, Term: rec.Term, Open: rec.Opening != nil, Primary: rec.Primary,
		Nodes: []PreflightNode{}, Refusals: []string{}, Warnings: []string{},
	}}
	if rec.Opening != nil {
		f.p.Primary = rec.Opening.Deposed
	}
	for _, check := range []func(){f.checkCluster, f.checkCause, f.checkTarget} {
		if check(); f.p.Refused() {
			return f.p
		}
	}
	f.foresee()
	f.checkWork()
	return f.p
}

// preflight is one Preflight under way.
type preflight struct {
	rec        *Record
	obs        Observed
	target     string
	acceptLoss bool
	p          Preflighted
}

func (f *preflight) refuse(format string, args ...any) {
	f.p.Refusals = append(f.p.Refusals, fmt.Sprintf(format, args...))
}

func (f *preflight) warn(format string, args ...any) {
	f.p.Warnings = append(f.p.Warnings, fmt.Sprintf(format, args...))
}

func (f *preflight) checkCluster() {
	switch {
	case f.rec.Spec == nil || f.rec.SystemID == 0 || f.p.Primary == "":
		f.refuse("the cluster has no primary yet: ramctrl plan shows what it waits for")
	case f.rec.Restoring != nil:
		f.refuse("the cluster is being restored on %s: wait for that (ramctrl status), or give it up with ramctrl backup restore --abort", f.rec.Restoring.Node)
	case f.rec.Pause != nil:
		f.refuse("the cluster is paused by %s: ramctrl resume first", f.rec.Pause.By)
	}
}

func (f *preflight) checkCause() {
	o, primary := f.rec.Opening, f.obs.Nodes[f.p.Primary]
	switch {
	case f.p.Cause == OpenSwitchover && o != nil:
		f.refuse("term %d is open and has no primary: wait for it (ramctrl status), or put it right with ramctrl failover", f.rec.Term)
	case f.p.Cause == OpenSwitchover && !primary.Running():
		f.refuse("the primary %s does not answer, and has to help in a switchover: ramctrl failover goes on without it", f.p.Primary)
	case f.p.Cause == OpenSwitchover && f.acceptLoss:
		f.refuse("a switchover loses nothing: leave --accept-data-loss out")
	case f.p.Cause == OpenFailover && o != nil && !f.changes(*o):
		f.refuse("term %d is open already: only --to or --accept-data-loss would change anything, and ramctrl status says what it waits for", f.rec.Term)
	case f.p.Cause == OpenFailover && o == nil && primary.Running() && !primary.Report.Server.Recovery:
		f.warn("node %s answers and takes writes: ramctrl switchover hands over in order", f.p.Primary)
	}
	if run := f.rec.Run; run != nil && f.p.Cause == OpenSwitchover {
		f.warn("run %d is under way, and goes on under the new primary", run.ID)
	}
}

// changes reports whether the open term would be asked of differently.
func (f *preflight) changes(o Opening) bool {
	return f.target != "" && f.target != o.Target || f.acceptLoss && !o.AcceptLoss || o.Cause == OpenSwitchover
}

// checkTarget looks at the node that was asked for.
func (f *preflight) checkTarget() {
	if f.target == "" {
		return
	}
	if refusal := f.wrongTarget(); refusal != "" {
		f.refuse("%s", refusal)
	} else if why := f.unfit(f.obs.Nodes[f.target], f.rec.Assignments[f.target]); why != "" && !f.former(f.obs.Nodes[f.target]) {
		f.refuse("node %s cannot become the primary: %s; see ramctrl status", f.target, why)
	}
}

// former reports whether a node is a former primary that an operator could go on with.
func (f *preflight) former(v NodeView) bool {
	return f.acceptLoss && f.p.Cause == OpenFailover && barren(f.rec, v) && !v.Report.Data.Rewinding
}

// wrongTarget is why the node that was asked for cannot be meant, however it is doing;
// empty when it can, or none was asked for.
func (f *preflight) wrongTarget() string {
	if f.target == "" || f.rec.Spec == nil {
		return ""
	}
	n, there := f.rec.Spec.Node(f.target)
	_, member := f.rec.Members[f.target]
	switch {
	case !there:
		return fmt.Sprintf("there is no node %q: name one of %s", f.target, strings.Join(f.others(), ", "))
	case f.target == f.p.Primary && f.rec.Opening == nil:
		return fmt.Sprintf("node %s is the primary already", f.target)
	case f.target == f.p.Primary:
		return fmt.Sprintf("node %s was the primary, and comes back by itself when it is the only one that can: name another", f.target)
	case n.Witness:
		return fmt.Sprintf("node %s is a witness and holds no data: name one of %s", f.target, strings.Join(f.others(), ", "))
	case n.Priority == 0:
		return fmt.Sprintf("the priority of node %s is 0, so that it is never primary: raise it in the spec, or name another node", f.target)
	case !member:
		return fmt.Sprintf("node %s is not a member yet: run ramd start --node %s on its host", f.target, f.target)
	}
	return ""
}

// others are the nodes that could be named.
func (f *preflight) others() []string {
	var names []string
	for _, n := range byID(f.rec.Spec.Nodes) {
		if n.Electable() && n.Name != f.p.Primary {
			names = append(names, n.Name)
		}
	}
	return names
}

// unfit is why a node could not promise now; empty when it could.
func (f *preflight) unfit(v NodeView, issued Assignment) string {
	r := v.Report
	switch {
	case issued.Role == "":
		return "it holds no data yet"
	case !v.Reachable:
		return "its ramd does not answer"
	case r.Data.State != pg.DirCluster || r.Data.Rewinding:
		return "it has no data directory that could be used"
	case r.Data.SystemID != f.rec.SystemID:
		return "its data are of another cluster"
	case r.Problem != nil:
		return r.Problem.Text
	case r.Server.State != pg.ServerRunning:
		return fmt.Sprintf("its server is %s", r.Server.State)
	case !r.Server.Recovery:
		return "its server does not run as a standby"
	case f.p.Cause == OpenSwitchover && !v.StreamingFrom(issued.Upstream):
		return "it does not stream, so that it would lack what the primary wrote last"
	}
	return ""
}
