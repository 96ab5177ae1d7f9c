package raftstore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// storedSnapshot is one snapshot's directory, by its name.
type storedSnapshot struct {
	name                string
	term, index, millis uint64
}

// checkIntact looks, before raft does, whether snapshots and log together still
// hold everything that they held. It returns the newest snapshot that is whole (the
// zero one without any), and an index up to which the log is known to be committed
// because a snapshot, damaged now, had it. Damaged snapshots are moved out of raft's
// sight, which would count on them. Raft itself skips a snapshot that it cannot read and
// then panics when the log does not reach back to an older one; worse, with an
// empty log it would go on as a member that forgot what it acknowledged.
func checkIntact(d *directory, snapshots *raft.FileSnapshotStore, logs raft.LogStore, imprint imprint, logger zerolog.Logger) (whole storedSnapshot, committed uint64, err error) {
	stored, err := listSnapshots(d.file(snapshotsDir))
	if err != nil {
		return whole, 0, fmt.Errorf("raft directory: %w", err)
	}
	var damaged []storedSnapshot
	var damage error
	for _, snapshot := range stored {
		err := readable(snapshots, snapshot.name, imprint)
		if err == nil {
			whole = snapshot
			break
		}
		if errors.Is(err, ErrIncompatible) || errors.Is(err, ErrForeign) {
			return whole, 0, fmt.Errorf("raft directory %s: snapshot %s: %w", d.path, snapshot.name, err)
		}
		damaged = append(damaged, snapshot)
		committed = max(committed, snapshot.index)
		damage = fmt.Errorf("snapshot %s is not usable (%w)", snapshot.name, err)
	}
	if err := logReaches(logs, whole.index, committed); err != nil {
		return whole, 0, fmt.Errorf("raft directory %s: %w: %w; %s", d.path, errors.Join(damage, err), ErrDamaged, moveAside(d.path))
	}
	for _, snapshot := range damaged {
		if err := os.Rename(filepath.Join(d.file(snapshotsDir), snapshot.name), d.file("damaged-"+snapshot.name)); err != nil {
			return whole, 0, fmt.Errorf("raft directory: set a damaged snapshot aside: %w", err)
		}
	}
	if damage != nil {
		logger.Warn().Err(damage).Uint64("using", whole.index).Msg("raft snapshot is damaged; an older one and the log replace it")
	}
	return whole, committed, nil
}

// listSnapshots are the finished snapshots, newest first; half-written ones of
// an earlier life are removed.
func listSnapshots(path string) ([]storedSnapshot, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var stored []storedSnapshot
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".tmp") {
			if err := os.RemoveAll(filepath.Join(path, entry.Name())); err != nil {
				return nil, err
			}
			continue
		}
		snapshot := storedSnapshot{name: entry.Name()}
		if _, err := fmt.Sscanf(entry.Name(), "%d-%d-%d", &snapshot.term, &snapshot.index, &snapshot.millis); err == nil {
			stored = append(stored, snapshot)
		}
	}
	slices.SortFunc(stored, func(a, b storedSnapshot) int {
		return cmp.Or(cmp.Compare(b.term, a.term), cmp.Compare(b.index, a.index), cmp.Compare(b.millis, a.millis))
	})
	return stored, nil
}

// readable opens a snapshot as a restore would.
func readable(snapshots *raft.FileSnapshotStore, name string, imprint imprint) error {
	_, source, err := snapshots.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	_, _, err = imprint.open(source)
	return err
}

// logReaches checks that the log holds what follows the snapshot at start, and
// that it reaches at least to lost, which a damaged snapshot covered.
func logReaches(logs raft.LogStore, start, lost uint64) error {
	first, err := logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := logs.LastIndex()
	if err != nil {
		return err
	}
	if last > start && first > start+1 {
		return fmt.Errorf("the log begins at %d, but the newest snapshot ends at %d", first, start)
	}
	if lost > last {
		return fmt.Errorf("the log ends at %d, but the snapshot covered %d", last, lost)
	}
	for index := start + 1; lost > 0 && index <= last; index++ {
		var entry raft.Log
		if err := logs.GetLog(index, &entry); err != nil {
			return fmt.Errorf("log entry %d: %w", index, err)
		}
	}
	return nil
}
