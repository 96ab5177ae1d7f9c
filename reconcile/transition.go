package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// Errors that Transition returns and callers branch on. A rejected command
// leaves the record as it was.
var (
	// ErrStale says that a command was made from a record that has moved on.
	ErrStale = errors.New("the record has moved on")
	// ErrNotFormed says that the cluster has not been bootstrapped.
	ErrNotFormed = errors.New("the cluster has not been formed yet")
)

// Transition is the record that command makes of rec. It never changes rec; on
// an error it returns rec itself. It is deterministic: every ramd that applies
// the same commands in the same order has the same record.
func Transition(rec *Record, cmd Command) (*Record, error) {
	if !rec.Formed() && cmd.Form == nil {
		return rec, ErrNotFormed
	}
	next := *rec
	var err error
	switch {
	case cmd.Form != nil:
		err = next.form(cmd.At, *cmd.Form)
	case cmd.Accept != nil:
		err = next.accept(cmd.At, cmd.By, *cmd.Accept)
	case cmd.Hold != nil:
		next.hold(cmd.At, *cmd.Hold)
	case cmd.Admit != nil:
		err = next.admit(cmd.At, *cmd.Admit)
	case cmd.Advance != nil:
		err = next.advance(cmd.At, *cmd.Advance)
	case cmd.Progress != nil:
		err = next.progress(cmd.At, *cmd.Progress)
	case cmd.Pause != nil:
		next.setPause(cmd.At, cmd.By, *cmd.Pause)
	case cmd.Ask != nil:
		err = next.ask(cmd.At, cmd.By, *cmd.Ask)
	case cmd.Planned != nil:
		err = next.setPlanned(cmd.At, cmd.By, *cmd.Planned)
	case cmd.Open != nil:
		err = next.open(cmd.At, cmd.By, *cmd.Open)
	case cmd.Elect != nil:
		err = next.elect(cmd.At, *cmd.Elect)
	case cmd.Begin != nil:
		err = next.beginJob(cmd.At, *cmd.Begin)
	case cmd.End != nil:
		err = next.endJob(cmd.At, *cmd.End)
	case cmd.Cancel != nil:
		err = next.cancelJob(cmd.By, *cmd.Cancel)
	case cmd.Restore != nil:
		err = next.restoreCluster(cmd.At, cmd.By, *cmd.Restore)
	default:
		err = errors.New("empty command")
	}
	if err != nil {
		return rec, err
	}
	return &next, nil
}

func (r *Record) form(at time.Time, f Form) error {
	if r.Formed() {
		return fmt.Errorf("%w: cluster %q has already been formed", ErrStale, r.Cluster)
	}
	r.Format = RecordFormat
	r.Cluster, r.ClusterID, r.Secrets = f.Cluster, f.ClusterID, f.Secrets
	r.Members = make(map[string]Member, len(f.Members))
	r.Assignments = map[string]Assignment{}
	names := make([]string, 0, len(f.Members))
	for _, m := range f.Members {
		r.Members[m.Name] = m
		names = append(names, m.Name)
	}
	r.note(at, Event{
		Kind: EventBootstrap, Severity: Info,
		Message: fmt.Sprintf("cluster %q formed by %s", f.Cluster, strings.Join(names, ", ")),
	})
	return nil
}

func (r *Record) accept(at time.Time, by string, a Accept) error {
	if a.Spec == nil {
		return errors.New("nothing to accept: the command holds no spec")
	}
	if a.Base != r.Revision {
		return fmt.Errorf("%w: the spec was made from revision %d, in force is %d", ErrStale, a.Base, r.Revision)
	}
	if a.Spec.Name != r.Cluster {
		return fmt.Errorf("the spec is for cluster %q, this is %q", a.Spec.Name, r.Cluster)
	}
	digest := a.Spec.Digest()
	if r.Spec == nil || r.Spec.Digest() != digest {
		r.Revision++
		r.forgetCatalogs(a.Spec)
		r.Spec = a.Spec
		r.History = bounded(r.History, maxHistory, Revision{
			Number: r.Revision, Digest: digest, Spec: a.Spec, Source: a.Source,
			By: by, At: at, Message: a.Message,
		})
		r.note(at, Event{
			Kind: EventSpec, Severity: Info,
			Message: fmt.Sprintf("revision %d accepted", r.Revision),
			Reason:  fmt.Sprintf("%s by %s", a.Cause, by),
		})
	}
	r.Waiting = nil
	r.markSchedules(at)
	if len(a.Steps) > 0 {
		r.openRun(at, by, a.Cause, a.Steps)
	}
	return nil
}

