package ctl

import (
	"fmt"
	"strings"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

// Phases of a failover, in their order. Stopping is a switchover's alone.
const (
	phaseOpen    = "open"
	phaseStop    = "stop"
	phasePromise = "promise"
	phaseGrant   = "grant"
	phasePromote = "promote"
	phaseFollow  = "follow"
)

// phases is a failover as it looks from outside: a pure reading of statuses, with the
// times at which each phase was first seen to begin and to end.
type phases struct {
	cause   reconcile.OpenReason
	term    uint64
	deposed string

	began time.Time
	from  map[string]time.Time
	until map[string]time.Time
	steps []reconcile.RunStep
}

func newPhases(r failoverResult, now time.Time) *phases {
	p := &phases{cause: r.Cause, term: r.Term, deposed: r.Deposed, began: now, from: map[string]time.Time{}, until: map[string]time.Time{}}
	p.read(now, reconcile.Status{})
	return p
}

// read takes in a status. One of an earlier term, from a ramd that is behind, says nothing.
func (p *phases) read(now time.Time, s reconcile.Status) {
	known := s.Term >= p.term
	open := known && s.Term == p.term && s.Opening != nil
	granted := known && !open && s.Primary != ""
	stopped := granted || open && !s.Opening.Stopping
	promised := granted || open && !s.Opening.Stopping && len(s.Opening.Promised) == s.Opening.Of
	node, _ := nodeOf(s, s.Primary)
	promoted := granted && node.Role == reconcile.RolePrimary && node.State == reconcile.NodeRunning
	old, _ := nodeOf(s, p.deposed)
	follows := promoted && old.Role == reconcile.RoleStandby && old.Healthy

	p.steps = p.steps[:0]
	p.add(now, phaseOpen, true, true, fmt.Sprintf("term %d is open, %s is no longer the primary", p.term, p.deposed))
	if p.cause == reconcile.OpenSwitchover {
		p.add(now, phaseStop, true, stopped, pick(stopped, p.deposed+" is shut down", "shutting down "+p.deposed+" in order"))
	}
	p.add(now, phasePromise, stopped || p.cause == reconcile.OpenFailover, promised, promising(s.Opening, promised))
	p.add(now, phaseGrant, promised || open && !s.Opening.Stopping, granted, choosing(s, granted))
	p.add(now, phasePromote, granted, promoted, pick(promoted, s.Primary+" takes writes", "promoting "+s.Primary))
	if !granted || s.Primary != p.deposed {
		p.add(now, phaseFollow, promoted, follows, following(old, p.deposed, s.Primary, follows))
	}
}

func pick(done bool, ended, going string) string {
	if done {
		return ended
	}
	return going
}

func promising(o *reconcile.OpeningStatus, done bool) string {
	if done || o == nil {
		return pick(done, "the standbys have disconnected from it", "disconnecting the standbys from it")
	}
	text := fmt.Sprintf("disconnecting the standbys from it, %d of %d have", len(o.Promised), o.Of)
	if len(o.Promised) > 0 {
		text += ": " + strings.Join(o.Promised, ", ")
	}
	return text
}

func choosing(s reconcile.Status, done bool) string {
	if done {
		return fmt.Sprintf("%s is the primary of term %d", s.Primary, s.Term)
	}
	if s.Opening != nil && s.Opening.Waits != "" {
		return "choosing a primary, waits for " + s.Opening.Waits
	}
	return "choosing a primary"
}

func following(old reconcile.NodeStatus, deposed, primary string, done bool) string {
	if done {
		return fmt.Sprintf("%s follows %s", deposed, primary)
	}
	text := fmt.Sprintf("%s comes back as a standby", deposed)
	if old.State != "" {
		text += ", it is " + string(old.State)
	}
	return text
}

// add notes the state of a phase. What was seen to be done stays so.
func (p *phases) add(now time.Time, id string, begun, done bool, text string) {
	if _, known := p.until[id]; known {
		begun, done = true, true
	}
	state := reconcile.StepPending
	if begun || done {
		state = reconcile.StepRunning
		if _, known := p.from[id]; !known {
			p.from[id] = now
		}
	}
	if done {
		state = reconcile.StepDone
		if _, known := p.until[id]; !known {
			p.until[id] = now
		}
	}
	p.steps = append(p.steps, reconcile.RunStep{ID: id, Kind: reconcile.StepFailover, Summary: text, State: state})
}

func (p *phases) done(id string) bool {
	_, done := p.until[id]
	return done
}

// at is when a phase was seen to be done, from the beginning of the first.
func (p *phases) at(id string) time.Duration { return p.until[id].Sub(p.began) }

// answer is the phases in the form in which runs are shown.
func (p *phases) answer(now time.Time) api.RunAnswer {
	a := api.RunAnswer{Run: reconcile.Run{Steps: p.steps}, Elapsed: now.Sub(p.began)}
	for _, s := range p.steps {
		var took time.Duration
		if from, begun := p.from[s.ID]; begun {
			took = now.Sub(from)
			if until, done := p.until[s.ID]; done {
				took = until.Sub(from)
			}
		}
		a.StepElapsed = append(a.StepElapsed, took)
	}
	return a
}

func (p *phases) results() []phaseResult {
	var list []phaseResult
	for _, s := range p.steps {
		r := phaseResult{Phase: s.ID, State: s.State}
		if until, done := p.until[s.ID]; done {
			r.DoneMS = until.Sub(p.began).Milliseconds()
		}
		list = append(list, r)
	}
	return list
}
