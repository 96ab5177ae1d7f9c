package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// ErrNoState says that a directory holds nothing that a group could be made from.
var ErrNoState = errors.New("it holds no log and no snapshot of a cluster")

// Remains is what one member still has of a group that has lost its majority for
// ever, and the way to make a new group of it. OpenRemains makes one; its methods
// are called from one goroutine. While it is open no Store can open the directory.
//
// The Machine reflects the whole log, also entries that this member does not know
// to be committed: nobody can undo them any more, and one that was committed, and
// so acknowledged, would be lost if it were left out.
type Remains struct {
	// Cluster is the cluster's name.
	Cluster string
	// Self is this node as the member that it was; its address is empty when Members
	// lacks it.
	Self Member
	// Members are those of the newest configuration in the log, by name.
	Members []Member
	// Term is the highest of Raft's terms that this member took part in.
	Term uint64
	// Last is the log's newest index, written in LastTerm; Committed the newest that is
	// known to be committed.
	Last, LastTerm, Committed uint64
	// Written is when a leader wrote the newest entry, by the leader's clock; zero when
	// that is not known.
	Written time.Time

	store *Store
	dir   string
	// version is the program's.
	version string
}

// OpenRemains reads the directory of a member that does not run, into an empty
// Machine. It changes nothing that another start would read otherwise, except that it
// ends a recovery whose process was killed after it had come into force. The error is
// ErrNoState when there is nothing to recover from, ErrLocked while a store has it open.
func OpenRemains(dir, version string, machine Machine, logger zerolog.Logger) (_ *Remains, err error) {
	if err := finishRecovery(dir); err != nil {
		return nil, err
	}
	for _, name := range []string{identityFile, logFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("raft directory %s: %w", dir, ErrNoState)
		}
	}
	id, err := readIdentity(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		name: id.Node, logger: logger, ended: make(chan struct{}), stopped: make(chan struct{}),
		raftLog: newRaftLogger(logger),
	}
	s.stop = sync.OnceValue(s.shutdown)
	r := &Remains{Cluster: id.Cluster, store: s, dir: dir, version: version}
	defer func() {
		if err != nil {
			_ = r.Close()
		}
	}()
	if err := s.openDirectory(Config{Dir: dir, Cluster: id.Cluster, Name: id.Node, Version: version, Machine: machine}); err != nil {
		return nil, err
	}
	return r, r.read()
}

// read applies what recall has left and notes what there is.
func (r *Remains) read() error {
	s := r.store
	has, err := s.HasState()
	if err != nil {
		return err
	}
	if !has {
		return fmt.Errorf("raft directory %s: %w", r.dir, ErrNoState)
	}
	r.Committed = s.journal.committed()
	configuration, err := r.readSnapshot()
	if err != nil {
		return err
	}
	if configuration, err = r.readLog(configuration); err != nil {
		return err
	}
	if r.Term, err = s.journal.bolt.GetUint64(currentTermKey); err != nil {
		return fmt.Errorf("raft directory %s: the term: %w", r.dir, err)
	}
	r.Members = membersOf(configuration.Servers)
	r.Self = Member{Name: s.name, Incarnation: s.Incarnation()}
	for _, m := range r.Members {
		if m.ID() == s.ID() {
			r.Self = m
		}
	}
	return nil
}

// currentTermKey is where raft keeps its term.
var currentTermKey = []byte("CurrentTerm")

func (r *Remains) readSnapshot() (configuration raft.Configuration, err error) {
	stored, err := r.store.snapshots.List()
	if err != nil || len(stored) == 0 {
		return configuration, err
	}
	newest := stored[0]
	r.Last, r.LastTerm, r.Committed = newest.Index, newest.Term, max(r.Committed, newest.Index)
	var name storedSnapshot
	if _, err := fmt.Sscanf(newest.ID, "%d-%d-%d", &name.term, &name.index, &name.millis); err == nil {
		r.Written = time.UnixMilli(int64(name.millis)).UTC()
	}
	return newest.Configuration, nil
}

