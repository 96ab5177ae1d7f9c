package instance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg"
)

// Phases of a restore and of a verification, in the order in which they come.
const (
	PhaseFetch   = "fetch"
	PhaseRecover = "recover"
	PhaseFlush   = "flush"
	PhasePages   = "pages"
	PhaseIndexes = "indexes"
)

// RecoveryProgress is how far a restore or verification is.
type RecoveryProgress struct {
	Phase string `json:"phase"`
	// LSN is how far recovery has come; zero where that is not known.
	LSN pg.LSN `json:"lsn,omitzero"`
	// Done and Total count bytes in PhasePages and indexes in PhaseIndexes.
	Done  int64 `json:"done,omitempty"`
	Total int64 `json:"total,omitempty"`
}

// RecoveryOptions say how a directory that was fetched is recovered.
type RecoveryOptions struct {
	Target Target
	// RestoreCommand gets WAL from an archive. Empty means that there is none: then only
	// what the backup holds is replayed. A command that fails for another reason than
	// that there is no such file must exit with more than 125, or by a signal: PostgreSQL
	// takes any other failure for the end of WAL.
	RestoreCommand string
	// MinTimeline is the least number that the new timeline may have; zero asks for
	// nothing. The numbers before it are reserved as by ReserveTimelines.
	MinTimeline pg.Timeline
	// BackupEnded is when the backup ended, by its server's clock. A target time before
	// that is refused: PostgreSQL itself would end at the first commit after the backup
	// and take that for the target. Zero, when it is not known, refuses nothing.
	BackupEnded time.Time
	// AtLeast is a position that recovery must reach, whatever the target; zero asks for
	// nothing.
	AtLeast pg.LSN
	// Progress may be nil. It is never called concurrently.
	Progress func(RecoveryProgress) `json:"-"`
}

func (o RecoveryOptions) check() error {
	if err := o.Target.Check(); err != nil {
		return err
	}
	if o.Target.Kind == TargetTime && o.Target.Time.Before(o.BackupEnded) {
		return &TargetError{Target: o.Target, Early: true}
	}
	return nil
}

// recoverAt recovers the data directory of a base backup to the target, in a private
// server, promotes it and stops it cleanly: afterwards it is an ordinary primary's
// on a new timeline. Nothing is flushed to disk.
func (i *Instance) recoverAt(ctx context.Context, s *privateServer, o RecoveryOptions) (Recovered, error) {
	control, err := i.privateControl(ctx, s.dir)
	if err != nil {
		return Recovered{}, err
	}
	if err := os.Remove(s.logFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Recovered{}, err
	}
	s.settings = controlSettings(control)
	command := o.RestoreCommand
	if command == "" {
		command = "false"
	}
	first := maps.Clone(s.settings)
	maps.Copy(first, o.Target.settings())
	first["restore_command"] = command
	commit, err := i.promoteAt(ctx, s, first, o.Target)
	if short := (*TargetError)(nil); o.Target.Kind == TargetImmediate && errors.As(err, &short) {
		if at, failed := i.promoteAtEnd(ctx, s); failed == nil {
			commit, err = at, nil
		}
	}
	if err != nil {
		return Recovered{}, err
	}
	control, err = i.privateControl(ctx, s.dir)
	if err != nil {
		return Recovered{}, err
	}
	end, err := i.timelineStart(s.dir, control.Timeline)
	if err != nil {
		return Recovered{}, err
	}
	done := Recovered{LSN: end, Timeline: control.Timeline, Time: commit}
	if done.LSN < o.AtLeast {
		return done, fmt.Errorf("%w: WAL ends at LSN %s, before %s; see that the archive has the WAL that is missing", ErrTarget, done.LSN, o.AtLeast)
	}
	if first := done.Timeline; first < o.MinTimeline {
		if control, err = i.renumber(ctx, s, o.MinTimeline); err != nil {
			return done, err
		}
		done.Timeline = control.Timeline
		return done, i.leaveForArchive(s.dir, control, first)
	}
	return done, i.leaveForArchive(s.dir, control, done.Timeline)
}

// promoteAt starts the server on a directory with recovery.signal, which makes it
// promote itself at the target, and stops it.
func (i *Instance) promoteAt(ctx context.Context, s *privateServer, settings map[string]string, t Target) (commit time.Time, err error) {
	if err := i.writeStandbyFile(filepath.Join(s.dir, standbyFile), false); err != nil {
		return time.Time{}, err
	}
	if err := i.user.writeFile(filepath.Join(s.dir, "recovery.signal"), nil); err != nil {
		return time.Time{}, err
	}
	run := *s
	run.settings = settings
	err = run.start(ctx)
	if err == nil {
		i.step("promoted")
		if run.adopt {
			err = run.takeSuperuser(ctx)
		}
		err = errors.Join(err, run.stop(ctx))
	}
	if err != nil {
		if run.log != nil {
			if verdict := run.log.verdict(t); verdict != nil {
				err = verdict
			}
		}
		return time.Time{}, fmt.Errorf("recover to %s: %w", t, err)
	}
	control, err := i.privateControl(ctx, s.dir)
	if err == nil && control.State != "shut down" {
		err = fmt.Errorf("recover to %s: the directory is left %q; see %s", t, control.State, run.logFile())
	}
	return run.log.commit(), err
}

