package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/restore"
	"github.com/ramhq/ram/pg/backup/wal"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/reconcile"
)

// restore makes the data directory from a backup.
func (h *host) restore(ctx context.Context, inst *instance.Instance, a reconcile.Assignment, progress func(done, total pg.Bytes)) error {
	secrets, ok := h.secrets()
	if !ok {
		return errNoSecrets
	}
	if err := h.keepPassword(inst, secrets); err != nil {
		return err
	}
	repository, err := h.depot.open(ctx, a.Restore.Repository)
	if err != nil {
		return err
	}
	defer repository.Close()
	entries, err := repository.Backups(ctx)
	if err != nil {
		return err
	}
	entry, err := choose(entries, a.Restore.Backup, a.Restore.Target)
	if err != nil {
		return err
	}
	if entry.Version != a.Server.Version {
		return fmt.Errorf("backup %s is of PostgreSQL %d, the spec says %d: write version = %d, or name another backup", entry.ID, entry.Version, a.Server.Version, entry.Version)
	}
	target, least, err := h.recoveryTarget(ctx, repository, entry, a.Restore.Target)
	if err != nil {
		return err
	}
	source, err := h.recoverySource(ctx, inst, a.Restore.Repository)
	if err != nil {
		return err
	}
	defer source.close()
	recovered, err := inst.Restore(ctx, instance.RestoreOptions{
		Generation: a.Generation, SystemID: a.SystemID, Standby: a.Role == reconcile.RoleStandby, Files: h.files(inst, a), Retain: a.Retain,
		Fetch: fetchInto(repository, entry, freeTablespaces(a.Generation), h, progress),
		RecoveryOptions: instance.RecoveryOptions{
			Target: target, RestoreCommand: source.command, MinTimeline: a.Timeline, BackupEnded: entry.Finished, AtLeast: least,
			Progress: func(p instance.RecoveryProgress) {
				h.log.Debug().Str("phase", p.Phase).Stringer("lsn", p.LSN).Msg("restoring")
			},
		},
	})
	if err != nil {
		return err
	}
	h.log.Info().Str("backup", entry.ID).Stringer("lsn", recovered.LSN).Uint32("timeline", uint32(recovered.Timeline)).
		Time("last_commit", recovered.Time).Msg("restored")
	return nil
}

// recoveryTarget is the target, and the least position that is to be reached, on the latest timeline that descends from the backup's.
// PostgreSQL would find it only as long as no number is missing, and numbers that were
// reserved and never used are.
func (h *host) recoveryTarget(ctx context.Context, repository *backup.Repository, entry backup.Entry, t reconcile.RestoreTarget) (instance.Target, pg.LSN, error) {
	target := targetOf(t)
	if t.Immediate {
		return target, 0, nil
	}
	reach, err := wal.Reach(ctx, repository, entry)
	if err != nil {
		return target, 0, fmt.Errorf("see how far recovery can go: %w", err)
	}
	target.Timeline = reach.Timeline
	h.log.Info().Stringer("to", reach.To).Uint32("timeline", uint32(reach.Timeline)).Msg("the WAL that the repository has")
	if segment := pg.LSN(entry.SegmentSize); target.Kind == instance.TargetLatest && reach.To > entry.StopLSN+segment {
		return target, reach.To - segment, nil // the last file may end in the middle of a record
	}
	return target, 0, nil
}

func targetOf(t reconcile.RestoreTarget) instance.Target {
	switch {
	case !t.Time.IsZero():
		return instance.Target{Kind: instance.TargetTime, Time: t.Time, Inclusive: true}
	case t.LSN != 0:
		return instance.Target{Kind: instance.TargetLSN, LSN: t.LSN, Inclusive: true}
	case t.Point != "":
		return instance.Target{Kind: instance.TargetName, Name: t.Point}
	case t.Immediate:
		return instance.Target{Kind: instance.TargetImmediate}
	}
	return instance.Target{Kind: instance.TargetLatest}
}

// freeTablespaces are where they were, or beside that where the data directory that is
// replaced, and kept, has its own.
func freeTablespaces(generation uint64) func(dir string) func(backup.Tablespace) string {
	return func(string) func(backup.Tablespace) string {
		return func(t backup.Tablespace) string {
			if entries, err := os.ReadDir(t.Location); err != nil || len(entries) == 0 {
				return t.Location
			}
			return fmt.Sprintf("%s.ram-%d", t.Location, generation)
		}
	}
}

// scratchTablespaces are beside a scratch directory, away from those in use.
func scratchTablespaces(dir string) func(backup.Tablespace) string {
	return func(t backup.Tablespace) string {
		return filepath.Join(filepath.Dir(dir), "tablespaces", strconv.FormatUint(uint64(t.OID), 10))
	}
}

// fetchInto is how a backup's files come into a directory.
func fetchInto(r *backup.Repository, e backup.Entry, tablespaces func(dir string) func(backup.Tablespace) string, h *host, progress func(done, total pg.Bytes)) func(context.Context, string, int, int) error {
	return func(ctx context.Context, dir string, uid, gid int) error {
		o := restore.Options{Repository: r, Entry: e, Dir: dir, UID: uid, GID: gid, Progress: progress, Logger: h.log}
		if tablespaces != nil {
			o.Tablespace = tablespaces(dir)
		}
		return restore.Fetch(ctx, o)
	}
}