// readLog goes through the log; entries that the machine has, it skips by itself.
func (r *Remains) readLog(configuration raft.Configuration) (raft.Configuration, error) {
	s := r.store
	first, err := s.journal.FirstIndex()
	if err != nil {
		return configuration, fmt.Errorf("raft log: %w", err)
	}
	last, err := s.journal.LastIndex()
	if err != nil {
		return configuration, fmt.Errorf("raft log: %w", err)
	}
	// What is applied from here on may not be committed, and is not to be noted as if it were.
	s.adapter.advanced = func(uint64) {}
	snapshot := r.Last
	for index := first; index > 0 && index <= last; index++ {
		var entry raft.Log
		if err := s.journal.GetLog(index, &entry); err != nil {
			return configuration, fmt.Errorf("raft log entry %d: %w", index, err)
		}
		if entry.Type == raft.LogConfiguration && index > snapshot {
			configuration = raft.DecodeConfiguration(entry.Data)
		}
		if index > r.Last {
			r.Last, r.LastTerm, r.Written = index, entry.Term, entry.AppendedAt.UTC()
		}
	}
	if last == 0 {
		return configuration, nil
	}
	return configuration, s.adapter.replay(s.journal, max(first, s.Applied()+1), last)
}

// Alone reports whether this member is the only voter already.
func (r *Remains) Alone() bool {
	voters := 0
	for _, m := range r.Members {
		if m.Voter {
			voters++
		}
	}
	return voters == 1 && r.Self.Voter
}

// Others are the members that are not this one.
func (r *Remains) Others() []Member {
	var others []Member
	for _, m := range r.Members {
		if m.ID() != r.Self.ID() {
			others = append(others, m)
		}
	}
	return others
}

// Refounded is a group of one that has been made and is not in force yet.
type Refounded struct {
	// Self is the only voter: this node, in a new incarnation.
	Self    Member
	remains *Remains
}

// Refound makes a new group beside the old one: this node, in a new incarnation, is its
// only voter. Its log begins with the state that content returns for that member, in the
// Machine's encoding. Nothing is in force before Replace.
func (r *Remains) Refound(address string, content func(self Member) ([]byte, error)) (_ *Refounded, err error) {
	path := r.dir + recovering
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	text, err := json.Marshal(recoveryMark{From: r.store.ID()})
	if err == nil {
		err = writeDurably(filepath.Join(path, recoveryFile), append(text, '\n'))
	}
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	d, err := openDirectory(path, r.Cluster, r.store.name)
	if err != nil {
		return nil, err
	}
	defer d.close()
	next := &Refounded{Self: Member{Name: d.Node, Incarnation: d.Incarnation, Address: address, Voter: true}, remains: r}
	if err := next.Self.check(); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	payload, err := content(next.Self)
	if err != nil {
		return nil, err
	}
	if err := next.write(d, payload); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	return next, syncDirectory(filepath.Dir(r.dir))
}

