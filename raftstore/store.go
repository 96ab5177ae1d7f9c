package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// keptSnapshots is how many snapshots are kept: the newest, and one in case that
// one is damaged.
const keptSnapshots = 2

// Store is one node's replica of the record. Open makes one; the zero Store is
// of no use.
type Store struct {
	name      string
	id        raft.ServerID
	logger    zerolog.Logger
	timeouts  Timeouts
	directory *directory
	journal   *journal
	snapshots *shelf
	adapter   *adapter
	stream    *stream
	transport transport
	raftLog   *raftLogger
	raft      *raft.Raft

	changes broadcast // progress of any kind
	reigns  broadcast // leadership of this node

	leaderships chan bool             // raft's, every change of this node's leadership
	leaders     chan raft.Observation // raft's, changes of the known leader
	ended       chan struct{}         // closed when the background goroutine may go
	running     sync.WaitGroup

	membership sync.Mutex // held during a change of the members

	mu      sync.Mutex // guards what follows
	reign   reign
	calls   sync.WaitGroup // calls that wait for raft; grows under mu, and not once closing
	closing bool
	stopped chan struct{} // closed when raft no longer runs
	stop    func() error
}

// Open opens or makes the directory, restores the Machine as far as this node
// knows that the log is committed, listens, and takes part: as a member if the
// directory says that it is one, otherwise waiting to be bootstrapped or added.
// The Machine may be behind the cluster afterwards, never ahead of it.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Store{
		name: cfg.Name, logger: cfg.Logger, timeouts: cfg.Timeouts,
		leaderships: make(chan bool, 1), leaders: make(chan raft.Observation, 1),
		ended: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.stop = sync.OnceValue(s.shutdown)
	defer func() {
		if err != nil {
			_ = s.stop()
		}
	}()
	s.raftLog = newRaftLogger(cfg.Logger)
	if err := s.openDirectory(cfg); err != nil {
		return nil, err
	}
	if err := s.start(ctx, cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// openDirectory opens everything that is on disk.
func (s *Store) openDirectory(cfg Config) (err error) {
	if s.directory, err = openDirectory(cfg.Dir, cfg.Cluster, cfg.Name); err != nil {
		return err
	}
	s.id = raft.ServerID(s.ID())
	if s.journal, err = openJournal(s.directory); err != nil {
		return err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, keptSnapshots, s.raftLog)
	if err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	s.snapshots = &shelf{FileSnapshotStore: files}
	imprint := imprint{cluster: cfg.Cluster, writer: cfg.Version}
	s.adapter = newAdapter(cfg.Machine, imprint, s.advanced)
	whole, committed, err := checkIntact(s.directory, files, s.journal, imprint, s.logger)
	if err != nil {
		return err
	}
	return s.recall(whole, max(committed, s.journal.committed()))
}

// recall brings the machine to what this node knows to be committed.
func (s *Store) recall(snapshot storedSnapshot, committed uint64) error {
	if snapshot.name != "" {
		_, source, err := s.snapshots.Open(snapshot.name)
		if err != nil {
			return fmt.Errorf("raft snapshot: %w", err)
		}
		defer func() { _ = source.Close() }()
		if err := s.adapter.Restore(source); err != nil {
			return err
		}
	}
	return s.adapter.replay(s.journal, max(snapshot.index, s.Applied())+1, committed)
}

// start begins to listen and to take part.
func (s *Store) start(ctx context.Context, cfg Config) error {
	listener, err := cfg.Listen(ctx, cfg.Bind)
	if err != nil {
		return fmt.Errorf("raft cannot listen on %s: %w; check the node's host and ports.raft", cfg.Bind, err)
	}
	s.stream = newStream(listener, endpoint{cluster: cfg.Cluster, id: s.ID(), secret: cfg.Secret}, cfg)
	s.transport = newTransport(s.stream, cfg, s.raftLog)
	s.raft, err = raft.NewRaft(s.raftConfig(cfg), s.adapter, s.journal, s.journal.bolt, s.snapshots, s.transport)
	if err != nil {
		return errors.Join(fmt.Errorf("raft: %w", err), s.transport.Close())
	}
	s.raft.RegisterObserver(raft.NewObserver(s.leaders, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	s.running.Go(s.watch)
	return nil
}

func (s *Store) raftConfig(cfg Config) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = s.id
	conf.HeartbeatTimeout = cfg.Timeouts.Heartbeat
	conf.ElectionTimeout = cfg.Timeouts.Election
	conf.LeaderLeaseTimeout = cfg.Timeouts.Lease
	conf.CommitTimeout = cfg.Timeouts.Commit
	conf.SnapshotThreshold = cfg.Compaction.Threshold
	conf.TrailingLogs = cfg.Compaction.Trailing
	conf.SnapshotInterval = cfg.Compaction.Interval
	conf.ShutdownOnRemove = false        // the wiring decides what a removed node does
	conf.NoSnapshotRestoreOnStart = true // recall has done it
	conf.NoLegacyTelemetry = true
	conf.NotifyCh = s.leaderships
	conf.Logger = s.raftLog
	return conf
}

// advanced notes progress; it runs on raft's goroutines, also before Open returns.
func (s *Store) advanced(index uint64) {
	if err := s.journal.remember(index); err != nil {
		s.logger.Debug().Err(err).Msg("cannot note how far the raft log was applied")
	}
	s.changes.notify()
}

// watch follows raft's notifications until the store has stopped.
func (s *Store) watch() {
	failed := s.adapter.failed
	for {
		select {
		case leading := <-s.leaderships:
			s.reigned(leading)
		case <-s.leaders:
			s.leaderChanged()
		case <-failed:
			failed = nil
			s.logger.Error().Err(s.adapter.failure()).Msg("raft store stops")
			// Stopping waits for this goroutine, so it needs its own.
			go func() { _ = s.stop() }()
		case <-s.ended:
			return
		}
	}
}

// Run waits until ctx ends, and then returns nil, or until the store has stopped
// by itself, and then returns why: for instance an ErrIncompatible. The store runs
// also while nobody waits for it.
func (s *Store) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.stopped:
		return s.reason()
	}
}

