package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
)

// OpenReason says why a term was opened.
type OpenReason string

const (
	// OpenFailover: the primary is lost, or an operator says so.
	OpenFailover OpenReason = "failover"
	// OpenSwitchover: an operator wants another primary; the old one helps.
	OpenSwitchover OpenReason = "switchover"
)

// Opening is a term without a primary. From its beginning no assignment lets any
// server be primary; it ends with an Elect.
type Opening struct {
	Cause OpenReason `json:"cause"`
	// Deposed was the primary of the term before.
	Deposed string    `json:"deposed"`
	Reason  string    `json:"reason"`
	By      string    `json:"by,omitempty"`
	At      time.Time `json:"at"`
	// Target is the node that an operator asked for; empty for the best one.
	Target string `json:"target,omitempty"`
	// AcceptLoss is the operator's word that acknowledged writes may be lost.
	AcceptLoss bool `json:"accept_data_loss,omitempty"`
	// Stopping is set while a switchover waits for the old primary to shut down in
	// order, with its standbys still connected.
	Stopping bool `json:"stopping,omitempty"`
}

// Open opens the term after Term, or, when that one is open already, changes what
// is asked of its members: Stopping ends, an operator accepts a loss.
type Open struct {
	// Term is the record's term when this was decided.
	Term    uint64   `json:"term"`
	Opening Opening  `json:"opening"`
	Assign  []Assign `json:"assign,omitempty"`
	// Planned is Set of the planned switchover that this begins; zero for none.
	Planned time.Time `json:"planned,omitzero"`
}

// Elect ends an opening: Node is the primary of Term.
type Elect struct {
	Term   uint64   `json:"term"`
	Node   string   `json:"node"`
	Assign []Assign `json:"assign,omitempty"`
	// Sync is the set that the new primary runs from its first write on. The sets
	// that counted before go on counting until this one is seen to be in force.
	Sync *SyncSet `json:"sync,omitempty"`
	// Timeline is the one that the new primary begins; zero when it goes on with its own.
	Timeline pg.Timeline `json:"timeline,omitempty"`
	Choice   Choice      `json:"choice"`
}

// Choice is one choice of a primary, with all that it was made from.
type Choice struct {
	// Event is the event that tells of it.
	Event   uint64        `json:"event"`
	At      time.Time     `json:"at"`
	Input   FailoverInput `json:"input"`
	Verdict Verdict       `json:"verdict"`
}

func (r *Record) open(at time.Time, by string, o Open) error {
	if o.Term != r.Term {
		return fmt.Errorf("%w: decided in term %d, the term is %d", ErrStale, o.Term, r.Term)
	}
	if r.Pause != nil {
		return fmt.Errorf("%w: the cluster is paused", ErrStale)
	}
	if r.Restoring != nil {
		return fmt.Errorf("%w: the cluster is being restored", ErrStale)
	}
	if r.Opening == nil {
		if o.Opening.Deposed == "" || o.Opening.Deposed != r.Primary {
			return fmt.Errorf("%w: %s is not the primary", ErrStale, o.Opening.Deposed)
		}
		if !o.Planned.IsZero() {
			var err error
			if by, err = r.beginPlanned(o.Planned); err != nil {
				return err
			}
		}
		r.Term, r.Primary = r.Term+1, ""
		severity, message := Warning, fmt.Sprintf("term %d is open: node %s is no longer the primary", r.Term, o.Opening.Deposed)
		if o.Opening.Cause == OpenSwitchover {
			severity, message = Info, fmt.Sprintf("term %d is open: node %s hands over", r.Term, o.Opening.Deposed)
		}
		r.note(at, Event{Kind: EventFailover, Severity: severity, Node: o.Opening.Deposed, Message: message, Reason: o.Opening.Reason})
		o.Opening.At, o.Opening.By = at, by
	} else {
		if o.Opening.Deposed != r.Opening.Deposed {
			return fmt.Errorf("%w: the term was opened for %s", ErrStale, r.Opening.Deposed)
		}
		o.Opening.At, o.Opening.By = r.Opening.At, r.Opening.By
		for _, a := range o.Assign {
			if a.Assignment.Reclaim && !r.Assignments[a.Node].Reclaim {
				r.note(at, Event{
					Kind: EventFailover, Severity: Warning, Node: a.Node,
					Message: fmt.Sprintf("node %s starts with what it wrote as a primary", a.Node), Reason: o.Opening.Reason,
				})
			}
		}
	}
	r.Opening = &o.Opening
	return r.assignAll(o.Assign)
}

func (r *Record) assignAll(list []Assign) error {
	for _, a := range list {
		if err := r.assign(a); err != nil {
			return err
		}
	}
	return nil
}

func (r *Record) elect(at time.Time, e Elect) error {
	switch {
	case r.Opening == nil || e.Term != r.Term:
		return fmt.Errorf("%w: term %d is not open", ErrStale, e.Term)
	case r.Pause != nil:
		return fmt.Errorf("%w: the cluster is paused", ErrStale)
	}
	deposed := r.Opening.Deposed
	if e.Timeline != 0 && e.Timeline <= r.Timeline {
		return fmt.Errorf("%w: timeline %d has been used", ErrStale, e.Timeline)
	}
	r.Primary, r.Opening, r.Timeline = e.Node, nil, max(r.Timeline, e.Timeline)
	r.succeedSync(e, deposed)
	if err := r.assignAll(e.Assign); err != nil {
		return err
	}
	message := fmt.Sprintf("node %s is the primary of term %d", e.Node, e.Term)
	severity := Info
	reason := e.Choice.Verdict.Reason
	if lose := e.Choice.Verdict.MayLose; lose != "" {
		severity, reason = Warning, reason+"; may have been lost: "+lose
	}
	r.note(at, Event{Kind: EventGrant, Severity: severity, Node: e.Node, Message: message, Reason: reason})
	e.Choice.Event, e.Choice.At = r.LastEvent, at
	r.Verdicts = bounded(r.Verdicts, maxVerdicts, e.Choice)
	return nil
}

// succeedSync has the sets that counted go on counting, beside the one that the new
// primary runs: what earlier terms acknowledged has to be on enough of its members
// before that one counts alone.
func (r *Record) succeedSync(e Elect, deposed string) {
	if e.Node == deposed || e.Sync == nil {
		return // it runs what it ran
	}
	before := r.Sync.Sets()
	r.Sync = SyncState{Current: *e.Sync}
	for _, s := range before {
		if e.Sync.K > 0 && !slices.ContainsFunc(r.Sync.Former, func(f SyncSet) bool { return sameSync(f, s) }) {
			r.Sync.Former = append(r.Sync.Former, s)
		}
	}
}
