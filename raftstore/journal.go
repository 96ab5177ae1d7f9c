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

// The note of what was applied: index, term and checksum of both.
const noteSize = 8 + 8 + 4

// remember notes that the entry of an index was applied, hence that it is
// committed, and that it was durable here before. The note is not flushed: what a
// loss of power takes only makes the next start know less.
func (j *journal) remember(index uint64) error {
	var entry raft.Log
	if err := j.GetLog(index, &entry); err != nil {
		return nil // a snapshot's last; the snapshot says it itself
	}
	var note [noteSize]byte
	binary.BigEndian.PutUint64(note[:], index)
	binary.BigEndian.PutUint64(note[8:], entry.Term)
	binary.BigEndian.PutUint32(note[16:], crc32.ChecksumIEEE(note[:16]))
	_, err := j.applied.WriteAt(note[:], 0)
	return err
}

// committed is an index up to which the log is known to be committed, from
// an earlier life of this node; 0 when none is known.
//
// An entry that was applied has its index and term for ever, and two logs that agree
// on one entry agree on all before it (Raft's log matching). So a note whose entry
// is not in the log as noted, whatever happened to the disk, says nothing.
func (j *journal) committed() uint64 {
	var note [noteSize]byte
	if _, err := j.applied.ReadAt(note[:], 0); err != nil {
		return 0
	}
	if crc32.ChecksumIEEE(note[:16]) != binary.BigEndian.Uint32(note[16:]) {
		return 0
	}
	index := binary.BigEndian.Uint64(note[:])
	var entry raft.Log
	if err := j.GetLog(index, &entry); err != nil || entry.Term != binary.BigEndian.Uint64(note[8:]) {
		return 0
	}
	return index
}