// Err is why the store has stopped: nil while it runs, ErrClosed after Close.
func (s *Store) Err() error {
	select {
	case <-s.stopped:
		return s.reason()
	default:
		return nil
	}
}

// reason is why a call cannot be carried out any more.
func (s *Store) reason() error {
	if s.adapter != nil {
		if err := s.adapter.failure(); err != nil {
			return err
		}
	}
	return ErrClosed
}

// Close hands leadership over when this node has it and somebody can take it, ends
// every goroutine and connection, and unlocks the directory. Calls that wait return
// ErrClosed. It takes up to a few election timeouts. Closing twice is fine.
func (s *Store) Close() error { return s.stop() }

// shutdown is what stop does once.
func (s *Store) shutdown() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	var err error
	if s.raft != nil {
		s.drain()
		future := s.raft.Shutdown()
		err = errors.Join(err, s.transport.Close()) // before the wait: raft's goroutines may hang in a connection
		err = errors.Join(err, future.Error())
		s.snapshots.close(s.timeouts.Handshake)
	}
	s.raftLog.mute()
	close(s.stopped)
	s.reigned(false)
	close(s.ended)
	s.running.Wait()
	s.waitCalls(time.Second)
	if s.journal != nil {
		err = errors.Join(err, s.journal.close())
	}
	if s.directory != nil {
		s.directory.close()
	}
	s.changes.notify()
	if err != nil {
		return fmt.Errorf("close raft store: %w", err)
	}
	return nil
}

// drain lets what is on its way come to its end: raft answers nothing that is
// still queued when it shuts down. A leader without a majority steps down
// within its lease, which answers everything too.
func (s *Store) drain() {
	if s.raft.State() == raft.Leader && s.otherVoters() {
		_ = s.raft.LeadershipTransfer().Error() // raft gives up after an election timeout
	}
	s.waitCalls(2*s.timeouts.Election + s.timeouts.Lease)
}

func (s *Store) waitCalls(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// enter counts a call that waits for raft; false when the store is closing.
func (s *Store) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.calls.Add(1)
	return true
}

// HasState reports whether this node has ever had a log entry, a term or a
// snapshot: whether it belongs to a cluster, or has begun to.
func (s *Store) HasState() (bool, error) {
	has, err := raft.HasExistingState(s.journal, s.journal.bolt, s.snapshots)
	if err != nil {
		return false, fmt.Errorf("raft directory %s: %w", s.directory.path, err)
	}
	return has, nil
}

// ID is this member's Raft server ID; see Member.ID.
func (s *Store) ID() string {
	return Member{Name: s.directory.Node, Incarnation: s.directory.Incarnation}.ID()
}

// Incarnation names this life of the directory: 8 hexadecimal characters.
func (s *Store) Incarnation() string { return s.directory.Incarnation }

// Address is the host:port at which the other members reach this one.
func (s *Store) Address() string { return s.stream.Addr().String() }

// Self is this node as the others are to add it; Voter is false.
func (s *Store) Self() Member {
	return Member{Name: s.name, Incarnation: s.Incarnation(), Address: s.Address()}
}
