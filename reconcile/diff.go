package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// MaxClones is how many standbys are cloned at the same time.
const MaxClones = 4

// Diff is the plan that makes the world what want says: the changes to objects,
// and the steps that close the gap in the order that the rules allow. It is
// used to say what would happen, with a want that nobody has accepted yet, and
// to decide what happens, with the spec in force. Permuting the nodes of want,
// or of observed, does not change the plan.
func Diff(want *spec.Cluster, rec *Record, obs Observed) Plan {
	d := &differ{want: want, rec: rec, obs: obs, nodes: byID(want.Nodes), ids: map[string]bool{}}
	d.hba = shared(hbaFor(want), rec.Assignments[rec.Primary].HBA)
	d.missingSlots = map[string][]Drift{}
	for name, v := range obs.Nodes {
		if drift := slotDrift(rec.Assignments[name], v.Report); len(drift) > 0 {
			d.missingSlots[name] = drift
		}
	}
	d.plan = Plan{
		Format: PlanFormat, Cluster: want.Name,
		Base:     Base{Revision: rec.Revision, Observed: obs.digest(rec, d.missingSlots)},
		Revision: rec.Revision,
		Spec:     want.Digest(),
		Changes:  []Change{}, Steps: []Step{}, Blocked: []Blocked{}, Warnings: []string{},
	}
	if rec.Spec == nil || rec.Spec != want && rec.Spec.Digest() != d.plan.Spec {
		d.plan.Changes = append(d.plan.Changes, specChanges(rec.Spec, want)...)
		d.plan.Revision++
	}
	if refused := Refuse(rec, want); len(refused) > 0 {
		d.plan.Blocked = refused
		d.plan.Summary = summarize(d.plan)
		return d.plan
	}
	if rec.Opening != nil {
		d.succession()
		d.plan.Summary = summarize(d.plan)
		return d.plan
	}
	d.primary = firstPrimary(rec, want)
	if rec.Restoring != nil {
		d.restoring()
		d.plan.Summary = summarize(d.plan)
		return d.plan
	}
	d.members()
	d.data()
	d.order()
	d.sync()
	d.departures()
	d.prune()
	d.plan.Summary = summarize(d.plan)
	return d.plan
}

// byID is nodes in the order of their numbers, which is the order of every plan.
func byID(nodes []spec.Node) []spec.Node {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b spec.Node) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})
	return nodes
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

// differ is one Diff under way.
type differ struct {
	want  *spec.Cluster
	rec   *Record
	obs   Observed
	nodes []spec.Node // of want, by ID
	plan  Plan
	ids   map[string]bool // of the plan's steps

	// primary is the node that holds primaryship, or that is to be given the first one.
	primary spec.Node
	// slots are all data members' slots, sorted by slot name; hba are the lines
	// that all nodes share.
	slots []memberSlot
	hba   []string
	// missingSlots are the slots that nodes should have and do not.
	missingSlots map[string][]Drift
	// first is set when the primary is restarted before the standbys.
	first bool

	cloning   []string // IDs of clone steps, in order
	restarted []string // IDs of the standbys' restart steps, in order
	going     []string // IDs of restart steps that begin now; at most one
	later     []Step   // restarts of nodes that are still to be copied
	held      []string // IDs of configure steps that other steps hold back
	replaying []string // names of the standbys among them that wait for their own replay alone
	leavers   []string // names, sorted; nil until asked for
	voting    []string // IDs of steps that change Raft's voters now
	// sick names the data nodes that do not serve, away those that were told to
	// restart and are not back, by ID; nil until asked for.
	sick, away []string
}

type memberSlot struct{ node, slot string }

// firstPrimary is the holder of primaryship, or, for a cluster that never had
// one, the electable node of the highest priority, lowest ID.
func firstPrimary(rec *Record, want *spec.Cluster) spec.Node {
	if rec.Primary != "" {
		holder, _ := want.Node(rec.Primary)
		return holder
	}
	var first spec.Node
	for _, n := range byID(want.Nodes) {
		if n.Electable() && (first.Name == "" || n.Priority > first.Priority) {
			first = n
		}
	}
	return first
}

func (d *differ) block(node, format string, args ...any) {
	d.plan.Blocked = append(d.plan.Blocked, Blocked{Node: node, Reason: fmt.Sprintf(format, args...)})
}

func (d *differ) add(s Step) {
	if s.effect != nil {
		s.effect.Revision = d.rec.Revision
	}
	d.plan.Steps = append(d.plan.Steps, s)
	d.ids[s.ID] = true
}

