package raftstore

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// shelf is raft's snapshot store that knows whether one is being written. Raft's
// Shutdown does not wait for that, and a snapshot that is finished after Close
// would be written into a directory that is no longer ours.
type shelf struct {
	*raft.FileSnapshotStore
	writing sync.WaitGroup

	mu     sync.Mutex
	closed bool // guarded by mu
}

// Create is raft.SnapshotStore's.
func (s *shelf) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	sink, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	s.writing.Add(1)
	return &shelved{SnapshotSink: sink, done: sync.OnceFunc(s.writing.Done)}, nil
}

// close lets no further snapshot begin and waits, for at most limit, until none is
// being written.
func (s *shelf) close(limit time.Duration) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	none := make(chan struct{})
	go func() {
		s.writing.Wait()
		close(none)
	}()
	select {
	case <-none:
	case <-time.After(limit):
	}
}

// shelved is a snapshot that is being written.
type shelved struct {
	raft.SnapshotSink
	done func()
}

// Close is raft.SnapshotSink's.
func (s *shelved) Close() error {
	defer s.done()
	return s.SnapshotSink.Close()
}

// Cancel is raft.SnapshotSink's.
func (s *shelved) Cancel() error {
	defer s.done()
	return s.SnapshotSink.Cancel()
}
