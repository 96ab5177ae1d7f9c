package pg

import "time"

// DirState is what a path that should hold a data directory holds.
type DirState string

const (
	DirAbsent  DirState = "absent"  // nothing there, or an empty directory
	DirForeign DirState = "foreign" // something that is not a data directory
	DirCluster DirState = "cluster" // a complete data directory
)

// DataDirectory is what is on disk, whether or not a server runs on it.
type DataDirectory struct {
	State DirState `json:"state"`
	// Version is the major version in PG_VERSION; zero unless State is DirCluster.
	Version  int      `json:"version,omitempty"`
	SystemID SystemID `json:"system_id,omitempty"`
	// Timeline and Checkpoint are those of the latest checkpoint.
	Timeline   Timeline `json:"timeline,omitempty"`
	Checkpoint LSN      `json:"checkpoint,omitempty"`
	// ControlState is pg_controldata's cluster state, such as "shut down",
	// "in production" or "in archive recovery".
	ControlState string `json:"control_state,omitempty"`
	// Standby is set when standby.signal is there.
	Standby bool `json:"standby,omitempty"`
	// BackupLabel is set while backup_label is there: no server has come far on this
	// copy yet.
	BackupLabel bool `json:"backup_label,omitempty"`
	// Least are the settings that a standby on this directory must have at least.
	Least StandbyLeast `json:"least,omitzero"`
	// Generation is the number that the leader gave to this copy when it was
	// made; zero when the directory carries none.
	Generation uint64 `json:"generation,omitempty"`
	// Rewinding is set when a rewind of the directory was begun and not finished:
	// only a new copy helps.
	Rewinding bool `json:"rewinding,omitempty"`
	// Follows is the term whose primary the directory was last rewound for; zero
	// when it never was.
	Follows uint64 `json:"follows,omitempty"`
}

// WasPrimary reports whether the last server that came far on a data directory took
// writes of its own: a standby leaves other words in the control file, also when
// it is killed. It is false when that is not known.
func (d DataDirectory) WasPrimary() bool {
	switch d.ControlState {
	case "in production", "shutting down", "shut down":
		return d.State == DirCluster && !d.BackupLabel
	}
	return false
}

// StandbyLeast are the values of the primary's settings, as the WAL that was
// replayed last has them, below which a standby refuses to start ("Hot Standby" in
// PostgreSQL's manual). A primary that was restarted with less says so in its WAL,
// and only a standby that has replayed that may have less too. Zero is unknown.
type StandbyLeast struct {
	MaxConnections          int64 `json:"max_connections"`
	MaxLocksPerTransaction  int64 `json:"max_locks_per_transaction"`
	MaxPreparedTransactions int64 `json:"max_prepared_transactions"`
	MaxWALSenders           int64 `json:"max_wal_senders"`
	MaxWorkerProcesses      int64 `json:"max_worker_processes"`
}

// Of is the least value of a setting by name; zero for settings that have none.
func (l StandbyLeast) Of(setting string) int64 {
	switch setting {
	case "max_connections":
		return l.MaxConnections
	case "max_locks_per_transaction":
		return l.MaxLocksPerTransaction
	case "max_prepared_transactions":
		return l.MaxPreparedTransactions
	case "max_wal_senders":
		return l.MaxWALSenders
	case "max_worker_processes":
		return l.MaxWorkerProcesses
	}
	return 0
}

// ServerState is how far a local server has come.
type ServerState string

const (
	ServerStopped  ServerState = "stopped"  // no process
	ServerStarting ServerState = "starting" // a postmaster that takes no connections yet
	ServerRunning  ServerState = "running"  // a fresh or kept session answered
	ServerStopping ServerState = "stopping" // told to stop, still there
	ServerHung     ServerState = "hung"     // a postmaster that should answer and does not
)

