package spec

import (
	"time"

	"github.com/ramhq/ram/pg"
)

// The defaults of the spec language. A reader starts from these values and
// overwrites what is written, so that a written zero is told from an absent one.

// DefaultUser is the system user that PostgreSQL runs as under a ramd that is root.
const DefaultUser = "postgres"

// DefaultPriority is the priority of a node that names none.
const DefaultPriority = 100

// NewCluster is a cluster with a name and every default that does not depend on
// its nodes. Settle fills in the ones that do.
func NewCluster(name string) *Cluster {
	return &Cluster{
		Name:     name,
		Postgres: Postgres{User: DefaultUser},
		Replication: Replication{
			Mode:      ModeQuorum,
			WhenShort: WhenShortWait,
			MaxLag:    16 * pg.MB,
		},
		Failover: DefaultFailover(),
		Protect:  []string{ProtectData, ProtectBackups},
	}
}

// DefaultFailover is what a spec without a failover block means.
func DefaultFailover() Failover {
	return Failover{
		Automatic: true,
		Detect:    Duration(time.Second),
		Lease:     Duration(5 * time.Second),
	}
}

// NewNode is a node with every default. Position counts from 1 in the order of
// the spec and becomes the node's ID.
func NewNode(name string, position int) Node {
	return Node{
		Name:     name,
		ID:       position,
		Priority: DefaultPriority,
		Ports:    Ports{Postgres: 5432, API: 8080, Raft: 7400, Metrics: 9090},
	}
}

// NewRepository is a repository with every default.
func NewRepository(name string) Repository {
	return Repository{Name: name, Compression: CompressionZstd}
}

// NewBackup is a backup with every default.
func NewBackup(name string) Backup {
	return Backup{
		Name:     name,
		Timezone: "UTC",
		From:     FromStandby,
		Keep:     Keep{Last: 7},
	}
}

// NewRestore is a restore with every default: the latest backup, to its newest WAL.
func NewRestore() Restore { return Restore{Backup: "latest"} }

// Settle fills in SyncStandbys, whose default depends on the rest of the spec:
// 1 in quorum mode where there is a candidate, otherwise 0. A reader calls it
// when the spec does not say how many.
func (c *Cluster) Settle() {
	c.Replication.SyncStandbys = 0
	if c.Replication.Mode == ModeQuorum {
		c.Replication.SyncStandbys = min(1, c.SyncCandidates())
	}
}

// PossibleStandbys is how many standbys there are while one node is primary.
func (c *Cluster) PossibleStandbys() int {
	data := 0
	for i := range c.Nodes {
		if !c.Nodes[i].Witness {
			data++
		}
	}
	return max(0, data-1)
}

// SyncCandidates is how many standbys a commit can be made to wait for while one
// node is primary: those that can become primary, since a commit that only another
// kind has could not be kept by promoting anybody.
func (c *Cluster) SyncCandidates() int {
	electable := 0
	for _, n := range c.Nodes {
		if n.Electable() {
			electable++
		}
	}
	return max(0, electable-1)
}

// What Cluster.Protect may name.
const (
	ProtectData    = "data"
	ProtectBackups = "backups"
)

// What Repository.Compression may be.
const (
	CompressionNone = "none"
	CompressionGzip = "gzip"
	CompressionLZ4  = "lz4"
	CompressionZstd = "zstd"
)

// What Backup.From may be besides a node's name.
const (
	FromStandby = "standby"
	FromPrimary = "primary"
)
