package backup

import (
	"time"

	"github.com/ramhq/ram/pg"
)

// Entry is one backup in the catalog.
type Entry struct {
	Format int    `json:"format"` // set by Publish
	ID     string `json:"id"`
	Name   string `json:"name"` // the schedule's, or the operator's

	Cluster       string      `json:"cluster"`
	Node          string      `json:"node"` // that it was taken from
	Role          string      `json:"role"` // of that node: primary or standby
	SystemID      pg.SystemID `json:"system_id"`
	Version       int         `json:"version"` // PostgreSQL's major
	ServerVersion string      `json:"server_version"`
	By            string      `json:"by"` // who asked for it

	Started     time.Time   `json:"started"`
	Finished    time.Time   `json:"finished"`
	Timeline    pg.Timeline `json:"timeline"`
	StartLSN    pg.LSN      `json:"start_lsn"`
	StopLSN     pg.LSN      `json:"stop_lsn"` // consistent from here on
	SegmentSize int64       `json:"segment_size"`

	Size        int64        `json:"size"`   // bytes before compression
	Stored      int64        `json:"stored"` // bytes in the repository
	Compression string       `json:"compression"`
	Encrypted   bool         `json:"encrypted"`
	Parts       []Part       `json:"parts"`
	Manifest    Stored       `json:"manifest"`
	Tablespaces []Tablespace `json:"tablespaces,omitempty"`

	// Proof is the result of the last verification; nil when there was none. It is
	// an object of its own.
	Proof *Proof `json:"proof,omitempty"`
	// Damaged says what is wrong with the entry's object when it cannot be read; all
	// but ID is then unknown.
	Damaged string `json:"damaged,omitempty"`
}

// Part is a tar archive with some of a backup's files.
type Part struct {
	Stored
	Tablespace uint32 `json:"tablespace"` // its OID; zero for the data directory itself
	Files      int    `json:"files"`
}

// Tablespace is a tablespace outside of the data directory.
type Tablespace struct {
	OID      uint32 `json:"oid"`
	Location string `json:"location"` // its path on the node
}

// Proof is what a verification by restoring found.
type Proof struct {
	Format   int           `json:"format"` // set by Prove
	At       time.Time     `json:"at"`     // when it ended
	Node     string        `json:"node"`   // where it ran
	OK       bool          `json:"ok"`
	Error    string        `json:"error,omitempty"` // why it is not OK
	Took     time.Duration `json:"took"`            // nanoseconds
	Timeline pg.Timeline   `json:"timeline"`
	// RestoredLSN is how far the restored server replayed.
	RestoredLSN      pg.LSN `json:"restored_lsn"`
	Pages            int64  `json:"pages"`             // whose checksum held
	Indexes          int64  `json:"indexes"`           // that amcheck found in order
	AmcheckDatabases int    `json:"amcheck_databases"` // that have the extension
}
