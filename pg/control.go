package pg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ControlData is what pg_controldata tells of a data directory: what the server
// wrote last about itself.
type ControlData struct {
	ControlVersion int // format of the control file, such as 1300
	CatalogVersion int
	SystemID       SystemID
	// State is how the server was left, in pg_controldata's words: "shut down",
	// "shut down in recovery", "in production", "in archive recovery", ...
	State string
	// Checkpoint and CheckpointRedo are where the latest checkpoint's record is,
	// and where recovery from it begins; Timeline and PrevTimeline are its.
	Checkpoint     LSN
	CheckpointRedo LSN
	Timeline       Timeline
	PrevTimeline   Timeline
	// MinRecoveryEnd is how far a standby's recovery must come before its data
	// is consistent; zero on a primary.
	MinRecoveryEnd         LSN
	MinRecoveryEndTimeline Timeline
	// BackupStart is set while a restored base backup is not yet consistent.
	BackupStart LSN
	// ChecksumVersion is zero when data pages carry no checksums.
	ChecksumVersion int
	SegmentSize     Bytes // of WAL
	// Settings are those of the primary that wrote the WAL, by parameter name: a
	// standby refuses to start when its own max_connections and the like are lower.
	Settings map[string]string
}

// controlSetting leads from pg_controldata's labels to parameter names.
func controlSetting(label string) (name string, ok bool) {
	name, ok = strings.CutSuffix(label, " setting")
	switch name {
	case "max_prepared_xacts":
		name = "max_prepared_transactions"
	case "max_locks_per_xact":
		name = "max_locks_per_transaction"
	}
	return name, ok
}

// StandbyLeast is Settings as far as they bind a standby. What is not there, or is
// no number, is zero.
func (c ControlData) StandbyLeast() StandbyLeast {
	value := func(name string) int64 {
		n, err := strconv.ParseInt(c.Settings[name], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return StandbyLeast{
		MaxConnections:          value("max_connections"),
		MaxLocksPerTransaction:  value("max_locks_per_transaction"),
		MaxPreparedTransactions: value("max_prepared_transactions"),
		MaxWALSenders:           value("max_wal_senders"),
		MaxWorkerProcesses:      value("max_worker_processes"),
	}
}

// CleanlyStopped reports whether the server that wrote the file stopped by
// itself, so that its WAL ends with a shutdown checkpoint.
func (c ControlData) CleanlyStopped() bool {
	return c.State == "shut down" || c.State == "shut down in recovery"
}

// ParseControlData reads the output of pg_controldata, which must have run with
// LC_ALL=C. Output that warns of a damaged control file, or lacks what every
// supported version prints, is an error.
func ParseControlData(text string) (ControlData, error) {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "WARNING:") {
			return ControlData{}, fmt.Errorf("pg_controldata: %s", strings.TrimSpace(strings.TrimPrefix(line, "WARNING:")))
		}
		if label, value, found := strings.Cut(line, ":"); found {
			fields[label] = strings.TrimSpace(value)
		}
	}
	reader := controlReader{fields: fields}
	c := ControlData{
		ControlVersion:         int(reader.number("pg_control version number")),
		CatalogVersion:         int(reader.number("Catalog version number")),
		SystemID:               SystemID(reader.unsigned("Database system identifier", 64)),
		State:                  reader.text("Database cluster state"),
		Checkpoint:             reader.lsn("Latest checkpoint location"),
		CheckpointRedo:         reader.lsn("Latest checkpoint's REDO location"),
		Timeline:               Timeline(reader.unsigned("Latest checkpoint's TimeLineID", 32)),
		PrevTimeline:           Timeline(reader.unsigned("Latest checkpoint's PrevTimeLineID", 32)),
		MinRecoveryEnd:         reader.lsn("Minimum recovery ending location"),
		MinRecoveryEndTimeline: Timeline(reader.unsigned("Min recovery ending loc's timeline", 32)),
		BackupStart:            reader.lsn("Backup start location"),
		ChecksumVersion:        int(reader.number("Data page checksum version")),
		SegmentSize:            Bytes(reader.number("Bytes per WAL segment")),
		Settings:               map[string]string{},
	}
	for label, value := range fields {
		if name, ok := controlSetting(label); ok {
			c.Settings[name] = value
		}
	}
	if err := errors.Join(reader.problems...); err != nil {
		return ControlData{}, err
	}
	return c, nil
}

// controlReader collects what is wrong with the fields that are asked for.
type controlReader struct {
	fields   map[string]string
	problems []error
}

func (r *controlReader) text(label string) string {
	value := r.fields[label]
	if value == "" {
		r.problems = append(r.problems, fmt.Errorf("pg_controldata prints no %q; run it with LC_ALL=C", label))
	}
	return value
}

func (r *controlReader) check(label string, err error) {
	if err != nil && r.fields[label] != "" {
		r.problems = append(r.problems, fmt.Errorf("pg_controldata: %s: %w", label, err))
	}
}

func (r *controlReader) number(label string) int64 {
	v, err := strconv.ParseInt(r.text(label), 10, 32)
	r.check(label, err)
	return v
}

func (r *controlReader) unsigned(label string, bits int) uint64 {
	v, err := strconv.ParseUint(r.text(label), 10, bits)
	r.check(label, err)
	return v
}

func (r *controlReader) lsn(label string) LSN {
	v, err := ParseLSN(r.text(label))
	r.check(label, err)
	return v
}