func (r *Record) hold(at time.Time, h Hold) {
	before := r.Waiting
	r.Waiting = h.Proposal
	switch {
	case h.Proposal == nil && before != nil:
		r.note(at, Event{
			Kind: EventWatch, Severity: Info, Message: "the changed spec no longer waits",
			Reason: "the file is as before",
		})
	case h.Proposal == nil, before != nil && before.Spec.Digest() == h.Proposal.Spec.Digest():
	default:
		r.note(at, Event{
			Kind: EventWatch, Severity: Warning,
			Message: "a changed spec waits for ramctrl apply --allow-destroy",
			Reason:  h.Proposal.Reason,
		})
	}
}

func (r *Record) admit(at time.Time, a Admit) error {
	m := a.Member
	if m.Name == "" || m.Incarnation == "" {
		return errors.New("a member needs a name and an incarnation")
	}
	before, known := r.Members[m.Name]
	if known && before == m {
		return nil
	}
	r.Members = with(r.Members, m.Name, m)
	message := fmt.Sprintf("node %s joined", m.Name)
	if known && before.Incarnation != m.Incarnation {
		message = fmt.Sprintf("node %s came back with an empty ramd data directory", m.Name)
	}
	r.note(at, Event{Kind: EventMember, Severity: Info, Node: m.Name, Message: message})
	return nil
}

func (r *Record) advance(at time.Time, a Advance) error {
	e := a.Effect
	if e.Revision != r.Revision {
		return fmt.Errorf("%w: step %s was decided for revision %d, in force is %d", ErrStale, a.Step, e.Revision, r.Revision)
	}
	if r.Pause != nil {
		return fmt.Errorf("%w: the cluster is paused", ErrStale)
	}
	if r.Run != nil {
		r.advanceRun(at, Progress{Started: []string{a.Step}})
	}
	if err := r.grant(at, e.Grant); err != nil {
		return err
	}
	if e.Identify != 0 && r.SystemID != 0 && r.SystemID != e.Identify {
		return fmt.Errorf("the system identifier is %s already, not %s", r.SystemID, e.Identify)
	}
	if e.Identify != 0 {
		r.identify(e.Identify)
	}
	for _, assign := range e.Assign {
		if err := r.assign(assign); err != nil {
			return err
		}
	}
	if err := r.changeSync(at, e); err != nil {
		return err
	}
	if e.Leave != "" {
		r.leave(at, e.Leave)
	}
	if e.Restored != 0 {
		r.restored(at, e.Restored)
	}
	if e.Begin != nil {
		return r.beginJob(at, *e.Begin)
	}
	return nil
}

func (r *Record) grant(at time.Time, g *Grant) error {
	if g == nil {
		return nil
	}
	if r.Opening != nil {
		return fmt.Errorf("%w: term %d is open, and is granted by a choice", ErrStale, r.Term)
	}
	if g.Term != r.Term+1 {
		return fmt.Errorf("%w: term %d does not follow term %d", ErrStale, g.Term, r.Term)
	}
	r.Primary, r.Term = g.Node, g.Term
	r.note(at, Event{
		Kind: EventGrant, Severity: Info, Node: g.Node,
		Message: fmt.Sprintf("node %s is the primary of term %d", g.Node, g.Term),
	})
	return nil
}

// identify records whose data the cluster's is. Assignments that were issued
// before it was known get it too: what they ask for stays the same.
func (r *Record) identify(id pg.SystemID) {
	r.SystemID = id
	r.Assignments = maps.Clone(r.Assignments)
	for node, a := range r.Assignments {
		if a.SystemID == 0 {
			a.SystemID = id
			r.Assignments[node] = a
		}
	}
}

func (r *Record) assign(a Assign) error {
	before := r.Assignments[a.Node]
	first := before.Serial == 0 && a.Assignment.Serial > 0
	if a.Assignment.Serial != before.Serial+1 && !first {
		return fmt.Errorf("%w: assignment %d of node %s does not follow %d", ErrStale, a.Assignment.Serial, a.Node, before.Serial)
	}
	if _, known := r.Members[a.Node]; !known {
		return fmt.Errorf("%w: node %s is not a member", ErrStale, a.Node)
	}
	a.Assignment.HBA = shared(a.Assignment.HBA, r.Assignments[r.Primary].HBA)
	r.Assignments = with(r.Assignments, a.Node, a.Assignment)

	wish := r.Wishes[a.Node]
	left := Wish{
		Restart: wish.Restart && a.Assignment.Restart == before.Restart,
		Reinit:  wish.Reinit && a.Assignment.Generation == before.Generation,
	}
	if left.Reinit {
		left.Restore = wish.Restore
	}
	r.setWish(a.Node, left)
	return nil
}

