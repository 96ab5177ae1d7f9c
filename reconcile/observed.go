package reconcile

import (
	"time"

	"github.com/ramhq/ram/pg"
)

// Report is what one agent saw on its host.
type Report struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
	// Ramd is the version of the reporting daemon.
	Ramd string `json:"ramd,omitempty"`
	// Serial is the assignment that the agent holds; Settled the one up to
	// which it has also seen to roles and slots.
	Serial  uint64 `json:"serial"`
	Settled uint64 `json:"settled"`

	Data   pg.DataDirectory `json:"data"`
	Server pg.Server        `json:"server"`
	// Launched is the assignment for which the server was last started, or
	// promoted, as a primary.
	Launched uint64 `json:"launched,omitempty"`
	// SyncSince is the end of WAL when a fresh session first showed the
	// synchronous_standby_names that the server runs; zero until then.
	SyncSince pg.LSN `json:"sync_since,omitempty"`
	// Apart is how long a standby's server has run without receiving WAL; zero when it does.
	Apart time.Duration `json:"apart_ns,omitempty"`
	// Fetched is how long ago WAL last came from the repository; zero when it never has.
	Fetched time.Duration `json:"fetched_ns,omitempty"`
	// Hung is how long no fresh session has had an answer; zero when it has.
	Hung time.Duration `json:"hung_ns,omitempty"`
	// Written is the serial in the configuration on disk, Loaded the one that
	// the running server shows, Started the one that it was started for.
	Written uint64 `json:"written"`
	Loaded  uint64 `json:"loaded"`
	Started uint64 `json:"started"`
	// Drift is where the configuration on disk is not what was assigned.
	Drift []Drift `json:"drift,omitempty"`
	// Retired is set when a retired node has nothing left to do.
	Retired bool `json:"retired,omitempty"`

	// Watch is what keeps the watched spec file from being applied; empty when
	// nothing does, or none is watched.
	Watch string `json:"watch,omitempty"`

	Activity *Activity `json:"activity,omitempty"`
	Problem  *Problem  `json:"problem,omitempty"`

	// Job is the latest job that this process was given.
	Job *JobReport `json:"job,omitempty"`
	// Archive is how the archiving of WAL goes; nil where none is wanted.
	Archive *ArchiveReport `json:"archive,omitempty"`
	// Room is how much the file system of the data directory can still take.
	Room pg.Bytes `json:"room,omitempty"`
}

// ArchiveReport is how far a server's WAL has come into the repository.
type ArchiveReport struct {
	// Backlog is how many files wait, Bytes how much that is, Oldest for how long the
	// first of them has waited.
	Backlog int           `json:"backlog"`
	Bytes   pg.Bytes      `json:"bytes"`
	Oldest  time.Duration `json:"oldest_ns"`
	// Last is the latest file that is safe in the repository, LastAt when it came there.
	Last   string    `json:"last,omitempty"`
	LastAt time.Time `json:"last_at,omitzero"`
	// Failure is why the latest attempt failed, Failing for how long none succeeded;
	// empty and zero when the latest succeeded.
	Failure string        `json:"failure,omitempty"`
	Failing time.Duration `json:"failing_ns,omitempty"`
}

// Drift is one difference that somebody made by hand.
type Drift struct {
	// Where is "ALTER SYSTEM", a file's name or "slot".
	Where string `json:"where"`
	Name  string `json:"name"`
	Have  string `json:"have"`
	Want  string `json:"want"`
}

// Activity is something long that an agent is doing.
type Activity struct {
	// Step is the kind of step it belongs to.
	Step StepKind `json:"step"`
	// Done and Total are bytes; both zero when there is nothing to count.
	Done  pg.Bytes `json:"done,omitempty"`
	Total pg.Bytes `json:"total,omitempty"`
	// For is how long it has been going on.
	For time.Duration `json:"for_ns"`
}

// Problem is why an agent cannot get on.
type Problem struct {
	// Step is the kind of step that fails; empty when it is the state itself.
	Step StepKind `json:"step,omitempty"`
	Text string   `json:"text"`
	// Attempts counts consecutive failures of the same action.
	Attempts int `json:"attempts"`
	// Impossible is set when trying again cannot help.
	Impossible bool `json:"impossible,omitempty"`
	// RetryIn is how long the agent waits before it tries again.
	RetryIn time.Duration `json:"retry_in_ns,omitempty"`
}

// NodeView is what the leader knows of one node.
type NodeView struct {
	Report Report `json:"report"`
	// Reported is false until this leader has heard the node's agent.
	Reported bool `json:"reported"`
	// Reachable is false when the agent has been silent for too long.
	Reachable bool `json:"reachable"`
	// Silent is the time since the last report, or, while there was none, since
	// the leader began.
	Silent time.Duration `json:"silent_ns"`
}

// RaftMember is one server in Raft's configuration.
type RaftMember struct {
	Name        string `json:"name"`
	Incarnation string `json:"incarnation"`
	Voter       bool   `json:"voter"`
}

// Observed is what the agents saw last. It lives in the leader's memory and
// never in the log. The zero Observed knows nothing.
type Observed struct {
	Nodes map[string]NodeView `json:"nodes"`
	// Raft is the configuration of the Raft group, sorted by name.
	Raft []RaftMember `json:"raft,omitempty"`
	// Now is when it was looked, by the leader's wall clock, for schedules and
	// retention; zero when that is not known.
	Now time.Time `json:"now,omitzero"`
	// Pulse is what is known of the primary beside its reports.
	Pulse Pulse `json:"pulse,omitzero"`
}

// Pulse is how this leader last heard of the primary, by its own monotonic clock
// (S5). The zero Pulse knows nothing.
type Pulse struct {
	// Silent is the time since the agent of the primary was heard last. A new leader
	// knows of earlier times as the voter that it was.
	Silent time.Duration `json:"silent_ns,omitempty"`
	// Unreached is set when the others, when they were last asked, have had their time
	// and none of them got an answer from the primary's PostgreSQL. As long as nobody was
	// asked, or the answers are out, it is not: a leader that could not look for a while
	// asks before it judges.
	Unreached bool `json:"unreached,omitempty"`
	// LSN is the end of WAL that the primary has told of.
	LSN pg.LSN `json:"lsn,omitempty"`
	// Open is how long this leader has known that the record's term is open.
	Open time.Duration `json:"open_ns,omitempty"`
	// Asked is how long this leader has known that the members are asked for promises:
	// as Open, but for the time in which an old primary shut down in order.
	Asked time.Duration `json:"asked_ns,omitempty"`
	// Barred is how long a majority of the voters is known to confirm no lease of an
	// earlier term; zero while there is none.
	Barred time.Duration `json:"barred_ns,omitempty"`
}

// Running reports whether the node's server was seen to answer.
func (v NodeView) Running() bool {
	return v.Reachable && v.Report.Server.State == pg.ServerRunning
}

// StreamingFrom reports whether the node is a standby that receives WAL from upstream.
func (v NodeView) StreamingFrom(upstream *Upstream) bool {
	s := v.Report.Server
	return v.Running() && s.Recovery && s.Receiver.Streaming() &&
		upstream != nil && s.Receiver.Host == upstream.Host && s.Receiver.Port == upstream.Port
}