// Server is one look at a local server. Everything below PID is known only
// while State is ServerRunning.
type Server struct {
	State ServerState `json:"state"`
	PID   int         `json:"pid,omitempty"`
	// Guarded is set when the postmaster is the child of a guard.
	Guarded  bool     `json:"guarded,omitempty"`
	Recovery bool     `json:"recovery,omitempty"`
	Timeline Timeline `json:"timeline,omitempty"`
	// LSN is the end of WAL: flushed on a primary; on a standby the larger of
	// received and replayed.
	LSN LSN `json:"lsn,omitempty"`
	// WALComplete is set when LSN is known to be the end of all WAL that a standby
	// has. After a start it first has to have read what is on disk.
	WALComplete bool `json:"wal_complete,omitempty"`
	// TimelineBegan is where the timeline of a primary left the one before; zero on
	// the first one.
	TimelineBegan LSN          `json:"timeline_began,omitempty"`
	ReplayLSN     LSN          `json:"replay_lsn,omitempty"`
	ReplayPaused  bool         `json:"replay_paused,omitempty"`
	Receiver      *WALReceiver `json:"receiver,omitempty"`
	Senders       []WALSender  `json:"senders,omitempty"`
	Slots         []Slot       `json:"slots,omitempty"`
	// OldestWAL is the first position that the server still has WAL for; zero
	// when it was not looked up.
	OldestWAL LSN `json:"oldest_wal,omitempty"`
	// Settings are current values, as SHOW prints them, of the settings that
	// the prober was asked for.
	Settings map[string]string `json:"settings,omitempty"`
	// PendingRestart names the settings whose file value waits for a restart, sorted.
	PendingRestart []string `json:"pending_restart,omitempty"`
	// Size is the sum of all databases' sizes, refreshed now and then.
	Size      Bytes     `json:"size,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	// Transactions are those that have been open for longest, refreshed now and then.
	Transactions Transactions `json:"transactions,omitzero"`
}

// Transactions are what a server that is stopped would end, and what it would not:
// prepared transactions go on under another primary. Ages are of when they were
// looked at. The zero Transactions is that none is open.
type Transactions struct {
	// PID and User are of the session whose transaction is the oldest.
	PID  int           `json:"pid,omitempty"`
	User string        `json:"user,omitempty"`
	Age  time.Duration `json:"age_ns,omitempty"`
	// Prepared counts the prepared ones; PreparedAge and PreparedBy, its owner, are
	// of the oldest.
	Prepared    int           `json:"prepared,omitempty"`
	PreparedAge time.Duration `json:"prepared_age_ns,omitempty"`
	PreparedBy  string        `json:"prepared_by,omitempty"`
}

// WALReceiver is a standby's connection to its upstream (pg_stat_wal_receiver).
type WALReceiver struct {
	Status   string   `json:"status"`
	Host     string   `json:"host,omitempty"`
	Port     int      `json:"port,omitempty"`
	Slot     string   `json:"slot,omitempty"`
	Timeline Timeline `json:"timeline,omitempty"`
}

// Streaming reports whether WAL is flowing. A nil receiver is not streaming.
func (r *WALReceiver) Streaming() bool { return r != nil && r.Status == "streaming" }

// WALSender is one follower as its upstream sees it (pg_stat_replication).
type WALSender struct {
	Application string `json:"application"`
	State       string `json:"state"`
	SyncState   string `json:"sync_state"`
	SentLSN     LSN    `json:"sent_lsn,omitempty"`
	FlushLSN    LSN    `json:"flush_lsn,omitempty"`
	ReplayLSN   LSN    `json:"replay_lsn,omitempty"`
}

// Slot is one physical replication slot (pg_replication_slots).
type Slot struct {
	Name       string `json:"name"`
	Active     bool   `json:"active,omitempty"`
	RestartLSN LSN    `json:"restart_lsn,omitempty"`
	// WALStatus is "reserved", "extended", "unreserved" or "lost"; empty while
	// the slot has never reserved WAL.
	WALStatus string `json:"wal_status,omitempty"`
}

// ConfigFiles is the text of a server's configuration as it is on disk. ramd
// owns all of it.
type ConfigFiles struct {
	Main    string `json:"main"`    // postgresql.conf: ramd's fixed text that includes Managed
	Managed string `json:"managed"` // ram.conf: every setting
	Auto    string `json:"auto"`    // postgresql.auto.conf, what ALTER SYSTEM wrote
	HBA     string `json:"hba"`     // pg_hba.conf
	Standby bool   `json:"standby"` // standby.signal
}
