package reconcile

import (
	"slices"
	"strings"
)

func compareNames(a, b string) int { return strings.Compare(a, b) }

// Runnable are the steps of a plan that the leader can make begin now: nothing
// has to come before them and nothing is waited for.
func Runnable(p Plan) []Step {
	var steps []Step
	for _, s := range p.Steps {
		if s.effect != nil && len(s.After) == 0 && s.Waits == "" {
			steps = append(steps, s)
		}
	}
	return steps
}

// RunSteps are the steps of a plan as a run records them.
func RunSteps(p Plan) []RunStep {
	steps := make([]RunStep, len(p.Steps))
	for i, s := range p.Steps {
		steps[i] = RunStep{ID: s.ID, Kind: s.Kind, Node: s.Node, Summary: s.Summary, Reason: s.Reason, From: s.From, State: StepPending}
	}
	return steps
}

// Track compares the run that is under way with a fresh plan: what has begun,
// what is done because the plan no longer has it, what is new. The zero
// Progress means that nothing changed. Without a run it opens one as soon as
// there are steps. A step that has not begun and is not in the plan is only
// known to be unnecessary when nothing is left: a restart, for one, is out of
// sight while a server has not yet said which settings wait for it.
func Track(rec *Record, p Plan) Progress {
	var progress Progress
	known := []RunStep{}
	switch {
	case rec.Pause != nil:
		return Progress{}
	case rec.Run != nil:
		progress.Run = rec.Run.ID
		known = rec.Run.Steps
	case len(p.Steps) > 0:
		progress.Open = CauseReconcile
	default:
		return Progress{}
	}
	for _, s := range p.Steps {
		i := slices.IndexFunc(known, func(k RunStep) bool { return k.ID == s.ID })
		if i < 0 {
			progress.Add = append(progress.Add, RunSteps(Plan{Steps: []Step{s}})...)
		}
		begun := len(s.After) == 0 && s.Waits == "" && s.effect == nil
		if begun && (i < 0 || known[i].State != StepRunning) {
			progress.Started = append(progress.Started, s.ID)
		}
	}
	for _, k := range known {
		if slices.ContainsFunc(p.Steps, func(s Step) bool { return s.ID == k.ID }) {
			continue
		}
		switch {
		case k.State == StepRunning, k.State == StepPending && happensByItself[k.Kind]:
			progress.Done = append(progress.Done, k.ID)
		case k.State == StepPending && len(p.Steps) == 0:
			progress.Dropped = append(progress.Dropped, k.ID)
		}
	}
	progress.Finish = len(p.Steps) == 0
	if progress.Empty() {
		return Progress{}
	}
	return progress
}

// happensByItself are steps that need no effect of the leader, so that they may
// be over before they were seen to begin.
var happensByItself = map[StepKind]bool{StepJoin: true, StepStart: true, StepFollow: true, StepFailover: true, StepRewind: true}

// Empty reports whether the progress changes nothing.
func (p Progress) Empty() bool {
	return p.Open == "" && len(p.Add) == 0 && len(p.Started) == 0 && len(p.Done) == 0 &&
		len(p.Dropped) == 0 && !p.Finish && len(p.Events) == 0
}
