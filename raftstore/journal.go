package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// cachedEntries is how many of the newest log entries are kept in memory for the
// followers.
const cachedEntries = 512

// journal is the durable side of one store: the log, the votes, and how far the
// log was applied.
type journal struct {
	*raft.LogCache
	bolt    *raftboltdb.BoltStore
	applied *os.File
	// start is the newest snapshot's index, which the replay at start-up begins
	// after.
	start uint64
}

func openJournal(d *directory) (*journal, error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: d.file(logFile),
		BoltOptions: &bbolt.Options{
			Timeout:        time.Second, // the directory's lock is ours; nobody should hold this one
			NoFreelistSync: true,        // half the writes; found again at open
			FreelistType:   bbolt.FreelistMapType,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("raft log %s: %w; %s", d.file(logFile), err, moveAside(d.path))
	}
	j := &journal{bolt: bolt}
	if j.LogCache, err = raft.NewLogCache(cachedEntries, bolt); err == nil {
		j.applied, err = os.OpenFile(d.file(appliedFile), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err == nil {
		err = syncDirectory(d.path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raft log: %w", err), j.close())
	}
	return j, nil
}

func (j *journal) close() error {
	err := j.bolt.Close()
	if j.applied != nil {
		err = errors.Join(err, j.applied.Close())
	}
	return err
}

// StageCommitIndex implements raft.CommitTrackingLogStore. What raft stages here
// may run ahead of the log; remember is told later, and never ahead.
func (j *journal) StageCommitIndex(uint64) error { return nil }

// replayLimit is the number of entries that raft can replay while it is being
// made: 128 batches of 64 fit into the queue that nobody drains yet, and one more
// would wait for ever. The rest is replayed when a leader confirms it.
const replayLimit = 120 * 64

// GetCommitIndex implements raft.CommitTrackingLogStore: the last index that is
// known to be committed, from an earlier life of this node; 0 when none is known.
func (j *journal) GetCommitIndex() (uint64, error) {
	index := min(j.remembered(), j.start+replayLimit)
	last, err := j.LastIndex()
	if err != nil || index > last || index <= j.start {
		return 0, err
	}
	return index, nil
}

// remember notes that the entry of an index was applied, hence that it is
// committed and was durable here before. It is not flushed: what is lost with
// the power only makes the next start know less.
func (j *journal) remember(index uint64) error {
	var note [12]byte
	binary.BigEndian.PutUint64(note[:8], index)
	binary.BigEndian.PutUint32(note[8:], crc32.ChecksumIEEE(note[:8]))
	_, err := j.applied.WriteAt(note[:], 0)
	return err
}

func (j *journal) remembered() uint64 {
	var note [12]byte
	if _, err := j.applied.ReadAt(note[:], 0); err != nil {
		return 0
	}
	if crc32.ChecksumIEEE(note[:8]) != binary.BigEndian.Uint32(note[8:]) {
		return 0
	}
	return binary.BigEndian.Uint64(note[:8])
}

// replayTarget is the last index that the replay at start-up applies; 0 when it
// applies none.
func (j *journal) replayTarget() (uint64, error) {
	committed, err := j.GetCommitIndex()
	if err != nil {
		return 0, fmt.Errorf("raft log: %w", err)
	}
	for index := committed; index > j.start; index-- {
		var entry raft.Log
		if err := j.GetLog(index, &entry); err != nil {
			return 0, fmt.Errorf("raft log entry %d: %w", index, err)
		}
		if entry.Type == raft.LogCommand || entry.Type == raft.LogConfiguration {
			return index, nil
		}
	}
	return 0, nil
}
