package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// Command is one change to the record. Exactly one of its pointers is set.
// Everything that depends on a clock or on chance is inside.
type Command struct {
	// Format is the version of the encoding; a higher one than this code knows
	// stops it, since skipping a command would make records differ.
	Format int       `json:"format"`
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`

	Planned *SetPlanned `json:"planned,omitempty"`

	Form     *Form     `json:"form,omitempty"`
	Accept   *Accept   `json:"accept,omitempty"`
	Hold     *Hold     `json:"hold,omitempty"`
	Admit    *Admit    `json:"admit,omitempty"`
	Advance  *Advance  `json:"advance,omitempty"`
	Progress *Progress `json:"progress,omitempty"`
	Pause    *SetPause `json:"pause,omitempty"`
	Ask      *Ask      `json:"ask,omitempty"`

	Open  *Open  `json:"open,omitempty"`
	Elect *Elect `json:"elect,omitempty"`

	Begin   *BeginJob       `json:"begin,omitempty"`
	End     *EndJob         `json:"end,omitempty"`
	Cancel  *CancelJob      `json:"cancel,omitempty"`
	Restore *RestoreCluster `json:"restore,omitempty"`
}

// CommandFormat is the version of Command that this code writes.
const CommandFormat = 1

// ErrNewerCommand says that a command was written by a newer ramd.
var ErrNewerCommand = errors.New("the command was written by a newer ramd")

// EncodeCommand is the form in which a command is replicated.
func EncodeCommand(c Command) ([]byte, error) {
	c.Format = CommandFormat
	return json.Marshal(c)
}

// DecodeCommand reads what EncodeCommand wrote. The error is ErrNewerCommand
// when this code is too old to know what the command means.
func DecodeCommand(b []byte) (Command, error) {
	var c Command
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("decode command: %w", err)
	}
	if c.Format > CommandFormat {
		return c, fmt.Errorf("%w (format %d, this one knows %d)", ErrNewerCommand, c.Format, CommandFormat)
	}
	return c, nil
}

// Form makes the record of a new cluster.
type Form struct {
	Cluster   string   `json:"cluster"`
	ClusterID string   `json:"cluster_id"`
	Secrets   Secrets  `json:"secrets"`
	Members   []Member `json:"members"`
}

// Accept makes a spec the one in force and opens a run.
type Accept struct {
	Spec    *spec.Cluster `json:"spec"`
	Source  string        `json:"source,omitempty"`
	Message string        `json:"message,omitempty"`
	// Base is the revision that the proposer saw.
	Base  uint64 `json:"base"`
	Cause Cause  `json:"cause"`
	// Steps are those of the plan that the proposer saw.
	Steps []RunStep `json:"steps,omitempty"`
}

// Hold keeps a watched spec that needs an operator's word; a nil Proposal
// forgets the one that is kept.
type Hold struct {
	Proposal *Proposal `json:"proposal,omitempty"`
}

// Admit adds a member, or replaces an earlier incarnation of it.
type Admit struct {
	Member Member `json:"member"`
}

// Advance carries a step's effect into the record.
type Advance struct {
	Step   string `json:"step"`
	Effect Effect `json:"effect"`
}

// Effect is a set of changes that one step makes.
type Effect struct {
	// Revision is the one the decision was made for.
	Revision uint64 `json:"revision"`
	// Assign gives nodes new assignments, each of the Serial after the one that it
	// replaces; the first may have any, since agents remember earlier lives.
	Assign []Assign `json:"assign,omitempty"`
	// Grant gives primaryship of the next term.
	Grant *Grant `json:"grant,omitempty"`
	// Identify records the system identifier of the new cluster.
	Identify pg.SystemID `json:"identify,omitempty"`
	// Sync is the next sync set; Settle declares that it is in force, so that
	// Sync then has to be the one that is recorded as the next.
	Sync   *SyncSet `json:"sync,omitempty"`
	Settle bool     `json:"settle,omitempty"`
	// Voter and Nonvoter change a member's vote in Raft, Leave takes a member
	// out of Raft and out of the record.
	Voter    string `json:"voter,omitempty"`
	Nonvoter string `json:"nonvoter,omitempty"`
	Leave    string `json:"leave,omitempty"`
	// Begin gives a node a job; Restored ends the restore of the cluster, and is where
	// its new timeline began.
	Begin    *BeginJob `json:"begin,omitempty"`
	Restored pg.LSN    `json:"restored,omitempty"`
}

// Assign replaces one node's assignment.
type Assign struct {
	Node       string     `json:"node"`
	Assignment Assignment `json:"assignment"`
}

// Grant makes Node the primary of Term.
type Grant struct {
	Node string `json:"node"`
	Term uint64 `json:"term"`
}

// Progress records what became of steps, and what else happened. Run zero
// means that no run is touched.
type Progress struct {
	Run uint64 `json:"run,omitempty"`
	// Open starts a run of its own when none is under way.
	Open    Cause     `json:"open,omitempty"`
	Add     []RunStep `json:"add,omitempty"`
	Started []string  `json:"started,omitempty"`
	Done    []string  `json:"done,omitempty"`
	Dropped []string  `json:"dropped,omitempty"`
	Finish  bool      `json:"finish,omitempty"`
	Events  []Event   `json:"events,omitempty"`
}

// SetPause pauses or resumes.
type SetPause struct {
	Paused bool   `json:"paused"`
	Reason string `json:"reason,omitempty"`
}

// Ask is an operator's wish for nodes: restart, reload, or reinit.
type Ask struct {
	Cause Cause `json:"cause"`
	// Nodes are in the order in which they are to be taken.
	Nodes []string `json:"nodes"`
	// Restore is the backup that a reinit copies; nil copies the primary.
	Restore *RestoreOrder `json:"restore,omitempty"`
	Steps   []RunStep     `json:"steps,omitempty"`
}
