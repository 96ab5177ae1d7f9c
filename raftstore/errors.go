package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

var (
	// ErrIncompatible says that the log or a snapshot was written by a newer ramd.
	// A Machine returns it (wrapped or bare) from Apply or Restore; the store then
	// applies nothing more, stops and reports it.
	ErrIncompatible = errors.New("this ramd is older than the cluster's log; upgrade it")

	// ErrNotLeader is what every *NotLeaderError is.
	ErrNotLeader = errors.New("this node is not the leader")

	// ErrOutcomeUnknown says that a proposed command was on its way when the
	// proposer stopped waiting or leadership was lost: it may have been applied, it
	// may yet be, or never.
	ErrOutcomeUnknown = errors.New("the command may or may not have been applied; look at the record before repeating it")

	// ErrClosed is returned by every call on a store that was closed.
	ErrClosed = errors.New("the raft store is closed")

	// ErrHasState refuses to bootstrap a node that already has a log, a vote or a
	// snapshot.
	ErrHasState = errors.New("this node already belongs to a cluster; it cannot be bootstrapped again")

	// ErrLocked says that another process has the directory open.
	ErrLocked = errors.New("another ramd is already running on it; stop that one, or give this one its own --data-dir")

	// ErrForeign says that the directory was made for another node or cluster.
	ErrForeign = errors.New("it was made for another node")

	// ErrNewerFormat says that the directory was made by a newer ramd.
	ErrNewerFormat = errors.New("it was written by a newer ramd")

	// ErrDamaged says that what the directory holds is not what was written, and
	// that the rest of it cannot make up for the loss.
	ErrDamaged = errors.New("it is damaged")
)

// NotLeaderError refuses what only the leader may do, and says where to go.
type NotLeaderError struct {
	// Leader is the leader's node name and Address its raft address; both are empty
	// while none is known.
	Leader, Address string
}

// Error names the leader when it is known.
func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return ErrNotLeader.Error() + ", and no leader is known; try again"
	}
	return fmt.Sprintf("%v; ask %s at %s", ErrNotLeader, e.Leader, e.Address)
}

// Is makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// translate turns raft's error into this package's. Loss of leadership is reported
// like its absence: who must know the difference looks before.
func (s *Store) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return s.notLeader()
	case errors.Is(err, raft.ErrRaftShutdown):
		return s.reason()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		return fmt.Errorf("raft: %w", err)
	}
}

// notLeader is the refusal that points to the leader; a node that is just losing
// or handing over leadership does not point to itself.
func (s *Store) notLeader() error {
	name, address, ok := s.Leader()
	if !ok || name == s.name {
		return &NotLeaderError{}
	}
	return &NotLeaderError{Leader: name, Address: address}
}
