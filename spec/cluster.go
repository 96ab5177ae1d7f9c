package spec

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/ramhq/ram/pg"
)

// Cluster is one complete spec, defaults filled in. Its JSON form is what the
// record keeps, and is stable: the same spec encodes to the same bytes.
type Cluster struct {
	Name         string       `json:"name"`
	Postgres     Postgres     `json:"postgres"`
	Nodes        []Node       `json:"nodes"`
	Replication  Replication  `json:"replication"`
	Failover     Failover     `json:"failover"`
	Repositories []Repository `json:"repositories,omitempty"`
	Archive      *Archive     `json:"archive,omitempty"`
	Backups      []Backup     `json:"backups,omitempty"`
	Bootstrap    *Bootstrap   `json:"bootstrap,omitempty"`
	// Protect names what a plan may not destroy without --allow-destroy:
	// "data", "backups". The default protects both.
	Protect []string `json:"protect"`
}

// Postgres is the server software and the settings that all nodes share.
type Postgres struct {
	// Version is the major version, 13 to 18.
	Version int `json:"version"`
	// BinDir holds postgres, initdb and their kin. Empty means: look where
	// distributions put them, then along PATH.
	BinDir string `json:"bin_dir,omitempty"`
	// User is the system user that PostgreSQL runs as when ramd runs as root.
	User string `json:"user"`
	// Parameters are settings of postgresql.conf in PostgreSQL's own notation:
	// numbers in decimal, booleans as on and off, no quotes.
	Parameters map[string]string `json:"parameters,omitempty"`
	// HBA are lines of pg_hba.conf, in order, after the ones that ramd needs.
	HBA []string `json:"hba,omitempty"`
}

// Node is one host of the cluster.
type Node struct {
	Name string `json:"name"`
	// ID is a number, unique in the cluster and positive, for clients that
	// address nodes by number.
	ID int `json:"id"`
	// Host is the address that the other nodes and the clients reach.
	Host string `json:"host"`
	Zone string `json:"zone,omitempty"`
	// Priority decides between equally advanced candidates: higher is promoted
	// first, 0 is never promoted.
	Priority int `json:"priority"`
	// DataDir is PostgreSQL's data directory. Empty means "postgres" inside
	// ramd's own --data-dir.
	DataDir string `json:"data_dir,omitempty"`
	// Witness nodes vote and hold no data.
	Witness    bool              `json:"witness,omitempty"`
	Ports      Ports             `json:"ports"`
	Parameters map[string]string `json:"parameters,omitempty"`
	// Tags are free-form labels that come back in status.
	Tags map[string]string `json:"tags,omitempty"`
}

// Ports are the TCP ports that a node listens on.
type Ports struct {
	Postgres int `json:"postgres"`
	API      int `json:"api"`
	Raft     int `json:"raft"`
	Metrics  int `json:"metrics"`
}

// Mode is the promise that replication makes about acknowledged writes.
type Mode string

const (
	// ModeQuorum acknowledges a commit when SyncStandbys standbys have it, so
	// that no automatic action loses it.
	ModeQuorum Mode = "quorum"
	// ModeAsync acknowledges a commit when the primary has it.
	ModeAsync Mode = "async"
)

// WhenShort is what happens in quorum mode while fewer than SyncStandbys
// standbys are alive.
type WhenShort string

const (
	WhenShortWait    WhenShort = "wait"
	WhenShortDegrade WhenShort = "degrade"
)

// Replication is how the standbys follow.
type Replication struct {
	Mode         Mode      `json:"mode"`
	SyncStandbys int       `json:"sync_standbys"`
	WhenShort    WhenShort `json:"when_short"`
	// MaxLag is how far, in bytes of WAL, a standby may trail the primary and
	// still be promoted automatically in async mode. Zero permits no loss.
	MaxLag pg.Bytes `json:"max_lag"`
}

// Failover is how the loss of a primary is found and answered.
type Failover struct {
	Automatic bool `json:"automatic"`
	// Detect is the silence after which a primary is suspected.
	Detect Duration `json:"detect"`
	// Lease is the longest time that a cut-off primary goes on. It is longer
	// than Detect.
	Lease Duration `json:"lease"`
}

// Repository is where base backups and WAL are kept.
type Repository struct {
	Name        string      `json:"name"`
	URL         string      `json:"url"`
	Compression string      `json:"compression"`
	Encryption  *Encryption `json:"encryption,omitempty"`
}

// Encryption names the file that holds a repository's key.
type Encryption struct {
	KeyFile string `json:"key_file"`
}

// Archive is continuous WAL archiving into a repository.
type Archive struct {
	Repository string `json:"repository"`
}

// Backup is a base backup that is taken on a schedule.
type Backup struct {
	Name       string `json:"name"`
	Repository string `json:"repository"`
	// Schedule is a cron line of five fields, read in Timezone.
	Schedule string `json:"schedule"`
	Timezone string `json:"timezone"`
	// From is "standby", "primary" or a node's name.
	From   string  `json:"from"`
	Keep   Keep    `json:"keep"`
	Verify *Verify `json:"verify,omitempty"`
}

// Keep is a retention rule: at least Last backups, and all younger than Days days.
type Keep struct {
	Last int `json:"last"`
	Days int `json:"days"`
}

// Verify is when a backup is proven by restoring it.
type Verify struct {
	Schedule string `json:"schedule"`
}

// Bootstrap is how the first data directory comes to be; nil means initdb.
type Bootstrap struct {
	Restore *Restore `json:"restore,omitempty"`
}

// Restore is a base backup and the point to recover to.
type Restore struct {
	Repository string `json:"repository"`
	Backup     string `json:"backup"`
	TargetTime string `json:"target_time,omitempty"`
}

// Node finds a node by name.
func (c *Cluster) Node(name string) (Node, bool) {
	i := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return c.Nodes[i], true
}

// Electable reports whether the node may ever be primary.
func (n Node) Electable() bool { return !n.Witness && n.Priority > 0 }

// MaxVoters is how many nodes vote in Raft; further nodes follow without a vote.
const MaxVoters = 5

// Voters names the nodes that vote: the first MaxVoters by ID, witnesses included.
func (c *Cluster) Voters() []string {
	var names []string
	for _, n := range c.byID()[:min(len(c.Nodes), MaxVoters)] {
		names = append(names, n.Name)
	}
	return names
}

// byID is the nodes in the order of their IDs, which is that of the file unless it
// says otherwise.
func (c *Cluster) byID() []Node {
	return slices.SortedStableFunc(slices.Values(c.Nodes), func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
}

// Digest identifies the content of the spec: equal specs have equal digests,
// whatever their comments, formatting, number of files or order of nodes.
func (c *Cluster) Digest() string {
	canonical := *c
	canonical.Nodes = c.byID()
	b, err := json.Marshal(canonical)
	if err != nil {
		panic("spec: a cluster always encodes: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