// promoteAtEnd is promoteAt for a directory that has replayed all WAL that there is. A
// backup may end with a segment, when nothing was written after a switch: PostgreSQL looks
// whether it has come to TargetImmediate when it reads another record, or has replayed the
// end of a transaction, and a switch is neither. Without a target it ends with its WAL, and
// still refuses to when that is before the end of the backup.
func (i *Instance) promoteAtEnd(ctx context.Context, s *privateServer) (commit time.Time, err error) {
	settings := maps.Clone(s.settings)
	settings["restore_command"] = "false"
	settings["recovery_target_timeline"] = "current"
	return i.promoteAt(ctx, s, settings, Target{})
}

// takeSuperuser gives ramd's own role the password that ramd knows.
func (s *privateServer) takeSuperuser(ctx context.Context) error {
	conn, err := s.session(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	verifier, err := makeVerifier(s.i.cfg.SuperuserPassword)
	if err != nil {
		return err
	}
	statement := fmt.Sprintf("ALTER ROLE %s SUPERUSER LOGIN REPLICATION VALID UNTIL 'infinity' PASSWORD '%s'", Superuser, verifier)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("give role %s the password of this cluster: %w", Superuser, err)
	}
	return nil
}

// renumber begins one more timeline, with a number that is not below least.
// PostgreSQL takes the first of which it has no history. The numbers cannot be reserved
// any earlier: a recovery to the latest timeline would follow the last of them.
func (i *Instance) renumber(ctx context.Context, s *privateServer, least pg.Timeline) (pg.ControlData, error) {
	if err := i.reserveTimelines(s.dir, least); err != nil {
		return pg.ControlData{}, err
	}
	if _, err := i.promoteAtEnd(ctx, s); err != nil {
		return pg.ControlData{}, err
	}
	control, err := i.privateControl(ctx, s.dir)
	if err == nil && control.Timeline < least {
		err = fmt.Errorf("the new timeline is %d and not %d or later", control.Timeline, least)
	}
	return control, err
}

// controlSettings are what a server needs to go on from a control file. What the
// server later writes about them into WAL must not be less than it was, and commit
// timestamps would be thrown away.
func controlSettings(c pg.ControlData) map[string]string {
	least := func(name string, n int64) string {
		have, _ := strconv.ParseInt(c.Settings[name], 10, 64)
		return strconv.FormatInt(max(n, have), 10)
	}
	set := map[string]string{
		"max_prepared_transactions": least("max_prepared_transactions", 256),
		"max_locks_per_transaction": least("max_locks_per_transaction", 64),
		"max_connections":           least("max_connections", 30),
		"max_wal_senders":           least("max_wal_senders", 10),
		"wal_level":                 "replica",
	}
	for _, name := range []string{"track_commit_timestamp", "wal_log_hints"} {
		if value := c.Settings[name]; value != "" {
			set[name] = value
		}
	}
	if c.Settings["wal_level"] == "logical" {
		set["wal_level"] = "logical"
	}
	return set
}

// privateControl reads the control file of a directory that is not in place.
func (i *Instance) privateControl(ctx context.Context, dir string) (pg.ControlData, error) {
	text, err := i.output(ctx, "pg_controldata", "-D", dir)
	if err != nil {
		return pg.ControlData{}, err
	}
	return pg.ParseControlData(text)
}

// timelineStart is where a promoted directory's timeline begins.
func (i *Instance) timelineStart(dir string, timeline pg.Timeline) (pg.LSN, error) {
	text, there, err := readFile(historyFile(dir, timeline))
	if err == nil && !there {
		err = errors.New("it is not there")
	}
	if err != nil {
		return 0, fmt.Errorf("history of timeline %d: %w", timeline, err)
	}
	return lastSwitch(string(text))
}

// flushTree makes all that was written to a directory's file system, and to those of
// its tablespaces, durable.
func flushTree(dir string) error {
	paths := []string{dir}
	links, err := tablespaceLinks(dir)
	if err != nil {
		return err
	}
	for _, target := range links {
		paths = append(paths, target)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.Syncfs(int(f.Fd()))
		f.Close()
		if err != nil {
			return fmt.Errorf("flush %s to disk: %w", path, err)
		}
	}
	return nil
}

// tablespaceLinks are the links in pg_tblspc, by name.
func tablespaceLinks(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "pg_tblspc"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	links := make(map[string]string)
	for _, entry := range entries {
		if entry.Type()&os.ModeSymlink == 0 {
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, "pg_tblspc", entry.Name()))
		if err != nil {
			return nil, err
		}
		links[entry.Name()] = strings.TrimRight(target, "/")
	}
	return links, nil
}

// openTablespaces lets a server make tablespaces in a directory, or keeps it from it.
// The replay of CREATE TABLESPACE goes to the place where the tablespace was, and
// that may be another server's here: it would write into the other's files.
func openTablespaces(dir string, open bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	mode := os.FileMode(0o500)
	if open {
		mode = 0o700
	}
	return root.Chmod("pg_tblspc", mode)
}
