package devcluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/netx"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// look is how often the cluster is asked whether it is there.
const look = 50 * time.Millisecond

// quietFor is how long a wait needs no explanation.
const quietFor = 4 * time.Second

// await waits until the cluster has a leader that has heard of every ramd that was
// started, but for those that only an apply makes members: they are returned.
func (d *dev) await(ctx context.Context, p *place, c *spec.Cluster, run []*started, fresh bool) (waiting []string, err error) {
	told, quiet := "", time.Now().Add(quietFor)
	for {
		for _, s := range run {
			if !s.alive() {
				return nil, p.died(s)
			}
		}
		waiting, why, err := p.there(ctx, c, run, fresh)
		if err != nil || why == "" {
			return waiting, err
		}
		if why != told && time.Now().After(quiet) {
			d.say("  ... %s", why)
			told = why
		}
		select {
		case <-ctx.Done():
			return nil, p.overdue(ctx, run, why)
		case <-time.After(look):
		}
	}
}

// overdue says what the wait was for when it ended.
func (p *place) overdue(ctx context.Context, run []*started, why string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("interrupted; the ramds go on (%s)", why)
	}
	var tails strings.Builder
	for _, s := range run {
		fmt.Fprintf(&tails, "\nThe end of the log of node %s, %s:\n%s", s.node, p.log(s.node), p.tail(s.node, s.from))
	}
	return fmt.Errorf("the cluster is not there in time (--timeout): %s%s", why, tails.String())
}

// there looks once. An empty reason means that all is there.
func (p *place) there(ctx context.Context, c *spec.Cluster, run []*started, fresh bool) (waiting []string, why string, err error) {
	if err := p.keepToken(); err != nil {
		return nil, "", err
	}
	if !p.formed() {
		return nil, "the ramds have not formed a cluster yet", nil
	}
	client, err := p.client()
	if err != nil {
		return nil, "", err
	}
	ask, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	status, err := client.Status(ask)
	if err != nil {
		return nil, err.Error(), nil
	}
	if status.Raft.Leader == "" || !status.Raft.HasQuorum {
		return nil, "the ramds have no leader yet", nil
	}
	members, err := expected(ask, client, c, status, fresh)
	if err != nil {
		return nil, err.Error(), nil
	}
	for _, s := range run {
		if !p.listens(ask, s.node) {
			return nil, fmt.Sprintf("ramd of node %s does not listen yet", s.node), nil
		}
		if !slices.Contains(members, s.node) {
			waiting = append(waiting, s.node)
			continue
		}
		if !heard(status, s.node) || !p.isMember(ask, s.node, s.pid) {
			return nil, fmt.Sprintf("node %s is not a member yet", s.node), nil
		}
	}
	return waiting, "", nil
}

// expected are the nodes that become members without an apply: all of a new
// cluster, later those of the spec in force and the voters.
func expected(ctx context.Context, client *api.Client, c *spec.Cluster, status reconcile.Status, fresh bool) ([]string, error) {
	names := slices.Clone(status.Raft.Voters)
	if fresh {
		for _, n := range c.Nodes {
			names = append(names, n.Name)
		}
		return names, nil
	}
	if status.Revision == 0 {
		return names, nil
	}
	answer, err := client.Spec(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range answer.Spec.Nodes {
		names = append(names, n.Name)
	}
	return names, nil
}

// heard reports whether the leader has had a report of a node, so that a plan
// does not have to wait for one.
func heard(status reconcile.Status, node string) bool {
	return slices.ContainsFunc(status.Nodes, func(n reconcile.NodeStatus) bool { return n.Name == node && n.LastSeen >= 0 })
}

// listens reports whether somebody answers at a node's address; it was free before
// its ramd was started.
func (p *place) listens(ctx context.Context, node string) bool {
	conn, err := netx.Dial(ctx, p.address(node))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// isMember asks the ramd of a node itself; another process than the one that was
// started does not count.
func (p *place) isMember(ctx context.Context, node string, pid int) bool {
	client, err := p.client(p.address(node))
	if err != nil {
		return false
	}
	info, err := client.Info(ctx)
	return err == nil && info.PID == pid && info.Phase == "member"
}

// formed reports whether the cluster has an admin token, which it has from its
// first record on.
func (p *place) formed() bool {
	_, err := os.Stat(p.tokenFile())
	return err == nil
}

// keepToken copies the admin token to where it stays when the node that it was
// found on is removed.
func (p *place) keepToken() error {
	if p.formed() {
		return nil
	}
	for _, m := range p.Nodes {
		text, err := os.ReadFile(p.token(m.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		return renameio.WriteFile(p.tokenFile(), text, 0o600, renameio.IgnoreUmask())
	}
	return nil
}

// client reaches the cluster by the addresses, or by those of all its nodes.
func (p *place) client(addrs ...string) (*api.Client, error) {
	if len(addrs) == 0 {
		addrs = p.addresses()
	}
	token, err := os.ReadFile(p.tokenFile())
	if err != nil {
		return nil, err
	}
	return api.NewClient(api.ClientConfig{
		Addrs: addrs, Token: strings.TrimSpace(string(token)), Attempt: 2 * time.Second, Transport: netx.NewTransport(),
	})
}

func (p *place) address(node string) string {
	for _, m := range p.Nodes {
		if m.Name == node {
			return m.Address
		}
	}
	return ""
}

func (p *place) addresses() []string {
	var addrs []string
	for _, m := range p.Nodes {
		addrs = append(addrs, m.Address)
	}
	return addrs
}
