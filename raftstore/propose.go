package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Propose replicates a command and returns the Machine's answer to it, once a
// majority has it on disk and this node's Machine has applied it. The command must
// not be changed afterwards.
//
// Without leadership it fails with a *NotLeaderError, and the command is surely
// not applied. When leadership is lost meanwhile, ctx ends or the store closes, the
// error is ErrOutcomeUnknown. Any other error is the Machine's own.
func (s *Store) Propose(ctx context.Context, command []byte) (result any, err error) {
	if !s.IsLeader() {
		return nil, s.refuseFollower()
	}
	var future raft.ApplyFuture
	begun, err := s.await(ctx, func() raft.Future {
		future = s.raft.Apply(command, 0)
		return future
	})
	if err == nil {
		answer := future.Response().(outcome)
		return answer.result, answer.err
	}
	refused := errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress)
	if !begun || refused {
		return nil, s.translate(err)
	}
	return nil, fmt.Errorf("%w (%w)", ErrOutcomeUnknown, s.translate(err))
}

// Barrier returns when this leader's Machine has applied every command that was
// committed before.
func (s *Store) Barrier(ctx context.Context) error {
	return s.call(ctx, func() raft.Future { return s.raft.Barrier(0) })
}

// VerifyLeader returns nil when a majority has confirmed, since the call, that
// this node is the leader.
func (s *Store) VerifyLeader(ctx context.Context) error {
	return s.call(ctx, func() raft.Future { return s.raft.VerifyLeader() })
}

// Snapshot writes a snapshot now and drops the log entries that it makes
// superfluous. It does nothing when there is nothing new.
func (s *Store) Snapshot(ctx context.Context) error {
	stored, err := s.snapshots.List()
	if err != nil {
		return fmt.Errorf("raft snapshots: %w", err)
	}
	if len(stored) > 0 && stored[0].Index >= s.Applied() {
		return nil
	}
	_, err = s.await(ctx, func() raft.Future { return s.raft.Snapshot() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return s.translate(err)
}

// Applied is the newest log index that the Machine reflects; zero when it is
// empty. It grows with every command and every change of the members.
func (s *Store) Applied() uint64 { return s.adapter.applied.Load() }

// Changed returns a channel that is closed at the next change of what this store
// shows: something was applied, the members or the leader changed, it stopped. Take
// the channel first and look then, or the change in between is missed.
func (s *Store) Changed() <-chan struct{} { return s.changes.changed() }

// WaitApplied returns when Applied has reached index.
func (s *Store) WaitApplied(ctx context.Context, index uint64) error {
	for {
		changed := s.Changed()
		if s.Applied() >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.adapter.failed:
			return s.adapter.failure()
		case <-s.stopped:
			return s.reason()
		}
	}
}

// call awaits what the caller may simply repeat when it fails.
func (s *Store) call(ctx context.Context, begin func() raft.Future) error {
	_, err := s.await(ctx, begin)
	return s.translate(err)
}

// await begins something and waits for raft's answer, for ctx or for the store's
// end; begun is false when it was not handed to raft at all. Raft's futures know no
// context, so a goroutine waits for them; Close waits for those that were given up too.
func (s *Store) await(ctx context.Context, begin func() raft.Future) (begun bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if !s.enter() {
		return false, raft.ErrRaftShutdown
	}
	done := make(chan error, 1)
	go func() {
		defer s.calls.Done()
		done <- begin().Error()
	}()
	select {
	case err := <-done:
		return true, err
	case <-ctx.Done():
		return true, ctx.Err()
	case <-s.stopped:
		return true, raft.ErrRaftShutdown
	}
}
