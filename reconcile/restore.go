package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// RestoreOrder is a backup, and how far to recover from it.
type RestoreOrder struct {
	// Repository is the name of one in the spec.
	Repository string `json:"repository"`
	// Backup is the ID of a backup, or BackupLatest.
	Backup string        `json:"backup"`
	Target RestoreTarget `json:"target,omitzero"`
}

// BackupLatest stands for the latest backup from which the target can be reached.
const BackupLatest = "latest"

// RestoreTarget is a point in the history of a database. The zero RestoreTarget is
// the end of all WAL in the archive. At most one field is set.
type RestoreTarget struct {
	Time time.Time `json:"time,omitzero"`
	LSN  pg.LSN    `json:"lsn,omitempty"`
	// Point is a named restore point.
	Point string `json:"point,omitempty"`
	// Immediate is the end of the backup itself, which needs no archive.
	Immediate bool `json:"immediate,omitempty"`
}

// String says the target in words.
func (t RestoreTarget) String() string {
	switch {
	case !t.Time.IsZero():
		return t.Time.UTC().Format(time.RFC3339Nano)
	case t.LSN != 0:
		return "LSN " + t.LSN.String()
	case t.Point != "":
		return "restore point " + t.Point
	case t.Immediate:
		return "the end of the backup"
	}
	return "the end of the archive"
}

// Restoration is a restore of the whole cluster that is under way: one node is
// restored and becomes the primary, the others then copy it.
type Restoration struct {
	Order RestoreOrder `json:"order"`
	Node  string       `json:"node"`
	By    string       `json:"by"`
	At    time.Time    `json:"at"`
	// Former was the primary before, and Kept the generation of its data: what to go
	// back to when the restore is given up.
	Former string            `json:"former,omitempty"`
	Kept   map[string]uint64 `json:"kept,omitempty"`
	// Floor was the record's before.
	Floor uint64 `json:"floor,omitempty"`
}

// RestoreCluster begins a restoration, or gives the one that is under way up.
type RestoreCluster struct {
	// Term is the record's when this was decided.
	Term   uint64      `json:"term"`
	Abort  bool        `json:"abort,omitempty"`
	Begin  Restoration `json:"begin,omitzero"`
	Assign []Assign    `json:"assign,omitempty"`
	// Generation is the one from which on data directories are of after the restore.
	Generation uint64      `json:"generation,omitempty"`
	Timeline   pg.Timeline `json:"timeline,omitempty"`
}

// RestoreFor is the command that takes the whole cluster back to a point in time. No
// server writes from its beginning on: the term is a new one, node is its primary
// once it has been restored, and all others are frozen until then.
func RestoreFor(rec *Record, obs Observed, order RestoreOrder, node string) (*RestoreCluster, error) {
	if node == "" {
		node = rec.Primary
	}
	n, known := rec.Spec.Node(node)
	switch {
	case rec.SystemID == 0:
		return nil, fmt.Errorf("the cluster has no data yet: write bootstrap { restore { ... } } in the spec")
	case rec.Pause != nil:
		return nil, fmt.Errorf("the cluster is paused: ramctrl resume first")
	case rec.Restoring != nil:
		return nil, fmt.Errorf("a restore is under way already, begun by %s: follow it with ramctrl status, or give it up with ramctrl backup restore --abort", rec.Restoring.By)
	case rec.Job != nil:
		return nil, fmt.Errorf("job %d (%s) is under way: wait for its end, or ramctrl backup cancel", rec.Job.ID, rec.Job.Title())
	case !known || !n.Electable():
		return nil, fmt.Errorf("node %q cannot be restored and become the primary: name a node that holds data and has a priority above 0", node)
	case !obs.Nodes[node].Reachable:
		return nil, fmt.Errorf("ramd on node %s does not answer: choose another with --node", node)
	}
	c := &RestoreCluster{Term: rec.Term, Timeline: rec.Timeline + 1, Begin: Restoration{
		Order: order, Node: node, Former: rec.Primary, Kept: map[string]uint64{},
	}}
	for name, a := range rec.Assignments {
		c.Generation = max(c.Generation, a.Generation+1)
		c.Begin.Kept[name] = a.Generation
	}
	c.Assign = freeze(rec, rec.Term+1, Opening{})
	for i := range c.Assign {
		a := &c.Assign[i].Assignment
		// The former primary ends in order, so that all it wrote comes into the archive.
		a.Retain = c.Assign[i].Node == rec.Primary
		a.Clean = a.Retain && node != rec.Primary
		if c.Assign[i].Node != node {
			continue
		}
		a.Role, a.Generation, a.Restore, a.Retain = RolePrimary, c.Generation, &order, true
		a.Launch, a.Timeline = a.Serial, c.Timeline
		a.Settings = maps.Clone(a.Settings)
		a.Settings[syncNamesSetting] = ""
	}
	if !slices.ContainsFunc(c.Assign, func(a Assign) bool { return a.Node == node && a.Assignment.Restore != nil }) {
		return nil, fmt.Errorf("node %s has no assignment yet: wait until it has joined", node)
	}
	return c, nil
}

