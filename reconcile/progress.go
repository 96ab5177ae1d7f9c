package reconcile

import (
	"fmt"
	"slices"
	"time"
)

// openRun begins a run; one that is under way is superseded, since what is left
// of it is part of the new one.
func (r *Record) openRun(at time.Time, by string, cause Cause, steps []RunStep) {
	if r.Run != nil {
		old := *r.Run
		old.State, old.Finished = RunSuperseded, at
		r.Runs = bounded(r.Runs, maxRuns, old)
	}
	r.LastRun++
	r.Run = &Run{
		ID: r.LastRun, Cause: cause, By: by, Revision: r.Revision,
		State: RunRunning, Started: at, Steps: pending(steps),
	}
	r.note(at, Event{
		Kind: EventRun, Severity: Info,
		Message: fmt.Sprintf("run %d started", r.LastRun),
		Reason:  fmt.Sprintf("%s by %s", cause, by),
	})
}

func pending(steps []RunStep) []RunStep {
	steps = slices.Clone(steps)
	for i := range steps {
		steps[i].State = StepPending
	}
	return steps
}

func (r *Record) progress(at time.Time, p Progress) error {
	if p.Open != "" && r.Run == nil {
		r.openRun(at, "ramd", p.Open, nil)
		p.Run = r.Run.ID
	}
	if p.Run != 0 {
		if r.Run == nil || r.Run.ID != p.Run {
			return fmt.Errorf("%w: run %d is not under way", ErrStale, p.Run)
		}
		r.advanceRun(at, p)
	}
	for _, e := range p.Events {
		r.note(at, e)
	}
	if p.Finish && p.Run != 0 {
		r.finishRun(at)
	}
	return nil
}

func (r *Record) advanceRun(at time.Time, p Progress) {
	run := *r.Run
	run.Steps = append(slices.Clone(run.Steps), pending(p.Add)...)
	r.Run = &run
	for _, id := range p.Started {
		r.moveStep(at, id, StepRunning)
	}
	for _, id := range p.Done {
		r.moveStep(at, id, StepDone)
	}
	for _, id := range p.Dropped {
		r.moveStep(at, id, StepDropped)
	}
}

// moveStep changes a step of the run, which advanceRun has copied.
func (r *Record) moveStep(at time.Time, id string, to StepState) {
	i := r.Run.step(id)
	if i < 0 {
		return
	}
	s := &r.Run.Steps[i]
	if s.State == to {
		return
	}
	s.State = to
	switch to {
	case StepRunning:
		s.Started, s.Finished = at, time.Time{}
		r.note(at, Event{Kind: EventStep, Severity: Info, Node: s.Node, Message: s.Summary, Reason: s.Reason})
	case StepDone:
		if s.Started.IsZero() {
			s.Started = at
		}
		s.Finished = at
		took := at.Sub(s.Started).Round(10 * time.Millisecond)
		r.note(at, Event{Kind: EventStep, Severity: Info, Node: s.Node, Message: fmt.Sprintf("done: %s", s.Summary), Reason: fmt.Sprintf("took %s", took)})
	}
}

func (r *Record) finishRun(at time.Time) {
	run := *r.Run
	run.State, run.Finished = RunDone, at
	r.note(at, Event{
		Kind: EventRun, Severity: Info, Message: fmt.Sprintf("run %d done", run.ID),
		Reason: fmt.Sprintf("took %s", at.Sub(run.Started).Round(10*time.Millisecond)),
	})
	r.Run = nil
	r.Runs = bounded(r.Runs, maxRuns, run)
}
