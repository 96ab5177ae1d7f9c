package reconcile

import "time"

// RunState is how far a run has come.
type RunState string

const (
	RunRunning    RunState = "running"
	RunDone       RunState = "done"
	RunSuperseded RunState = "superseded" // a later run took over what was left
)

// Cause says why a run was opened.
type Cause string

const (
	CauseApply     Cause = "apply"
	CauseWatch     Cause = "watch"
	CauseRollback  Cause = "rollback"
	CauseRestart   Cause = "restart"
	CauseReload    Cause = "reload"
	CauseReinit    Cause = "reinit"
	CauseReconcile Cause = "reconcile"
)

// Run is one execution of a plan. It remembers what was done and why; what is
// done next always comes from a fresh Diff, never from here.
type Run struct {
	ID       uint64    `json:"id"`
	Cause    Cause     `json:"cause"`
	By       string    `json:"by"`
	Revision uint64    `json:"revision"`
	State    RunState  `json:"state"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	Steps    []RunStep `json:"steps"`
}

// StepState is how far a step of a run has come.
type StepState string

const (
	StepPending StepState = "pending"
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	// StepDropped steps were found unnecessary before they began.
	StepDropped StepState = "dropped"
)

// RunStep is a step of a plan as a run saw it.
type RunStep struct {
	ID       string    `json:"id"`
	Kind     StepKind  `json:"kind"`
	Node     string    `json:"node,omitempty"`
	Summary  string    `json:"summary"`
	Reason   string    `json:"reason,omitempty"`
	From     string    `json:"from,omitempty"`
	State    StepState `json:"state"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
}

func (r *Run) step(id string) int {
	for i := range r.Steps {
		if r.Steps[i].ID == id {
			return i
		}
	}
	return -1
}
