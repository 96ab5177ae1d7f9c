package raftstore

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// snapshotFormat is the newest snapshot that this code reads, and the one that it
// writes.
const snapshotFormat = 1

// maxSnapshotHeader bounds the header's line, in bytes, so that a damaged one
// is not read to its end.
const maxSnapshotHeader = 4096

// snapshotHeader is the first line of a snapshot, in JSON; the Machine's bytes
// follow.
type snapshotHeader struct {
	Format  int    `json:"format"`
	Writer  string `json:"writer"`
	Cluster string `json:"cluster"`
	// Index is the newest log index that the content reflects.
	Index  uint64 `json:"index"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

// imprint is what a store writes into its snapshots' headers and expects there.
type imprint struct{ cluster, writer string }

// seal puts the header before the Machine's bytes.
func (i imprint) seal(index uint64, payload []byte) ([]byte, error) {
	sum := sha256.Sum256(payload)
	header, err := json.Marshal(snapshotHeader{
		Format: snapshotFormat, Writer: i.writer, Cluster: i.cluster, Index: index,
		Size: len(payload), SHA256: hex.EncodeToString(sum[:]),
	})
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{header, payload}, []byte{'\n'}), nil
}

// open returns the Machine's bytes and the log index that they reflect, when they
// are this cluster's and whole.
func (i imprint) open(source io.Reader) (index uint64, payload []byte, err error) {
	reader := bufio.NewReaderSize(source, maxSnapshotHeader)
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return 0, nil, fmt.Errorf("snapshot has no header: %w", ErrDamaged)
	}
	var header snapshotHeader
	if err := json.Unmarshal(line, &header); err != nil || header.Format < 1 {
		return 0, nil, fmt.Errorf("snapshot's header is not readable: %w", ErrDamaged)
	}
	if header.Format > snapshotFormat {
		return 0, nil, fmt.Errorf("snapshot written by ramd %s in format %d, and this one reads formats up to %d: %w",
			header.Writer, header.Format, snapshotFormat, ErrIncompatible)
	}
	if header.Cluster != i.cluster {
		return 0, nil, fmt.Errorf("snapshot is of cluster %s, not %s: %w", header.Cluster, i.cluster, ErrForeign)
	}
	payload, err = io.ReadAll(reader)
	if err != nil {
		return 0, nil, fmt.Errorf("read snapshot: %w", err)
	}
	if sum := sha256.Sum256(payload); len(payload) != header.Size || hex.EncodeToString(sum[:]) != header.SHA256 {
		return 0, nil, fmt.Errorf("snapshot's content is not what was written: %w", ErrDamaged)
	}
	return header.Index, payload, nil
}

// sealed is a snapshot on its way to disk.
type sealed []byte

// Persist implements raft.FSMSnapshot.
func (s sealed) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (sealed) Release() {}