func (r *Record) setWish(node string, w Wish) {
	if r.Wishes[node] == w {
		return
	}
	if w == (Wish{}) {
		r.Wishes = maps.Clone(r.Wishes)
		delete(r.Wishes, node)
		return
	}
	r.Wishes = with(r.Wishes, node, w)
}

func (r *Record) changeSync(at time.Time, e Effect) error {
	switch {
	case e.Settle && (r.Sync.settled() || e.Sync != nil && !sameSync(*e.Sync, r.Sync.Target())):
		return fmt.Errorf("%w: that is not the next sync set", ErrStale)
	case e.Sync != nil && !e.Settle:
		if before := r.Sync.Next; before != nil && !slices.ContainsFunc(r.Sync.Passed, func(s SyncSet) bool { return sameSync(s, *before) }) {
			r.Sync.Passed = append(slices.Clip(r.Sync.Passed), *before)
		}
		r.Sync.Next = e.Sync
	}
	if e.Settle {
		r.Sync = SyncState{Current: r.Sync.Target()}
		message := "commits wait for no standby"
		if s := r.Sync.Current; s.K > 0 {
			message = fmt.Sprintf("commits wait for %d of %s", s.K, strings.Join(s.Members, ", "))
		}
		severity := Info
		if c := r.Spec; c != nil && c.Replication.Mode == spec.ModeQuorum && r.Sync.Current.K < c.Replication.SyncStandbys {
			severity = Warning
			message = fmt.Sprintf("THE GUARANTEE IS OFF: %s, the spec asks for %d", message, c.Replication.SyncStandbys)
		}
		r.note(at, Event{Kind: EventSync, Severity: severity, Message: message})
	}
	return nil
}

func (r *Record) leave(at time.Time, node string) {
	if _, known := r.Members[node]; !known {
		return
	}
	r.Members = maps.Clone(r.Members)
	delete(r.Members, node)
	r.Assignments = maps.Clone(r.Assignments)
	delete(r.Assignments, node)
	r.setWish(node, Wish{})
	r.note(at, Event{Kind: EventMember, Severity: Info, Node: node, Message: fmt.Sprintf("node %s left", node)})
}

func (r *Record) setPause(at time.Time, by string, p SetPause) {
	if p.Paused == (r.Pause != nil) {
		return
	}
	message := "resumed"
	r.Pause = nil
	if p.Paused {
		message = "paused: the cluster decides nothing until ramctrl resume"
		r.Pause = &Pause{By: by, At: at, Reason: p.Reason}
	}
	r.note(at, Event{Kind: EventPause, Severity: Warning, Message: message, Reason: p.Reason})
}

func (r *Record) ask(at time.Time, by string, a Ask) error {
	for _, node := range a.Nodes {
		if _, known := r.Members[node]; !known {
			return fmt.Errorf("node %s is not a member", node)
		}
		if a.Cause == CauseReinit && node == r.Primary {
			return fmt.Errorf("node %s is the primary: its data is what the others are copied from", node)
		}
		if r.Spec != nil {
			if n, there := r.Spec.Node(node); !there || n.Witness {
				return fmt.Errorf("node %s holds no data", node)
			}
		}
		wish := r.Wishes[node]
		switch a.Cause {
		case CauseRestart:
			wish.Restart = true
		case CauseReload:
			wish.Reload = true
		case CauseReinit:
			wish.Reinit, wish.Restore = true, a.Restore
		default:
			return fmt.Errorf("nobody can ask for %q", a.Cause)
		}
		r.setWish(node, wish)
	}
	r.openRun(at, by, a.Cause, a.Steps)
	return nil
}

// note appends an event. Order of events is the order of commands.
func (r *Record) note(at time.Time, e Event) {
	r.LastEvent++
	e.Seq, e.At = r.LastEvent, at
	if e.Run == 0 && r.Run != nil {
		e.Run = r.Run.ID
	}
	r.Events = bounded(r.Events, maxEvents, e)
}

// bounded is a new slice with v appended and at most limit elements, the oldest gone.
func bounded[T any](s []T, limit int, v T) []T {
	from := max(0, len(s)+1-limit)
	return append(slices.Clone(s[from:]), v)
}

// with is a copy of m in which key has the value v.
func with[V any](m map[string]V, key string, v V) map[string]V {
	next := make(map[string]V, len(m)+1)
	maps.Copy(next, m)
	next[key] = v
	return next
}
