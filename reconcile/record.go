package reconcile

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// RecordFormat is the version of the Record's encoding that this code writes.
const RecordFormat = 1

// Record is all that Raft replicates. It is immutable: Transition returns a new
// one and shares what did not change, so that a *Record can be read without
// locks by any number of goroutines. The zero Record is a cluster that has not
// been formed.
type Record struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
	// ClusterID tells clusters of the same name apart. It is made at bootstrap.
	ClusterID string  `json:"cluster_id"`
	Secrets   Secrets `json:"secrets"`

	// Spec is what the operator wants; nil while Revision is zero.
	Spec     *spec.Cluster `json:"spec,omitempty"`
	Revision uint64        `json:"revision"`
	// History holds the latest accepted revisions, oldest first, the one in
	// force last.
	History []Revision `json:"history,omitempty"`
	// Waiting is a watched spec that would destroy something and so waits for
	// an operator's apply --allow-destroy.
	Waiting *Proposal `json:"waiting,omitempty"`
	Pause   *Pause    `json:"pause,omitempty"`

	// SystemID is the PostgreSQL cluster's own identity; zero until the first
	// node has been initialised.
	SystemID pg.SystemID `json:"system_id,omitempty"`
	// Primary holds primaryship of Term. Empty until the first grant, and while a
	// term is open.
	Primary string `json:"primary,omitempty"`
	Term    uint64 `json:"term"`
	// Timeline is the highest that any server of the cluster was to begin or was seen on.
	Timeline pg.Timeline `json:"timeline,omitempty"`
	// Opening is the term that was opened and has no primary yet; nil when none is.
	Opening *Opening  `json:"opening,omitempty"`
	Sync    SyncState `json:"sync"`
	// Planned is the switchover that is to begin at a time; nil when none is.
	Planned *PlannedSwitchover `json:"planned_switchover,omitempty"`
	// Verdicts are the latest choices of a primary, oldest first.
	Verdicts []Choice `json:"verdicts,omitempty"`

	Members     map[string]Member     `json:"members"`
	Assignments map[string]Assignment `json:"assignments"`
	// Wishes are what operators asked for and no step has begun yet, by node.
	Wishes map[string]Wish `json:"wishes,omitempty"`

	// Restoring is a restore of the whole cluster; nil when none is under way. Data
	// directories of a generation below Floor are of before the last one.
	Restoring *Restoration `json:"restoring,omitempty"`
	Floor     uint64       `json:"floor,omitempty"`

	// Job is the work on backups that is under way, nil when none is; Jobs are
	// finished ones, oldest first.
	Job     *Job   `json:"job,omitempty"`
	Jobs    []Job  `json:"jobs,omitempty"`
	LastJob uint64 `json:"last_job,omitempty"`
	// Branches are restores of the cluster that left a part of its history behind,
	// oldest first.
	Branches []Branch `json:"branches,omitempty"`
	// Points are the named restore points that were written, oldest first.
	Points []RestorePoint `json:"points,omitempty"`
	// Marks are up to when each schedule has been taken care of.
	Marks map[string]time.Time `json:"marks,omitempty"`
	// Catalogs are what the repositories hold, by name.
	Catalogs map[string]Catalog `json:"catalogs,omitempty"`

	// Run is the execution that is under way, nil when none is.
	Run *Run `json:"run,omitempty"`
	// Runs are finished executions, oldest first.
	Runs    []Run  `json:"runs,omitempty"`
	LastRun uint64 `json:"last_run"`

	// Events are what happened lately, oldest first.
	Events    []Event `json:"events,omitempty"`
	LastEvent uint64  `json:"last_event"`
}

// Limits on what the record keeps of the past.
const (
	maxHistory = 100
	maxRuns    = 50
	maxEvents  = 1000
	// A choice holds all that was known of every node.
	maxVerdicts = 20
)

// UnmarshalJSON reads what the standard encoding wrote; lists that the
// assignments have in common are shared again.
func (r *Record) UnmarshalJSON(text []byte) error {
	type plain Record
	if err := json.Unmarshal(text, (*plain)(r)); err != nil {
		return err
	}
	like := r.Assignments[r.Primary].HBA
	for node, a := range r.Assignments {
		a.HBA = shared(a.HBA, like)
		r.Assignments[node] = a
	}
	return nil
}

