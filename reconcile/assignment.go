package reconcile

import (
	"maps"
	"slices"

	"github.com/ramhq/ram/pg"
)

// Role is what a node is to be, or was seen to be.
type Role string

const (
	RoleUnknown Role = "unknown"
	RolePrimary Role = "primary"
	RoleStandby Role = "standby"
	RoleWitness Role = "witness"
	// RoleRetired nodes stop PostgreSQL and put its data directory aside.
	RoleRetired Role = "retired"
)

// Assignment is what the leader wants one node's agent to make true. Agents
// converge to it; they are never sent scripts. The zero Assignment asks for
// nothing.
type Assignment struct {
	// Serial grows by one whenever the leader issues an assignment to this
	// node, also an unchanged one to have drift put right. The agent writes it
	// into the configuration, so that a running server shows which one it has.
	Serial uint64 `json:"serial"`
	// Node is the name of the node that it is for.
	Node string `json:"node"`
	Role Role   `json:"role,omitempty"`
	// Term is the primaryship that the assignment belongs to.
	Term uint64 `json:"term"`
	// SystemID is the PostgreSQL cluster that the data directory must belong
	// to; zero only before the first node has been initialised.
	SystemID pg.SystemID `json:"system_id,omitempty"`
	// Generation is the number of the data directory that is wanted: one with
	// a lower number is replaced.
	Generation uint64 `json:"generation,omitempty"`
	// Upstream is where a standby clones from and streams from. A standby without one
	// is frozen: it has promised Term, and takes WAL from nobody.
	Upstream *Upstream `json:"upstream,omitempty"`
	// Clean is set for a former primary that is to shut down in order, so that its
	// standbys have all it wrote.
	Clean bool `json:"clean,omitempty"`
	// Rewind is set for a standby that is ahead of where its upstream's timeline began.
	Rewind bool `json:"rewind,omitempty"`
	// Reclaim is set for a former primary that an operator goes on with: the history
	// that it wrote counts, whatever was written elsewhere since. While frozen it starts as
	// a standby of nobody, at the end of its own WAL, to be promoted from there.
	Reclaim bool `json:"reclaim,omitempty"`
	// Timeline is the one that a promotion has to begin: numbers are never used twice
	// in a cluster, also when a server was promoted that nobody heard of again.
	Timeline pg.Timeline `json:"timeline,omitempty"`
	// Launch is the Serial at which the leader last let a primary's server be started,
	// or promoted: one that has ended since is not started again on what its agent
	// remembers (S4).
	Launch uint64 `json:"launch,omitempty"`
	// Revived is set when a primary whose server ended is told to start it again.
	Revived bool `json:"revived,omitempty"`
	// Restore has the data directory come from a backup: that of a primary is
	// recovered to a target, that of a standby follows its upstream from there.
	Restore *RestoreOrder `json:"restore,omitempty"`
	// Retain is set when the data directory that is replaced is to be kept for good.
	Retain bool `json:"retain,omitempty"`

	Server Server `json:"server"`
	// Settings are postgresql.conf, apart from those that only the host can
	// know (paths).
	Settings map[string]string `json:"settings,omitempty"`
	HBA      []string          `json:"hba,omitempty"`
	// Slots are the physical replication slots that the node keeps for others, sorted.
	Slots []string `json:"slots,omitempty"`
	// Restart is the Serial at which a restart was last asked for: a server
	// that was started for a lower one is restarted.
	Restart uint64 `json:"restart,omitempty"`
}

// Server is where the server software and its data are.
type Server struct {
	Version int    `json:"version"`
	BinDir  string `json:"bin_dir,omitempty"`
	User    string `json:"user,omitempty"`
	DataDir string `json:"data_dir,omitempty"`
	Host    string `json:"host"`
	Port    int    `json:"port"`
}

// Upstream is the server that a standby follows.
type Upstream struct {
	Node string `json:"node"`
	Host string `json:"host"`
	Port int    `json:"port"`
	Slot string `json:"slot"`
}

// mayLaunch reports whether a primary's server that was launched last for an
// assignment may be started.
func (a Assignment) mayLaunch(launched uint64) bool { return launched < max(a.Launch, a.Restart) }

// Frozen reports whether the assignment is a promise.
func (a Assignment) Frozen() bool { return a.Role == RoleStandby && a.Upstream == nil }

// reclaims reports whether the node goes on with a history that it wrote as a primary.
func (a Assignment) reclaims() bool { return a.Reclaim && (a.Frozen() || a.Role == RolePrimary) }

// same reports whether two assignments ask for the same thing, whatever their serials.
func (a Assignment) same(b Assignment) bool {
	upstream := (a.Upstream == nil) == (b.Upstream == nil) && (a.Upstream == nil || *a.Upstream == *b.Upstream)
	restore := (a.Restore == nil) == (b.Restore == nil) && (a.Restore == nil || *a.Restore == *b.Restore)
	return upstream && restore && a.Retain == b.Retain && a.Role == b.Role && a.Term == b.Term && a.Clean == b.Clean && a.Rewind == b.Rewind && a.Reclaim == b.Reclaim && a.SystemID == b.SystemID &&
		a.Generation == b.Generation && a.Server == b.Server && a.Restart == b.Restart &&
		maps.Equal(a.Settings, b.Settings) && equalLists(a.HBA, b.HBA) && equalLists(a.Slots, b.Slots)
}

// shared is like when both hold the same, so that what all nodes have in common
// is kept, and compared, once.
func shared(list, like []string) []string {
	if equalLists(list, like) {
		return like
	}
	return list
}

// equalLists compares lists that are often one and the same.
func equalLists(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}
