package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// reign numbers this node's leaderships, so that one that was lost and won again
// between two looks is not taken for one.
type reign struct {
	number  uint64
	leading bool
}

func (s *Store) reigned(leading bool) {
	s.mu.Lock()
	changed := s.reign.leading != leading
	s.reign.leading = leading
	if leading {
		s.reign.number++
	}
	s.mu.Unlock()
	if changed {
		s.logger.Info().Bool("leading", leading).Msg("raft leadership changed")
	}
	s.reigns.notify()
	s.changes.notify()
}

func (s *Store) leaderChanged() {
	if name, _, ok := s.Leader(); ok && name != s.name {
		s.logger.Info().Str("leader", name).Msg("raft leader is known")
	}
	s.changes.notify()
}

func (s *Store) currentReign() reign {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reign
}

// Lead runs lead whenever this node is the leader, until ctx ends (it returns nil)
// or the store stops (it returns why). Each time, the Machine has applied all that
// earlier leaders committed before lead begins; lead's context ends when
// leadership does, and no other lead begins before it has returned. An error that
// lead returns while it still leads ends Lead and is returned, except a
// *NotLeaderError, after which it is run again; when it returns nil it is not run
// again in the same leadership.
func (s *Store) Lead(ctx context.Context, lead func(ctx context.Context) error) error {
	for {
		changed := s.reigns.changed()
		var again <-chan time.Time
		if now := s.currentReign(); now.leading {
			err := s.leadOnce(ctx, now, lead)
			switch {
			case ctx.Err() != nil:
				return nil
			case s.currentReign() != now:
				continue
			case errors.Is(err, ErrNotLeader), errors.Is(err, ErrClosed):
				// A transfer of leadership that may yet fail, or the beginning of the end.
				again = time.After(leadAgain)
			case err != nil:
				return err
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return nil
		case <-s.stopped:
			return s.reason()
		}
	}
}

// leadAgain is how long a leader that was refused waits before it tries to lead
// again.
const leadAgain = 50 * time.Millisecond

// leadOnce runs lead for one reign.
func (s *Store) leadOnce(ctx context.Context, now reign, lead func(ctx context.Context) error) error {
	reigning, abdicate := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer abdicate()
	watching.Go(func() {
		defer abdicate()
		s.waitReignEnds(reigning, now)
	})
	if err := s.Barrier(reigning); err != nil {
		return err
	}
	return lead(reigning)
}

// Reign numbers this node's leaderships since Open; it means nothing while it does
// not lead.
func (s *Store) Reign() uint64 { return s.currentReign().number }

func (s *Store) waitReignEnds(ctx context.Context, now reign) {
	for {
		changed := s.reigns.changed()
		if s.currentReign() != now {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// IsLeader reports whether this node believes that it is the leader. A leader that
// was cut off believes it for Timeouts.Lease; VerifyLeader asks the others.
func (s *Store) IsLeader() bool { return s.raft.State() == raft.Leader }

// Leader is the leader's node name and raft address, as far as this node knows;
// ok is false while it knows none.
func (s *Store) Leader() (name, address string, ok bool) {
	addr, id := s.raft.LeaderWithID()
	name, _ = splitID(string(id))
	return name, string(addr), name != ""
}

// LeaderContact is the time since a leader was last heard; zero on the leader
// itself. ok is false when none was since Open.
func (s *Store) LeaderContact() (age time.Duration, ok bool) {
	if s.IsLeader() {
		return 0, true
	}
	last := s.raft.LastContact()
	if last.IsZero() {
		return 0, false
	}
	return time.Since(last), true
}

// HasQuorum reports whether this node leads a majority or has heard from one that
// does within an election timeout. It is for showing, not for deciding.
func (s *Store) HasQuorum() bool {
	if s.IsLeader() {
		return true
	}
	_, _, known := s.Leader()
	age, ok := s.LeaderContact()
	return known && ok && age <= s.timeouts.Election
}

// TransferLeadership hands leadership to the voter of a name, or to the most
// advanced one if the name is empty. It returns when this node has stopped to lead, which
// does not yet mean that the other has begun. It is done at once when that node
// is this one and leads.
func (s *Store) TransferLeadership(ctx context.Context, to string) error {
	if !s.IsLeader() {
		return s.refuseFollower()
	}
	if to == s.name {
		return nil
	}
	if to == "" {
		return s.call(ctx, func() raft.Future { return s.raft.LeadershipTransfer() })
	}
	for _, member := range s.Members() {
		if member.Name == to && member.Voter {
			server := member.server()
			return s.call(ctx, func() raft.Future {
				return s.raft.LeadershipTransferToServer(server.ID, server.Address)
			})
		}
	}
	return fmt.Errorf("node %s is not a raft voter; leadership can only go to one of %v", to, s.voterNames())
}

// refuseFollower is why a node that does not lead refuses: it is stopped, or
// another leads.
func (s *Store) refuseFollower() error {
	if err := s.Err(); err != nil {
		return err
	}
	return s.notLeader()
}