// has reports which of ids are steps of the plan, so that After never names
// what is done.
func (d *differ) has(ids ...string) []string {
	var found []string
	for _, id := range ids {
		if d.ids[id] {
			found = append(found, id)
		}
	}
	return found
}

func stepID(kind StepKind, node string) string { return string(kind) + "/" + node }

// members plans who enters the Raft group and who votes.
func (d *differ) members() {
	raft := map[string]RaftMember{}
	for _, m := range d.obs.Raft {
		raft[m.Name] = m
	}
	voters := map[string]bool{}
	for _, n := range d.nodes[:min(len(d.nodes), spec.MaxVoters)] {
		voters[n.Name] = true
	}
	for _, n := range d.nodes {
		if !d.joined(n.Name) {
			d.add(Step{
				ID: stepID(StepJoin, n.Name), Kind: StepJoin, Node: n.Name,
				Summary: fmt.Sprintf("node %s joins the cluster", n.Name),
				Reason:  "it is in the spec and not a member yet",
				Waits:   fmt.Sprintf("ramd on %s, which joins when this is applied (ramd start --node %s)", n.Host, n.Name),
			})
		}
	}
	for _, n := range d.nodes {
		if d.joined(n.Name) && voters[n.Name] {
			d.vote(n.Name, raft, true)
		}
	}
	for _, n := range d.nodes {
		if d.joined(n.Name) && !voters[n.Name] {
			d.vote(n.Name, raft, false)
		}
	}
}

func (d *differ) vote(node string, raft map[string]RaftMember, want bool) {
	m, known := raft[node]
	if !known || m.Voter == want {
		return
	}
	s := Step{
		ID: stepID(StepVoter, node), Kind: StepVoter, Node: node,
		Summary: fmt.Sprintf("node %s votes", node),
		Reason:  fmt.Sprintf("the first %d nodes vote", spec.MaxVoters),
		effect:  &Effect{Voter: node},
	}
	switch {
	case !want:
		s.Summary = fmt.Sprintf("node %s no longer votes", node)
		s.effect = &Effect{Nonvoter: node}
		d.unvote(node, &s)
	case !d.obs.Nodes[node].Reachable:
		// A vote that is not cast counts against the majority.
		s.Waits, s.effect = fmt.Sprintf("ramd on %s to report", node), nil
	default:
		d.voting = append(d.voting, s.ID)
	}
	d.add(s)
}

// unvote has a step that takes a vote away wait until Raft can spare it: changes
// of voters come one at a time, new ones first, and those who are left must have
// a majority that answers. A majority that is lost never comes back.
func (d *differ) unvote(node string, s *Step) {
	left, answer := 0, 0
	voter := false
	for _, m := range d.obs.Raft {
		switch {
		case m.Name == node:
			voter = voter || m.Voter
		case m.Voter:
			left++
			if d.obs.Nodes[m.Name].Reachable {
				answer++
			}
		}
	}
	if !voter {
		return
	}
	s.After = append(s.After, d.has(d.voting...)...)
	if 2*answer <= left {
		s.Waits, s.effect = fmt.Sprintf("a majority of the voters besides %s to answer", node), nil
	}
	if s.effect != nil && s.Waits == "" && len(s.After) == 0 {
		d.voting = append(d.voting, s.ID)
	}
}

// firstSerial is the serial of the first assignment of a node that has none. The
// node may have been a member before: its agent, its files and its server still
// show serials of that time, and a lower one would be taken for an old one.
func (d *differ) firstSerial(node string) uint64 {
	r := d.obs.Nodes[node].Report
	return max(d.rec.Assignments[node].Serial, r.Serial, r.Written, r.Loaded, r.Started, r.Settled) + 1
}

func (d *differ) joined(node string) bool {
	_, ok := d.rec.Members[node]
	return ok
}

// data plans every node that holds data: the primary's first copy, the
// standbys, and then changes to those that run.
func (d *differ) data() {
	for _, n := range d.nodes {
		if !n.Witness && d.joined(n.Name) {
			d.slots = append(d.slots, memberSlot{n.Name, pg.SlotName(n.Name)})
		}
	}
	for _, name := range d.leaving() {
		if !d.gone(name) {
			d.slots = append(d.slots, memberSlot{name, pg.SlotName(name)})
		}
	}
	slices.SortFunc(d.slots, func(a, b memberSlot) int { return strings.Compare(a.slot, b.slot) })
	if d.rec.SystemID == 0 {
		d.initialise()
	}
	d.first = d.primaryFirst()
	if d.first && d.rec.SystemID != 0 {
		d.running(d.primary)
	}
	for _, n := range d.nodes {
		if !n.Witness && n.Name != d.primary.Name {
			d.standby(n)
		}
	}
	if !d.first && d.rec.SystemID != 0 {
		d.running(d.primary)
	}
}