// AbortRestore is the command that goes back to the data of before, which are kept
// until the restored ones are in place.
func AbortRestore(rec *Record, obs Observed) (*RestoreCluster, error) {
	was := rec.Restoring
	if was == nil {
		return nil, fmt.Errorf("no restore is under way")
	}
	v := obs.Nodes[was.Node]
	if v.Report.Data.Generation >= rec.Floor {
		return nil, fmt.Errorf("the restored data are in place on %s already: ramctrl backup restore goes to another moment, and the data of before are kept beside them", was.Node)
	}
	c := &RestoreCluster{Term: rec.Term, Abort: true}
	c.Assign = freeze(rec, rec.Term+1, Opening{})
	for name, a := range rec.Assignments {
		i := slices.IndexFunc(c.Assign, func(x Assign) bool { return x.Node == name })
		if i < 0 {
			a.Serial++
			a.Term = rec.Term + 1
			c.Assign = append(c.Assign, Assign{Node: name, Assignment: a})
			i = len(c.Assign) - 1
		}
		b := &c.Assign[i].Assignment
		b.Restore, b.Retain, b.Generation = nil, false, was.Kept[name]
		if name == was.Former {
			b.Role, b.Upstream, b.Launch = RolePrimary, nil, b.Serial
		}
	}
	slices.SortFunc(c.Assign, func(a, b Assign) int { return compareNames(a.Node, b.Node) })
	return c, nil
}

func (r *Record) restoreCluster(at time.Time, by string, c RestoreCluster) error {
	if c.Term != r.Term {
		return fmt.Errorf("%w: the restore was decided in term %d, the record is in term %d", ErrStale, c.Term, r.Term)
	}
	if (r.Restoring != nil) != c.Abort {
		return fmt.Errorf("%w: a restore has begun or ended meanwhile", ErrStale)
	}
	for _, a := range c.Assign {
		if err := r.assign(a); err != nil {
			return err
		}
	}
	r.Term++
	r.Opening = nil
	if c.Abort {
		r.Primary = r.Restoring.Former
		r.note(at, Event{
			Kind: EventRestore, Severity: Warning, Node: r.Primary,
			Message: "the restore was given up: the cluster goes on with the data of before", Reason: "asked for by " + by,
		})
		r.Floor, r.Restoring = r.Restoring.Floor, nil
		return nil
	}
	begun := c.Begin
	begun.By, begun.At, begun.Floor = by, at, r.Floor
	r.Restoring, r.Primary = &begun, begun.Node
	r.Floor, r.Timeline = c.Generation, max(r.Timeline, c.Timeline)
	// The operator's word ends what earlier sync sets were for: their writes are what
	// is being left behind.
	r.Sync = SyncState{}
	r.note(at, Event{
		Kind: EventRestore, Severity: Warning, Node: begun.Node,
		Message: fmt.Sprintf("restoring the cluster on %s from %s to %s", begun.Node, begun.Order.Backup, begun.Order.Target),
		Reason:  "asked for by " + by,
	})
	return nil
}