// write makes the log and the snapshot that it begins with. Index and term go on from
// the old group's, so that nothing of it is ever taken for newer.
func (n *Refounded) write(d *directory, payload []byte) error {
	index, term := n.remains.Last+1, max(n.remains.Term, n.remains.LastTerm)+1
	j, err := openJournal(d)
	if err != nil {
		return err
	}
	if err := errors.Join(j.bolt.SetUint64(currentTermKey, term), j.close()); err != nil {
		return err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(d.path, keptSnapshots, n.remains.store.raftLog)
	if err != nil {
		return err
	}
	content, err := imprint{cluster: d.Cluster, writer: n.remains.version}.seal(index, payload)
	if err != nil {
		return err
	}
	_, encoder := raft.NewInmemTransport("") // only turns addresses into bytes
	configuration := raft.Configuration{Servers: []raft.Server{n.Self.server()}}
	sink, err := snapshots.Create(raft.SnapshotVersionMax, index, term, configuration, index, encoder)
	if err != nil {
		return err
	}
	if err := sealed(content).Persist(sink); err != nil {
		return err
	}
	return syncDirectory(d.path)
}

// Replace puts the new group in the place of the old one, whose directory it keeps, and
// returns where. A process that is killed within it leaves one of the two in force, whole.
func (n *Refounded) Replace() (aside string, err error) {
	dir := n.remains.dir
	if aside, err = freeName(dir + ".lost-"); err != nil {
		return "", fmt.Errorf("recover: %w", err)
	}
	if err := n.remains.swap(aside); err != nil {
		return "", fmt.Errorf("recover: put the new raft directory in its place: %w", err)
	}
	return aside, nil
}

func (r *Remains) swap(aside string) error {
	next, parent := r.dir+recovering, filepath.Dir(r.dir)
	err := unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, r.dir, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		if err := syncDirectory(parent); err != nil {
			return err
		}
		err = os.Rename(next, aside)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		// A file system that cannot exchange two names: there is a moment without any.
		if err = os.Rename(r.dir, aside); err == nil {
			err = os.Rename(next, r.dir)
		}
	}
	if err != nil {
		return err
	}
	return syncDirectory(parent)
}

// Close unlocks the directory.
func (r *Remains) Close() error { return r.store.stop() }

const (
	// recovering is what the new directory's name has added until it is in force, and
	// the old one's for a moment afterwards.
	recovering = ".recovering"
	// recoveryFile says in a directory that was made by a recovery what it was made from.
	recoveryFile = "recovered.json"
)

type recoveryMark struct {
	// From is the ID of the member that the node was before.
	From string `json:"from"`
}

// finishRecovery brings a recovery that was killed to an end: one that was in force
// is completed, and what was made for one that was not is removed. Which of the two
// directories is the old one is told by the member that the other one was made from.
func finishRecovery(dir string) error {
	next := dir + recovering
	if _, err := os.Lstat(next); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	here, there := lookAt(dir), lookAt(next)
	var err error
	switch {
	case here.absent && there.id != "" && there.from != "":
		err = os.Rename(next, dir)
	case there.id != "" && here.from == there.id:
		var aside string
		if aside, err = freeName(dir + ".lost-"); err == nil {
			err = os.Rename(next, aside)
		}
	case there.from != "" && there.from == here.id, here.id != "" && there.empty:
		err = os.RemoveAll(next)
	default:
		return fmt.Errorf("neither of %s and %s was made from the other; move the one that is not this node's out of the way", dir, next)
	}
	if err != nil {
		return fmt.Errorf("finish the recovery that was begun: %w", err)
	}
	return syncDirectory(filepath.Dir(dir))
}

// origin is whose a raft directory is, and which member it was made from by a
// recovery; both are empty when it does not say. One that is empty has no identity
// yet, and so nothing that depends on one.
type origin struct {
	absent, empty bool
	id, from      string
}

func lookAt(dir string) (o origin) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		o.absent = true
		return o
	}
	_, err := os.Lstat(filepath.Join(dir, identityFile))
	_, logErr := os.Lstat(filepath.Join(dir, logFile))
	o.empty = errors.Is(err, fs.ErrNotExist) && errors.Is(logErr, fs.ErrNotExist)
	if id, err := readIdentity(dir); err == nil {
		o.id = Member{Name: id.Node, Incarnation: id.Incarnation}.ID()
	}
	var mark recoveryMark
	if text, err := os.ReadFile(filepath.Join(dir, recoveryFile)); err == nil && json.Unmarshal(text, &mark) == nil {
		o.from = mark.From
	}
	return o
}

// freeName is the first of prefix1, prefix2 and so on that is not taken.
func freeName(prefix string) (string, error) {
	for n := 1; ; n++ {
		name := prefix + strconv.Itoa(n)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
}
