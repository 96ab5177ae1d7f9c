package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/raftstore"
	"github.com/ramhq/ram/reconcile"
)

// machine gives replicated commands their meaning: it applies reconcile.Transition
// to the record.
type machine struct {
	record atomic.Pointer[reconcile.Record] // never nil

	mu      sync.Mutex
	changed chan struct{} // guarded by mu; closed and replaced with each new record
}

func newMachine() *machine {
	m := &machine{changed: make(chan struct{})}
	m.record.Store(&reconcile.Record{})
	return m
}

// Record is the latest record.
func (m *machine) Record() *reconcile.Record { return m.record.Load() }

// Changed is closed when the record changes next.
func (m *machine) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *machine) set(rec *reconcile.Record) {
	m.record.Store(rec)
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// Apply is raftstore.Machine's. Its result is the new record.
func (m *machine) Apply(_ uint64, command []byte) (any, error) {
	cmd, err := reconcile.DecodeCommand(command)
	if errors.Is(err, reconcile.ErrNewerCommand) {
		return nil, fmt.Errorf("%w: %w", raftstore.ErrIncompatible, err)
	}
	if err != nil {
		return nil, err
	}
	next, err := reconcile.Transition(m.Record(), cmd)
	if err != nil {
		return nil, err
	}
	m.set(next)
	return next, nil
}

// Snapshot is raftstore.Machine's.
func (m *machine) Snapshot() ([]byte, error) { return json.Marshal(m.Record()) }

// Restore is raftstore.Machine's.
func (m *machine) Restore(snapshot []byte) error {
	var rec reconcile.Record
	if err := json.Unmarshal(snapshot, &rec); err != nil {
		return fmt.Errorf("decode record: %w", err)
	}
	if rec.Format > reconcile.RecordFormat {
		return fmt.Errorf("%w: record format %d, this ramd knows %d", raftstore.ErrIncompatible, rec.Format, reconcile.RecordFormat)
	}
	m.set(&rec)
	return nil
}

// ledger is the record as the leader's loop wants it: machine to read, store to
// propose.
type ledger struct {
	*machine
	store *raftstore.Store
}

// Propose replicates a command.
func (l ledger) Propose(ctx context.Context, cmd reconcile.Command) error {
	_, err := l.propose(ctx, cmd)
	return err
}

// errMoved has ramctrl ask again: nothing was done, and there will be another leader.
var errMoved = api.Errorf(http.StatusMisdirectedRequest, "leadership is changing hands, and nothing was done")

// propose also returns the record that the command made.
func (l ledger) propose(ctx context.Context, cmd reconcile.Command) (*reconcile.Record, error) {
	b, err := reconcile.EncodeCommand(cmd)
	if err != nil {
		return nil, err
	}
	result, err := l.store.Propose(ctx, b)
	if errors.Is(err, raftstore.ErrNotLeader) && !errors.Is(err, raftstore.ErrOutcomeUnknown) {
		return nil, fmt.Errorf("%w: %w", errMoved, err)
	}
	if err != nil {
		return nil, err
	}
	return result.(*reconcile.Record), nil
}
