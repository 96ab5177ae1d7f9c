package daemon

import (
	"context"
	"errors"

	"github.com/ramhq/ram/raftstore"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/leader"
)

// group is the Raft group as the leader's loop wants it.
type group struct {
	name  string
	store *raftstore.Store
}

// Members is leader.Group's.
func (g group) Members() []reconcile.RaftMember {
	members := g.store.Members()
	list := make([]reconcile.RaftMember, len(members))
	for i, m := range members {
		list[i] = reconcile.RaftMember{Name: m.Name, Incarnation: m.Incarnation, Voter: m.Voter}
	}
	return list
}

// SetVoter is leader.Group's.
func (g group) SetVoter(ctx context.Context, node string, voter bool) error {
	if voter {
		return g.store.Promote(ctx, node)
	}
	return handedOver(g.store.Demote(ctx, node))
}

// Transfer is leader.Group's.
func (g group) Transfer(ctx context.Context, node string) error {
	return g.store.TransferLeadership(ctx, node)
}

// Remove is leader.Group's.
func (g group) Remove(ctx context.Context, node string) error {
	return handedOver(g.store.RemoveMember(ctx, node))
}

func handedOver(err error) error {
	var notLeader *raftstore.NotLeaderError
	if errors.As(err, &notLeader) {
		return leader.ErrHandedOver
	}
	return err
}
