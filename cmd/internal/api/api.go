// Package api is the HTTP interface of ramd: the types that travel, the client
// that ramctrl and other ramds use, and the server. Every answer is an Envelope.
package api

import (
	"encoding/json"
	"time"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// Prefix is the path that all requests of this version begin with.
const Prefix = "/api/v1"

// Envelope wraps every answer, of success and of error.
type Envelope struct {
	Success bool            `json:"success"`
	Data    json.RawMessage `json:"data,omitempty"`
	// Message says what went wrong and what to do; empty on success.
	Message   string    `json:"message,omitempty"`
	Timestamp time.Time `json:"timestamp"`
}

// PlanRequest asks for the plan to Spec; nil plans the spec in force, or, before
// the first one, the file that the leader was started with.
type PlanRequest struct {
	Spec *spec.Cluster `json:"spec,omitempty"`
}

// PlanAnswer is a plan and the spec that it leads to.
type PlanAnswer struct {
	Plan reconcile.Plan `json:"plan"`
	Spec *spec.Cluster  `json:"spec"`
}

// ApplyRequest asks for a spec to be accepted and carried out.
type ApplyRequest struct {
	// Spec nil means the spec in force, or the leader's file before the first.
	Spec *spec.Cluster `json:"spec,omitempty"`
	// Source is the text that Spec was read from, kept with the revision.
	Source  string `json:"source,omitempty"`
	Message string `json:"message,omitempty"`
	By      string `json:"by,omitempty"`
	// Base is that of the plan that was shown; the request is refused when it
	// is no longer current. Nil applies whatever the plan is now.
	Base         *reconcile.Base `json:"base,omitempty"`
	AllowDestroy bool            `json:"allow_destroy,omitempty"`
	Cause        reconcile.Cause `json:"cause,omitempty"`
}

// ApplyAnswer says what was begun. Run is zero when there was nothing to do.
type ApplyAnswer struct {
	Revision uint64         `json:"revision"`
	Run      uint64         `json:"run"`
	Plan     reconcile.Plan `json:"plan"`
}

// RunAnswer is a run with what its nodes are doing at this moment.
type RunAnswer struct {
	Run reconcile.Run `json:"run"`
	// Elapsed is how long it has been going on, or took, by the leader's clock.
	Elapsed time.Duration `json:"elapsed_ns"`
	// StepElapsed is the same for each step, in the order of Run.Steps.
	StepElapsed []time.Duration               `json:"step_elapsed_ns"`
	Activities  map[string]reconcile.Activity `json:"activities,omitempty"`
	Problems    map[string]reconcile.Problem  `json:"problems,omitempty"`
	Waits       map[string]string             `json:"waits,omitempty"` // by step ID
	Blocked     []reconcile.Blocked           `json:"blocked,omitempty"`
}

// ObservedFile is everything that Diff needs, for planning offline. It holds no
// secret.
type ObservedFile struct {
	Format   int                `json:"format"`
	Record   *reconcile.Record  `json:"record"`
	Observed reconcile.Observed `json:"observed"`
}

// ObservedFormat is the version of ObservedFile.
const ObservedFormat = 1

// SpecAnswer is the spec in force.
type SpecAnswer struct {
	Revision uint64        `json:"revision"`
	Source   string        `json:"source,omitempty"`
	Spec     *spec.Cluster `json:"spec"`
	// Waiting is a watched spec that waits for an operator; nil for none.
	Waiting *reconcile.Proposal `json:"waiting,omitempty"`
}

// EventsAnswer is a stretch of events, oldest first.
type EventsAnswer struct {
	Events []reconcile.Event `json:"events"`
	// Last is the sequence number to ask after next.
	Last uint64 `json:"last"`
}

// NodesRequest names nodes for restart, reload and reinit; empty means all
// (not for reinit).
type NodesRequest struct {
	Nodes []string `json:"nodes,omitempty"`
	// Restore has a reinit copy a backup instead of the primary.
	Restore *reconcile.RestoreOrder `json:"restore,omitempty"`
	By      string                  `json:"by,omitempty"`
}

// RunStarted names the run that a request began.
type RunStarted struct {
	Run uint64 `json:"run"`
}

// PauseRequest pauses or resumes.
type PauseRequest struct {
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
}

// NodeInfo is one member in detail.
type NodeInfo struct {
	reconcile.NodeStatus
	ID          int              `json:"id"`
	Priority    int              `json:"priority"`
	Voter       bool             `json:"voter"`
	Ramd        string           `json:"ramd,omitempty"`
	Incarnation string           `json:"incarnation,omitempty"`
	APIPort     int              `json:"api_port"`
	RaftPort    int              `json:"raft_port"`
	DataDir     string           `json:"data_dir,omitempty"`
	Report      reconcile.Report `json:"report"`
}

// Credentials are what a client needs to connect to PostgreSQL as superuser.
type Credentials struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// Info is what one ramd says of itself.
type Info struct {
	Node        string    `json:"node"`
	Cluster     string    `json:"cluster"`
	Version     string    `json:"version"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	DataDir     string    `json:"data_dir"`
	Spec        string    `json:"spec"`
	Watch       bool      `json:"watch"`
	Incarnation string    `json:"incarnation"`
	// Phase is "forming", "joining", "member" or "removed".
	Phase     string            `json:"phase"`
	Reason    string            `json:"reason,omitempty"`
	RaftState string            `json:"raft_state"`
	Leader    string            `json:"leader"`
	Report    *reconcile.Report `json:"report,omitempty"`
}

// StopRequest stops the ramd that it is sent to.
type StopRequest struct {
	// Postgres also stops PostgreSQL on that host.
	Postgres bool `json:"postgres"`
}