// Formed reports whether the cluster has been bootstrapped.
func (r *Record) Formed() bool { return r.Format != 0 }

// Secrets are generated at bootstrap and never shown: String and GoString mask
// them, and no plan, event or status holds one.
type Secrets struct {
	// AdminToken is the operator's bearer token.
	AdminToken string `json:"admin_token"`
	// PeerToken authenticates calls between ramds.
	PeerToken string `json:"peer_token"`
	// Superuser and Replication are passwords of PostgreSQL roles.
	Superuser   string `json:"superuser"`
	Replication string `json:"replication"`
}

// String masks the secrets.
func (Secrets) String() string { return "(secrets)" }

// GoString masks the secrets.
func (Secrets) GoString() string { return "(secrets)" }

// Names of the roles that ramd uses inside PostgreSQL.
const (
	SuperuserRole   = "postgres"
	ReplicationRole = "ram_replication"
)

// Revision is one accepted spec.
type Revision struct {
	Number uint64 `json:"number"`
	// Digest is the spec's; it identifies content, not a revision: going back
	// to an older content makes a new number with the old digest.
	Digest  string        `json:"digest"`
	Spec    *spec.Cluster `json:"spec"`
	Source  string        `json:"source,omitempty"`
	By      string        `json:"by"`
	At      time.Time     `json:"at"`
	Message string        `json:"message,omitempty"`
}

// Proposal is a spec that somebody wants to be accepted.
type Proposal struct {
	Spec   *spec.Cluster `json:"spec"`
	Source string        `json:"source,omitempty"`
	By     string        `json:"by"`
	At     time.Time     `json:"at"`
	Reason string        `json:"reason,omitempty"`
}

// Pause says that the cluster decides nothing until it is resumed.
type Pause struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// Member is one ramd that belongs to the cluster.
type Member struct {
	Name string `json:"name"`
	// Incarnation is made with the ramd's data directory: a wiped disk comes
	// back as a new incarnation, never as a voter that forgot its votes.
	Incarnation string    `json:"incarnation"`
	Host        string    `json:"host"`
	APIPort     int       `json:"api_port"`
	RaftPort    int       `json:"raft_port"`
	JoinedAt    time.Time `json:"joined_at"`
}

// Wish is what an operator asked of one node beyond the spec. The zero Wish is none.
type Wish struct {
	Restart bool `json:"restart,omitempty"`
	Reload  bool `json:"reload,omitempty"`
	Reinit  bool `json:"reinit,omitempty"`
	// Restore has the new copy of a Reinit come from a backup; nil from the primary.
	Restore *RestoreOrder `json:"restore,omitempty"`
}

// SyncSet is a requirement on commits: K of Members must have each. The zero
// SyncSet requires nothing.
type SyncSet struct {
	K int `json:"k"`
	// Members are node names, sorted.
	Members []string `json:"members,omitempty"`
}

// SyncState is the sync set that is in force and, while it changes, the next
// one too. Both count until PostgreSQL has been seen to run the next, as in
// Raft's joint consensus.
type SyncState struct {
	Current SyncSet  `json:"current"`
	Next    *SyncSet `json:"next,omitempty"`
	// Passed are those that were to be next in this term and were replaced before they
	// were seen to be in force: the primary may have run them.
	Passed []SyncSet `json:"passed,omitempty"`
	// Former are sets of earlier terms, which count until Current, or Next, has been
	// seen to be in force under the new primary.
	Former []SyncSet `json:"former,omitempty"`
}

// Sets are all the sets that count.
func (s SyncState) Sets() []SyncSet {
	return slices.Concat(s.Former, s.present())
}

// present are the sets that count for what the primary of the present term acknowledges.
func (s SyncState) present() []SyncSet {
	sets := append([]SyncSet{s.Current}, s.Passed...)
	if s.Next != nil {
		sets = append(sets, *s.Next)
	}
	return sets
}

// settled reports whether one set counts alone.
func (s SyncState) settled() bool { return s.Next == nil && len(s.Former) == 0 }

// Target is the set that PostgreSQL should be running.
func (s SyncState) Target() SyncSet {
	if s.Next != nil {
		return *s.Next
	}
	return s.Current
}