// initialise plans the very first data directory.
func (d *differ) initialise() {
	name := d.primary.Name
	view := d.obs.Nodes[name]
	s := Step{
		ID: stepID(StepInit, name), Kind: StepInit, Node: name,
		Summary: fmt.Sprintf("initialise PostgreSQL %d on %s and start it as primary", d.want.Postgres.Version, name),
		Reason:  "the cluster has no data yet",
		After:   d.has(stepID(StepJoin, name)),
	}
	order := bootstrapOrder(d.want)
	if order != nil {
		s.Kind, s.From = StepRestore, "repository "+order.Repository
		s.Summary = fmt.Sprintf("restore %s from backup %s of repository %s to %s and start it as primary", name, order.Backup, order.Repository, order.Target)
	}
	issued := d.rec.Assignments[name]
	switch {
	case !d.joined(name):
	case !view.Reachable:
		s.Waits = fmt.Sprintf("ramd on %s to report", name)
	case issued.Role == RolePrimary:
		if view.Report.Data.State == pg.DirCluster && view.Report.Data.Generation >= issued.Generation && settled(view, issued) {
			s.effect = &Effect{Identify: view.Report.Data.SystemID}
		}
	case view.Report.Data.State == "":
		s.Waits = fmt.Sprintf("ramd on %s to look at its data directory", name)
	case view.Report.Data.State != pg.DirAbsent:
		d.block(name, "%s", occupied(d.primary, view.Report))
		return
	default:
		a := d.final(d.primary)
		a.Term, a.Generation, a.Serial = d.rec.Term+1, 1, d.firstSerial(name)
		a.Launch, a.Restore = a.Serial, order
		s.effect = &Effect{
			Grant:  &Grant{Node: name, Term: d.rec.Term + 1},
			Assign: []Assign{{Node: name, Assignment: a}},
		}
	}
	d.add(s)
	if p := view.Report.Problem; view.Reachable && p != nil {
		d.block(name, "node %s: %s", name, p.Text)
	}
}

func occupied(n spec.Node, r Report) string {
	where := n.DataDir
	if where == "" {
		where = "its data directory"
	}
	if r.Data.State == pg.DirForeign {
		return fmt.Sprintf("%s on node %s is not empty and not a data directory of PostgreSQL: empty it, or choose another data_dir", where, n.Name)
	}
	return fmt.Sprintf("%s on node %s already holds a PostgreSQL cluster (system identifier %s): move it away, or choose another data_dir", where, n.Name, r.Data.SystemID)
}

// settled reports whether a node's server runs with all that its assignment asks
// for. An agent that has just started holds no assignment yet, and what its
// server has loaded is as good as settled.
func settled(v NodeView, issued Assignment) bool {
	r := v.Report
	return v.Running() && r.Loaded >= issued.Serial && (r.Settled >= issued.Serial || r.Serial == 0)
}

// ready reports whether a standby can be cloned from the primary now, which
// needs the replication role and the slot that keeps WAL for it.
func (d *differ) ready(node string) bool {
	view := d.obs.Nodes[d.primary.Name]
	if d.rec.SystemID == 0 || !view.Running() || view.Report.Server.Recovery || view.Report.Settled == 0 && view.Report.Serial > 0 {
		return false
	}
	slot := pg.SlotName(node)
	i, found := slices.BinarySearchFunc(view.Report.Server.Slots, slot, func(s pg.Slot, name string) int { return strings.Compare(s.Name, name) })
	return found && view.Report.Server.Slots[i].WALStatus != "lost"
}

func summarize(p Plan) Summary {
	s := Summary{Steps: len(p.Steps)}
	for _, c := range p.Changes {
		switch c.Action {
		case ActionCreate:
			s.Create++
		case ActionUpdate:
			s.Update++
		case ActionDestroy:
			s.Destroy++
		}
	}
	for _, step := range p.Steps {
		switch step.Kind {
		case StepClone:
			s.Clones++
			s.Bytes += step.Bytes
		case StepRestart:
			s.Restarts++
		}
		s.WritesInterrupted = s.WritesInterrupted || step.Interrupts != ""
		s.Destructive = s.Destructive || step.Destroys != ""
	}
	return s
}