// restoring plans a restore of the whole cluster until its primary takes writes.
func (d *differ) restoring() {
	was := d.rec.Restoring
	v, issued := d.obs.Nodes[was.Node], d.rec.Assignments[was.Node]
	s := Step{
		ID: stepID(StepRestore, was.Node), Kind: StepRestore, Node: was.Node, From: "repository " + was.Order.Repository,
		Summary:    fmt.Sprintf("restore %s from %s to %s and make it the primary", was.Node, was.Order.Backup, was.Order.Target),
		Reason:     "asked for by " + was.By,
		Interrupts: "writes stop until the restored server takes them",
	}
	placed := v.Reachable && v.Report.Data.State == pg.DirCluster && v.Report.Data.Generation >= d.rec.Floor
	switch {
	case !v.Reachable:
		s.Waits = fmt.Sprintf("ramd on %s to answer", was.Node)
	case placed && v.Running() && !v.Report.Server.Recovery && settled(v, issued):
		s.effect = &Effect{Restored: max(v.Report.Server.TimelineBegan, 1)}
	}
	d.add(s)
	if p := v.Report.Problem; v.Reachable && p != nil {
		d.block(was.Node, "node %s: %s; ramctrl backup restore --abort goes back to the data of before", was.Node, p.Text)
	}
	for _, n := range d.nodes {
		if n.Witness || n.Name == was.Node {
			continue
		}
		d.add(Step{
			ID: stepID(StepClone, n.Name), Kind: StepClone, Node: n.Name, From: was.Node,
			Summary: fmt.Sprintf("clone %s from %s", n.Name, was.Node), Reason: "the cluster is being restored",
			After: []string{s.ID},
		})
	}
}

// Branch is a restore of the cluster that took place: what was written after LSN, and
// after Time when that is known, and before Restored is on a timeline that later restores
// do not follow.
type Branch struct {
	LSN      pg.LSN    `json:"lsn"`
	Time     time.Time `json:"time,omitzero"`
	Restored time.Time `json:"restored"`
}

// LeftBehind is the branch on which a moment is that cannot be restored any more.
func (r *Record) LeftBehind(at time.Time) (Branch, bool) {
	for _, b := range r.Branches {
		if !b.Time.IsZero() && at.After(b.Time) && at.Before(b.Restored) {
			return b, true
		}
	}
	return Branch{}, false
}

// restored ends the restore of the cluster. Restore points that it left behind are
// forgotten: no recovery comes to them any more.
func (r *Record) restored(at time.Time, began pg.LSN) {
	if r.Restoring == nil {
		return
	}
	node, branch := r.Restoring.Node, Branch{LSN: began, Time: r.Restoring.Order.Target.Time, Restored: at}
	if p, ok := r.Point(r.Restoring.Order.Target.Point); ok {
		branch.Time = p.At
	}
	r.Branches = bounded(r.Branches, maxPoints, branch)
	r.Points = slices.DeleteFunc(slices.Clone(r.Points), func(p RestorePoint) bool { return p.LSN > began })
	r.Restoring = nil
	r.note(at, Event{
		Kind: EventRestore, Severity: Info, Node: node,
		Message: fmt.Sprintf("node %s has been restored and takes writes; the others are copied from it", node),
		Reason:  "the data directory of before is kept beside the new one",
	})
}

// bootstrapOrder is the restore that a spec begins a cluster with; nil for initdb.
func bootstrapOrder(c *spec.Cluster) *RestoreOrder {
	if c.Bootstrap == nil || c.Bootstrap.Restore == nil {
		return nil
	}
	b := c.Bootstrap.Restore
	order := &RestoreOrder{Repository: b.Repository, Backup: b.Backup}
	if at, err := time.Parse(time.RFC3339, b.TargetTime); err == nil {
		order.Target.Time = at
	}
	return order
}
