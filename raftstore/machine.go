package raftstore

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Machine gives the commands their meaning. The store calls its methods one at a
// time; a Machine that is read meanwhile guards its own state.
type Machine interface {
	// Apply carries out the committed command of a log index. It must be
	// deterministic. A rejected command (err is not nil) is a normal result: it is
	// returned to the proposer and changes nothing. An error that is ErrIncompatible
	// stops the store. The command must not be kept or changed.
	Apply(index uint64, command []byte) (result any, err error)

	// Snapshot returns the whole state, in an encoding that Restore reads.
	Snapshot() ([]byte, error)

	// Restore replaces the whole state; when it fails it has changed nothing.
	Restore(snapshot []byte) error
}

// outcome is what a Machine answered to one command.
type outcome struct {
	result any
	err    error
}

// adapter lets raft drive a Machine.
//
// Once a command or a whole snapshot could not be understood, the adapter has
// failed: it applies, restores and snapshots nothing more. Raft would otherwise count
// the command as applied and write a snapshot that lacks it, or go on with an
// older snapshot than the log continues.
//
// Restoring and replaying at start-up is the store's own work, not raft's: raft
// replays only what a leader confirms again, and its RestoreCommittedLogs forgets the
// members when it replays the entry that names them. So raft delivers entries again
// that were replayed, which are skipped; and a snapshot may reflect more than
// the index that raft files it under, so it carries its own.
type adapter struct {
	machine Machine
	imprint imprint
	// advanced is called on raft's own goroutine with each index that the machine
	// now reflects.
	advanced func(index uint64)

	applied atomic.Uint64
	failed  chan struct{} // closed by fail

	mu  sync.Mutex // guards err
	err error
}

func newAdapter(machine Machine, imprint imprint, advanced func(uint64)) *adapter {
	return &adapter{machine: machine, imprint: imprint, advanced: advanced, failed: make(chan struct{})}
}

func (a *adapter) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
		close(a.failed)
	}
}

// failure is why the adapter failed; nil while it has not.
func (a *adapter) failure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *adapter) advance(index uint64) {
	a.applied.Store(index)
	a.advanced(index)
}

// Apply implements raft.FSM.
func (a *adapter) Apply(entry *raft.Log) any {
	if err := a.failure(); err != nil {
		return outcome{err: err}
	}
	if entry.Index <= a.applied.Load() {
		return outcome{} // replayed at start-up; nobody waits for the answer
	}
	result, err := a.machine.Apply(entry.Index, entry.Data)
	if errors.Is(err, ErrIncompatible) {
		err = fmt.Errorf("raft log entry %d: %w", entry.Index, err)
		a.fail(err)
		return outcome{err: err}
	}
	a.advance(entry.Index)
	return outcome{result: result, err: err}
}

// StoreConfiguration implements raft.ConfigurationStore: a change of the members
// counts as progress too.
func (a *adapter) StoreConfiguration(index uint64, _ raft.Configuration) {
	if a.failure() == nil && index > a.applied.Load() {
		a.advance(index)
	}
}

// replay applies the entries from the given index on, up to one that is known to be
// committed, before raft runs.
func (a *adapter) replay(logs raft.LogStore, from, to uint64) error {
	for index := from; index <= to && a.failure() == nil; index++ {
		var entry raft.Log
		if err := logs.GetLog(index, &entry); err != nil {
			return fmt.Errorf("raft log entry %d: %w", index, err)
		}
		switch entry.Type {
		case raft.LogCommand:
			a.Apply(&entry)
		case raft.LogConfiguration:
			a.StoreConfiguration(index, raft.Configuration{})
		}
	}
	return a.failure()
}

// Snapshot implements raft.FSM.
func (a *adapter) Snapshot() (raft.FSMSnapshot, error) {
	if err := a.failure(); err != nil {
		return nil, err
	}
	payload, err := a.machine.Snapshot()
	if err != nil {
		return nil, err
	}
	content, err := a.imprint.seal(a.applied.Load(), payload)
	return sealed(content), err
}

// Restore implements raft.FSM. The machine never goes back: a snapshot of a state
// that it has passed changes nothing.
func (a *adapter) Restore(source io.ReadCloser) error {
	if err := a.failure(); err != nil {
		return err
	}
	index, payload, err := a.imprint.open(source)
	if err != nil && !errors.Is(err, ErrIncompatible) && !errors.Is(err, ErrForeign) {
		return err // damaged on the way: the leader sends it again
	}
	if err == nil && index > a.applied.Load() {
		if err = a.machine.Restore(payload); err != nil {
			err = fmt.Errorf("restore raft snapshot: %w", err)
		}
	}
	if err != nil {
		a.fail(err)
		return err
	}
	if index > a.applied.Load() {
		a.advance(index)
	}
	return nil
}
