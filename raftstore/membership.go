package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// Members are all members, in the order of their names, as the newest
// configuration in this node's log has them; on a node that is not the leader it may
// be old, and may yet be undone.
func (s *Store) Members() []Member {
	return membersOf(s.configuration().Servers)
}

// IsMember reports whether Members has this incarnation of this node. A node that
// was removed while it was away does not learn so here: its requests are refused,
// and the leader's Members lack it.
func (s *Store) IsMember() bool {
	return slices.ContainsFunc(s.Members(), func(m Member) bool { return m.ID() == string(s.id) })
}

func (s *Store) configuration() raft.Configuration {
	return s.raft.GetConfiguration().Configuration() // answers at once, and never fails
}

func (s *Store) otherVoters() bool {
	return slices.ContainsFunc(s.Members(), func(m Member) bool { return m.Voter && m.ID() != string(s.id) })
}

func (s *Store) voterNames() []string {
	var names []string
	for _, member := range s.Members() {
		if member.Voter {
			names = append(names, member.Name)
		}
	}
	return names
}

// Bootstrap makes this node one of the voters of a new cluster. All initial voters
// (whatever Voter says) are given, this node among them. It is done on one of them,
// which the others follow, or on any number with the same members. On a node that
// has state it fails with ErrHasState, and changes nothing.
func (s *Store) Bootstrap(ctx context.Context, members []Member) error {
	voters := slices.Clone(members)
	for i := range voters {
		if err := voters[i].check(); err != nil {
			return fmt.Errorf("bootstrap raft: %w", err)
		}
		voters[i].Voter = true
	}
	if !slices.ContainsFunc(voters, func(m Member) bool { return m.ID() == string(s.id) }) {
		return fmt.Errorf("bootstrap raft: this node (%s) is not among the initial voters", s.id)
	}
	slices.SortFunc(voters, compareIDs)
	var configuration raft.Configuration
	for _, voter := range voters {
		configuration.Servers = append(configuration.Servers, voter.server())
	}
	err := s.call(ctx, func() raft.Future { return s.raft.BootstrapCluster(configuration) })
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrHasState
	}
	return err
}

// AddVoter makes a node a voting member at its address; the leader only. An
// earlier incarnation of the same name is removed first: both are one disk, so it
// can never answer again, and it still counts against the majority. The caller has made
// sure that the request came from that node. It is done when it is so already.
func (s *Store) AddVoter(ctx context.Context, member Member) error {
	member.Voter = true
	return s.add(ctx, member)
}

// AddNonvoter is AddVoter without a vote. A voter of the same ID loses its vote.
func (s *Store) AddNonvoter(ctx context.Context, member Member) error {
	member.Voter = false
	return s.add(ctx, member)
}

func (s *Store) add(ctx context.Context, member Member) error {
	if err := member.check(); err != nil {
		return fmt.Errorf("add raft member: %w", err)
	}
	s.membership.Lock()
	defer s.membership.Unlock()
	if err := s.remove(ctx, func(m Member) bool {
		return m.Name == member.Name && m.Incarnation != member.Incarnation
	}); err != nil {
		return err
	}
	for _, other := range s.Members() {
		if other.Address == member.Address && other.ID() != member.ID() {
			return fmt.Errorf("node %s cannot be a raft member at %s: node %s is there; give it its own host or ports.raft",
				member.Name, member.Address, other.Name)
		}
	}
	return s.become(ctx, member)
}

// Promote gives the member of a name its vote; the leader only. It is done when it
// has one.
func (s *Store) Promote(ctx context.Context, name string) error { return s.setVote(ctx, name, true) }

// Demote takes the vote from the member of a name; the leader only. It is done when
// it has none. A leader that is to demote itself hands leadership over and returns
// a *NotLeaderError: ask the next one.
func (s *Store) Demote(ctx context.Context, name string) error { return s.setVote(ctx, name, false) }

func (s *Store) setVote(ctx context.Context, name string, voter bool) error {
	s.membership.Lock()
	defer s.membership.Unlock()
	for _, member := range s.Members() {
		if member.Name == name {
			member.Voter = voter
			return s.become(ctx, member)
		}
	}
	if !s.IsLeader() {
		return s.refuseFollower()
	}
	return fmt.Errorf("node %s is not a raft member; add it first", name)
}

// become brings about that a member is as given, and waits until that is committed.
func (s *Store) become(ctx context.Context, member Member) error {
	if !s.IsLeader() {
		return s.refuseFollower()
	}
	servers := s.configuration().Servers
	known := slices.IndexFunc(servers, func(server raft.Server) bool { return string(server.ID) == member.ID() })
	wanted := member.server()
	if known >= 0 && servers[known] == wanted {
		return s.Barrier(ctx) // it may be in the log but not committed
	}
	losesVote := known >= 0 && servers[known].Suffrage == raft.Voter && !member.Voter
	if losesVote && wanted.ID == s.id {
		return s.stepAside(ctx)
	}
	if losesVote {
		if err := s.call(ctx, func() raft.Future { return s.raft.DemoteVoter(wanted.ID, 0, 0) }); err != nil {
			return err
		}
		if servers[known].Address == wanted.Address {
			return nil
		}
	}
	return s.call(ctx, func() raft.Future {
		if member.Voter {
			return s.raft.AddVoter(wanted.ID, wanted.Address, 0, 0)
		}
		return s.raft.AddNonvoter(wanted.ID, wanted.Address, 0, 0)
	})
}

// RemoveMember removes every incarnation of a node; the leader only. It is done
// when there is none. A leader that is to remove itself hands leadership over and
// returns a *NotLeaderError: ask the next one.
func (s *Store) RemoveMember(ctx context.Context, name string) error {
	s.membership.Lock()
	defer s.membership.Unlock()
	if err := s.remove(ctx, func(m Member) bool { return m.Name == name }); err != nil {
		return err
	}
	return s.Barrier(ctx) // it may be gone from the log's end but not by commitment
}

func (s *Store) remove(ctx context.Context, which func(Member) bool) error {
	if !s.IsLeader() {
		return s.refuseFollower()
	}
	for _, member := range s.Members() {
		if !which(member) {
			continue
		}
		id := raft.ServerID(member.ID())
		if id == s.id {
			return s.stepAside(ctx)
		}
		if err := s.call(ctx, func() raft.Future { return s.raft.RemoveServer(id, 0, 0) }); err != nil {
			return err
		}
	}
	return nil
}

// stepAside lets another leader do to this node what no leader does to itself.
func (s *Store) stepAside(ctx context.Context) error {
	if !s.otherVoters() {
		return errors.New("the only raft voter cannot be removed; add another one first")
	}
	if err := s.TransferLeadership(ctx, ""); err != nil {
		return err
	}
	return &NotLeaderError{}
}
