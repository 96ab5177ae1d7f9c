package reconcile

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// PlannedSwitchover is a switchover that an operator wants at a time. It is begun
// once, or dropped with an event that says why.
type PlannedSwitchover struct {
	// To is the node that is to be the primary; empty for the best one.
	To string `json:"to,omitempty"`
	// From was the primary when it was planned. Without a node to hand over to, what is
	// wanted is that another one is.
	From string    `json:"from"`
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	// Set is when it was planned, and tells it from those planned before and later.
	Set time.Time `json:"set"`
}

const (
	// PlannedAhead is how far in the future a switchover may be planned. What an operator
	// knows of the cluster does not hold for longer.
	PlannedAhead = 7 * 24 * time.Hour
	// PlannedGrace is how late one is begun that nobody could begin in time. Later it
	// would surprise people who have gone home.
	PlannedGrace = 5 * time.Minute
)

// SetPlanned plans a switchover, replaces the one that is planned, or drops it.
type SetPlanned struct {
	// Next is what is planned from now on, of which only To and At are read; nil for nothing.
	Next *PlannedSwitchover `json:"next,omitempty"`
	// Was is Set of the one that it replaces or drops; zero when there is none.
	Was time.Time `json:"was,omitzero"`
	// Dropped is why the one that was planned is not begun although its time has
	// come; empty when an operator cancels it.
	Dropped string `json:"dropped,omitempty"`
}

// Forget is what drops p, because of a reason, or for an operator who cancels it.
func (p PlannedSwitchover) Forget(dropped string) *SetPlanned {
	return &SetPlanned{Was: p.Set, Dropped: dropped}
}

// Replace is what plans a switchover in the place of the record's, if it has one.
func (r *Record) Replace(to string, at time.Time) *SetPlanned {
	s := &SetPlanned{Next: &PlannedSwitchover{To: to, At: at}}
	if r.Planned != nil {
		s.Was = r.Planned.Set
	}
	return s
}

// Due is what becomes of a planned switchover when its time has come. The zero Due
// is nothing yet.
type Due struct {
	Open *Open
	Drop *SetPlanned
}

// DueOf decides about the planned switchover at now, the leader's wall clock: the
// operator named a time of day, and nothing that keeps data safe relies on it. The
// observation must be of a leader that has heard all nodes, or waited for them.
func DueOf(rec *Record, obs Observed, now time.Time) Due {
	p := rec.Planned
	switch {
	case p == nil || now.Before(p.At):
		return Due{}
	case now.Sub(p.At) > PlannedGrace:
		return Due{Drop: p.Forget(fmt.Sprintf("nobody led the cluster at that time, nor in the %s after it", PlannedGrace))}
	case p.To == "" && rec.Opening == nil && rec.Primary != p.From:
		return Due{Drop: p.Forget(fmt.Sprintf("node %s is the primary since, and no longer %s", rec.Primary, p.From))}
	}
	f := Preflight(rec, obs, OpenSwitchover, p.To, false)
	if f.Refused() {
		return Due{Drop: p.Forget(strings.Join(f.Refusals, "; "))}
	}
	open := OpenFor(rec, OpenSwitchover, p.To, false)
	open.Opening.Reason = strings.Join(append([]string{"it was planned for " + p.time()}, f.Warnings...), "; ")
	open.Planned = p.Set
	return Due{Open: open}
}

func (p PlannedSwitchover) time() string { return p.At.UTC().Format(time.RFC3339) }

// what names the switchover in events.
func (p PlannedSwitchover) what() string {
	if p.To == "" {
		return "the switchover planned for " + p.time()
	}
	return fmt.Sprintf("the switchover to %s planned for %s", p.To, p.time())
}

// CheckPlanned is why a switchover cannot be planned, whatever may change until then;
// nil when it can.
func CheckPlanned(rec *Record, to string, at, now time.Time) error {
	f := &preflight{rec: rec, target: to, p: Preflighted{Primary: rec.Primary}}
	switch refusal := f.wrongTarget(); {
	case !at.After(now):
		return fmt.Errorf("%s is past: name a time in the future", at.UTC().Format(time.RFC3339))
	case at.Sub(now) > PlannedAhead:
		return fmt.Errorf("%s is more than %d days ahead: name a time before", at.UTC().Format(time.RFC3339), PlannedAhead/(24*time.Hour))
	case rec.Spec == nil || rec.Primary == "":
		return errors.New("the cluster has no primary now: plan it when there is one (ramctrl status)")
	case refusal != "":
		return errors.New(refusal)
	}
	return nil
}

// PreflightAt is the preflight of a switchover at a time: what speaks against it now
// may be over by then, and is a warning.
func PreflightAt(rec *Record, obs Observed, to string, at, now time.Time) Preflighted {
	p := Preflight(rec, obs, OpenSwitchover, to, false)
	p.At = at
	for i, refusal := range p.Refusals {
		p.Refusals[i] = "it would be refused if it began now: " + refusal
	}
	p.Warnings = append(p.Refusals, p.Warnings...)
	p.Refusals = []string{}
	if before := rec.Planned; before != nil {
		p.Warnings = append(p.Warnings, before.what()+" is replaced")
	}
	if err := CheckPlanned(rec, to, at, now); err != nil {
		p.Refusals, p.Warnings = append(p.Refusals, err.Error()), []string{}
	}
	return p
}

func (r *Record) setPlanned(at time.Time, by string, s SetPlanned) error {
	was := r.Planned
	if (was == nil) != s.Was.IsZero() || was != nil && !was.Set.Equal(s.Was) {
		return fmt.Errorf("%w: another switchover is planned by now, or none", ErrStale)
	}
	if s.Next == nil {
		return r.dropPlanned(at, by, s.Dropped)
	}
	if err := CheckPlanned(r, s.Next.To, s.Next.At, at); err != nil {
		return err
	}
	r.Planned = &PlannedSwitchover{To: s.Next.To, From: r.Primary, At: s.Next.At.UTC(), By: by, Set: at}
	e := Event{Kind: EventPlanned, Severity: Info, Node: r.Planned.To, Message: "a switchover is planned for " + r.Planned.time(), Reason: "by " + by}
	if was != nil {
		e.Reason += ", in the place of " + was.what()
	}
	r.note(at, e)
	return nil
}

func (r *Record) dropPlanned(at time.Time, by, reason string) error {
	if r.Planned == nil {
		return errors.New("no switchover is planned")
	}
	e := Event{Kind: EventPlanned, Severity: Warning, Node: r.Planned.To, Message: r.Planned.what() + " is dropped", Reason: reason}
	if reason == "" {
		e.Severity, e.Message, e.Reason = Info, r.Planned.what()+" is cancelled", "by "+by
	}
	r.Planned = nil
	r.note(at, e)
	return nil
}

// beginPlanned forgets the planned switchover that a term is opened for, so that it is
// begun once.
func (r *Record) beginPlanned(set time.Time) (by string, err error) {
	p := r.Planned
	if p == nil || !p.Set.Equal(set) {
		return "", fmt.Errorf("%w: the planned switchover is another one by now, or none", ErrStale)
	}
	r.Planned = nil
	return p.By, nil
}
