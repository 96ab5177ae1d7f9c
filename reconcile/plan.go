package reconcile

import (
	"slices"

	"github.com/ramhq/ram/pg"
)

// PlanFormat is the version of a Plan's JSON form.
const PlanFormat = 1

// Plan is what would happen, or is happening: the gap between spec and world as
// changes to objects, and the ordered steps that close it. The same input gives
// the same plan, byte for byte.
type Plan struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
	Base    Base   `json:"base"`
	// Revision is the one that is in force when the plan has been applied.
	Revision uint64 `json:"revision"`
	// Spec is the digest of the spec that the plan leads to.
	Spec    string   `json:"spec"`
	Changes []Change `json:"changes"`
	Steps   []Step   `json:"steps"`
	// Blocked is what cannot be done now, and why.
	Blocked  []Blocked `json:"blocked"`
	Warnings []string  `json:"warnings"`
	Summary  Summary   `json:"summary"`
}

// Base is what a plan was made from. A plan whose base is no longer current is
// refused.
type Base struct {
	Revision uint64 `json:"revision"`
	// Observed digests those facts about the nodes that the plan depends on.
	Observed string `json:"observed"`
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Steps) == 0 }

// Refused reports whether the plan's spec cannot be accepted.
func (p Plan) Refused() bool {
	return slices.ContainsFunc(p.Blocked, func(b Blocked) bool { return b.Refused })
}

// Action is what happens to an object or an attribute.
type Action string

const (
	ActionCreate  Action = "create"
	ActionUpdate  Action = "update"
	ActionDestroy Action = "destroy"
)

// Change is one object of the spec, or one node of the world, that becomes different.
type Change struct {
	Action Action `json:"action"`
	// Object is "cluster", "postgres", "replication", "node b", "backup nightly".
	Object string `json:"object"`
	// Drift is set when the spec is as before and somebody changed the world.
	Drift      bool        `json:"drift,omitempty"`
	Attributes []Attribute `json:"attributes"`
}

// Attribute is one value that becomes different. Old is empty on create, New on destroy.
type Attribute struct {
	Action Action `json:"action"`
	Name   string `json:"name"`
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
	// Sensitive values are masked before they get here.
	Sensitive bool `json:"sensitive,omitempty"`
	// Forces is "restart" or "reload" when the change costs that.
	Forces string `json:"forces,omitempty"`
}

// StepKind says what a step does.
type StepKind string

const (
	StepJoin      StepKind = "join"      // a ramd enters the Raft group
	StepVoter     StepKind = "voter"     // a member gains or loses its vote
	StepInit      StepKind = "init"      // initdb on the first primary
	StepClone     StepKind = "clone"     // a data directory is copied from the upstream
	StepConfigure StepKind = "configure" // files are written and loaded
	StepStart     StepKind = "start"     // PostgreSQL is started
	StepRestart   StepKind = "restart"   // PostgreSQL is restarted
	StepFollow    StepKind = "follow"    // a standby streams again
	StepSync      StepKind = "sync"      // synchronous_standby_names changes
	StepRetire    StepKind = "retire"    // PostgreSQL is stopped, its data put aside
	StepLeave     StepKind = "leave"     // a member leaves the Raft group
	StepFailover  StepKind = "failover"  // another node becomes the primary
	StepRewind    StepKind = "rewind"    // a former primary's data are made fit to follow
	StepRestore   StepKind = "restore"   // a data directory comes from a backup
	StepPrune     StepKind = "prune"     // backups that have expired are deleted
)

// Step is one effect among the ordered effects of a plan.
type Step struct {
	// ID is stable across plans for the same purpose: "clone/b".
	ID      string   `json:"id"`
	Kind    StepKind `json:"kind"`
	Node    string   `json:"node,omitempty"`
	Summary string   `json:"summary"`
	Reason  string   `json:"reason"`
	// From is the node that a clone copies, Bytes how much that is as far as known.
	From  string   `json:"from,omitempty"`
	Bytes pg.Bytes `json:"bytes,omitempty"`
	// Interrupts says how clients notice; empty when they do not.
	Interrupts string `json:"interrupts,omitempty"`
	// Destroys says what is lost; empty for nothing.
	Destroys string `json:"destroys,omitempty"`
	// After names steps that come first.
	After []string `json:"after,omitempty"`
	// Waits says what the step is waiting for besides other steps.
	Waits string `json:"waits,omitempty"`

	effect *Effect
}

// Effect is what the leader makes true so that a step begins, or is recorded as
// done. A nil effect means that nothing is left for the leader to do: an agent
// or an operator is at work.
func (s Step) Effect() *Effect { return s.effect }

// Blocked is something that cannot be done, with its reason and the next action.
type Blocked struct {
	Node   string `json:"node,omitempty"`
	Reason string `json:"reason"`
	// Refused is set when the spec asks for what ram cannot do at all: such a
	// spec is not accepted.
	Refused bool `json:"refused,omitempty"`
}

// Summary counts a plan.
type Summary struct {
	Create   int      `json:"create"`
	Update   int      `json:"update"`
	Destroy  int      `json:"destroy"`
	Steps    int      `json:"steps"`
	Clones   int      `json:"clones"`
	Bytes    pg.Bytes `json:"bytes"`
	Restarts int      `json:"restarts"`
	// WritesInterrupted is set when clients that write will notice.
	WritesInterrupted bool `json:"writes_interrupted"`
	// Destructive is set when --allow-destroy is needed.
	Destructive bool `json:"destructive"`
}
