package instance

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
)

// TargetKind is what a recovery goes by to find its end.
type TargetKind string

// The kinds of targets. The empty kind is TargetLatest.
const (
	TargetLatest    TargetKind = "latest"    // all WAL that there is
	TargetImmediate TargetKind = "immediate" // the end of the backup itself; needs no archive
	TargetTime      TargetKind = "time"
	TargetLSN       TargetKind = "lsn"
	TargetName      TargetKind = "name" // made by pg_create_restore_point
)

// Target is where a recovery ends. The zero value is all WAL of the latest timeline.
type Target struct {
	Kind TargetKind `json:"kind"`
	// Time, LSN and Name are each of the kind of that name.
	Time time.Time `json:"time,omitzero"`
	LSN  pg.LSN    `json:"lsn,omitzero"`
	Name string    `json:"name,omitempty"`
	// Inclusive takes in the transaction or record that is exactly at Time or LSN.
	Inclusive bool `json:"inclusive,omitempty"`
	// Timeline is the one to follow. Zero is the latest, and for TargetImmediate that of
	// the backup.
	Timeline pg.Timeline `json:"timeline,omitempty"`
}

// maxPointName is how long a restore point's name may be, in bytes.
const maxPointName = 63

// Check finds what is missing or wrong in a target.
func (t Target) Check() error {
	switch t.Kind {
	case "", TargetLatest, TargetImmediate:
		return nil
	case TargetTime:
		if t.Time.IsZero() {
			return errors.New("the recovery target has no time")
		}
		return nil
	case TargetLSN:
		if t.LSN == 0 {
			return errors.New("the recovery target has no LSN")
		}
		return nil
	case TargetName:
		if t.Name == "" || len(t.Name) > maxPointName || strings.ContainsAny(t.Name, "\x00\n\r") {
			return fmt.Errorf("restore point name %q is not one: 1 to %d bytes on one line", t.Name, maxPointName)
		}
		return nil
	}
	return fmt.Errorf("recovery target %q is not latest, immediate, time, lsn or name", t.Kind)
}

// timeLayout is a time as PostgreSQL writes and reads it when its time zone is UTC.
const timeLayout = "2006-01-02 15:04:05.999999-07"

// String is the target in words, such as "LSN 0/3000060 on timeline 2".
func (t Target) String() string {
	where := "the end of all WAL"
	switch t.Kind {
	case TargetImmediate:
		where = "the end of the backup"
	case TargetTime:
		where = "time " + t.Time.UTC().Format(timeLayout)
	case TargetLSN:
		where = "LSN " + t.LSN.String()
	case TargetName:
		where = fmt.Sprintf("restore point %q", t.Name)
	}
	if t.Timeline != 0 {
		where += fmt.Sprintf(" on timeline %d", t.Timeline)
	}
	return where
}

// settings are the target in PostgreSQL's terms.
func (t Target) settings() map[string]string {
	set := map[string]string{"recovery_target_action": "promote", "recovery_target_timeline": "latest"}
	switch t.Kind {
	case TargetImmediate:
		set["recovery_target"] = "immediate"
		set["recovery_target_timeline"] = "current"
	case TargetTime:
		set["recovery_target_time"] = t.Time.UTC().Format(timeLayout)
	case TargetLSN:
		set["recovery_target_lsn"] = t.LSN.String()
	case TargetName:
		set["recovery_target_name"] = t.Name
	}
	set["recovery_target_inclusive"] = "off"
	if t.Inclusive {
		set["recovery_target_inclusive"] = "on"
	}
	if t.Timeline != 0 {
		set["recovery_target_timeline"] = strconv.FormatUint(uint64(t.Timeline), 10)
	}
	return set
}

// Recovered is where a recovery has ended.
type Recovered struct {
	// LSN is the end of the last record replayed, where Timeline begins.
	LSN pg.LSN `json:"lsn"`
	// Timeline is the new one that the recovered server has begun; of a recovery that
	// failed, the one that it was on, or zero.
	Timeline pg.Timeline `json:"timeline"`
	// Time is that of the last commit replayed; zero when none was.
	Time time.Time `json:"time,omitzero"`
}

// ErrTarget is returned when a recovery target is not in the WAL that there is.
var ErrTarget = errors.New("the recovery target was not reached")

// TargetError is an ErrTarget with how far it came.
type TargetError struct {
	Target Target
	// Early is set when the target is before the end of the backup, from where on its
	// data is consistent. Reached is then empty.
	Early bool
	// Reached is the last record that was replayed: where it begins, and no timeline.
	Reached Recovered
}

// Error says how far recovery came and what to do.
func (e *TargetError) Error() string {
	if e.Early {
		return fmt.Sprintf("%v: %s is before the end of the backup; restore an earlier backup or choose a later target", ErrTarget, e.Target)
	}
	far := "before any record was replayed"
	if e.Reached.LSN != 0 {
		far = "after LSN " + e.Reached.LSN.String()
	}
	last := "no commit was replayed"
	if !e.Reached.Time.IsZero() {
		last = "the last commit replayed is of " + e.Reached.Time.UTC().Format(timeLayout)
	}
	return fmt.Sprintf("%v: WAL ends %s, and %s, without %s; choose an earlier target, or see that the archive has the WAL that is missing",
		ErrTarget, far, last, e.Target)
}

// Unwrap makes it an ErrTarget.
func (e *TargetError) Unwrap() error { return ErrTarget }
