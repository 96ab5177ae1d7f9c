package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/raftstore"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// hello is this ramd's answer to whoever asks.
func (l *life) hello() hello {
	rec := l.machine.Record()
	has, _ := l.store.HasState()
	return hello{
		Cluster: l.start.spec.Name, Node: l.start.node.Name, Incarnation: l.store.Incarnation(),
		HasState: has, Formed: rec.Formed(), Voters: l.start.spec.Voters(), Founding: l.founding.Load(),
	}
}

const formingInterval = 300 * time.Millisecond

// belong makes a ramd without state a member: of the cluster that one of the
// others already has, or of a new one once every initial voter has said that it
// has none. It returns when this node is a member.
func (l *life) belong(ctx context.Context) error {
	for first := true; !l.store.IsMember(); first = false {
		if !first && !sleep(ctx, formingInterval) {
			return nil
		}
		has, err := l.store.HasState()
		if err != nil {
			return err
		}
		if has {
			continue // it has been added, and learns so from the log
		}
		reason, err := l.approach(ctx)
		if err != nil {
			return err
		}
		l.setReason(reason)
	}
	l.setReason("")
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// approach asks all others once and does what their answers allow. The reason
// says why that is not yet enough.
func (l *life) approach(ctx context.Context) (reason string, err error) {
	answers, silent := l.askAll(ctx)
	for _, n := range l.start.spec.Nodes {
		h, ok := answers[n.Name]
		if !ok || !h.HasState {
			continue
		}
		if h.Cluster != l.start.spec.Name {
			return fmt.Sprintf("%s at %s belongs to cluster %q: correct the spec", n.Name, n.Host, h.Cluster), nil
		}
		return l.join(ctx, n), nil
	}
	voters := l.start.spec.Voters()
	if missing := intersect(voters, silent); len(missing) > 0 {
		return fmt.Sprintf("waiting for ramd on %s", strings.Join(missing, ", ")), nil
	}
	for name, h := range answers {
		if slices.Contains(voters, name) && !slices.Equal(h.Voters, voters) {
			return fmt.Sprintf("node %s was started with a spec whose voters are %s, here they are %s: start all nodes with the same spec",
				name, strings.Join(h.Voters, ", "), strings.Join(voters, ", ")), nil
		}
	}
	if founder := voters[0]; founder != l.start.node.Name {
		return fmt.Sprintf("waiting for %s to form the cluster", founder), nil
	}
	return l.found(ctx, answers)
}

// askAll says hello to every other node of the spec, all at once.
func (l *life) askAll(ctx context.Context) (answers map[string]hello, silent []string) {
	type answer struct {
		name string
		hello
		err error
	}
	others := slices.DeleteFunc(slices.Clone(l.start.spec.Nodes), func(n spec.Node) bool { return n.Name == l.start.node.Name })
	results := make(chan answer, len(others))
	for _, n := range others {
		go func() {
			h, err := l.peers.hello(ctx, address(n.Host, n.Ports.API))
			if err == nil && h.Node != n.Name {
				err = fmt.Errorf("%s answers as node %s", n.Host, h.Node)
			}
			results <- answer{n.Name, h, err}
		}()
	}
	answers = map[string]hello{}
	for range others {
		if a := <-results; a.err != nil {
			silent = append(silent, a.name)
		} else {
			answers[a.name] = a.hello
		}
	}
	return answers, silent
}

func intersect(a, b []string) []string {
	var both []string
	for _, v := range a {
		if slices.Contains(b, v) {
			both = append(both, v)
		}
	}
	return both
}

// found bootstraps the Raft group. Every other initial voter is given the
// cluster's identity first, so that it takes part, and refuses when it has state
// or is being founded by another.
func (l *life) found(ctx context.Context, answers map[string]hello) (reason string, err error) {
	id := l.identity()
	if id.ClusterID == "" {
		id = identity{ClusterID: newSecret()[:16], PeerToken: newSecret()}
	}
	l.founding.Store(id.ClusterID)
	voters := l.start.spec.Voters()
	var members []raftstore.Member
	for _, name := range voters {
		n, _ := l.start.spec.Node(name)
		m := raftstore.Member{Name: name, Incarnation: answers[name].Incarnation, Address: address(n.Host, n.Ports.Raft), Voter: true}
		if name == l.start.node.Name {
			m = l.store.Self()
			m.Voter = true
		} else {
			call := founding{Cluster: l.start.spec.Name, Founder: l.start.node.Name, Voters: voters, Identity: id}
			if err := l.peers.call(ctx, address(n.Host, n.Ports.API), http.MethodPost, pathFound, call, nil); err != nil {
				return fmt.Sprintf("node %s does not take part yet: %s", name, err), nil
			}
		}
		members = append(members, m)
	}
	if err := l.setIdentity(id); err != nil {
		return "", err
	}
	if err := l.store.Bootstrap(ctx, members); err != nil && !errors.Is(err, raftstore.ErrHasState) {
		return "", fmt.Errorf("bootstrap: %w", err)
	}
	l.log.Info().Strs("voters", voters).Msg("formed the Raft group")
	return "", nil
}

// beFounded is the other voters' side of found.
func (l *life) beFounded(ctx context.Context, f founding) error {
	voters := l.start.spec.Voters()
	has, err := l.store.HasState()
	switch {
	case err != nil:
		return err
	case has:
		return api.Errorf(http.StatusConflict, "node %s already belongs to a cluster", l.start.node.Name)
	case f.Cluster != l.start.spec.Name || f.Founder != voters[0] || !slices.Equal(f.Voters, voters):
		return api.Errorf(http.StatusConflict, "node %s was started with another spec", l.start.node.Name)
	}
	founder, _ := l.start.spec.Node(f.Founder)
	h, err := l.peers.hello(ctx, address(founder.Host, founder.Ports.API))
	if err != nil || h.Node != f.Founder || h.Founding != f.Identity.ClusterID {
		return api.Errorf(http.StatusForbidden, "node %s does not confirm that it forms the cluster", f.Founder)
	}
	return l.setIdentity(f.Identity)
}

// join asks the cluster that n belongs to for admission.
func (l *life) join(ctx context.Context, n spec.Node) (reason string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var id identity
	in := joining{Cluster: l.start.spec.Name, Node: l.start.node.Name, Incarnation: l.store.Incarnation()}
	err := l.peers.call(ctx, address(n.Host, n.Ports.API), http.MethodPost, pathJoin, in, &id)
	if hasStatus(err, http.StatusServiceUnavailable) {
		return "the cluster is choosing its leader"
	}
	if err != nil {
		return fmt.Sprintf("waiting to be admitted: %s", err)
	}
	if err := l.setIdentity(id); err != nil {
		return err.Error()
	}
	l.log.Info().Msg("admitted to the cluster")
	return "waiting for the leader's log"
}

// admit is the leader's side of join: the node is in the spec, and the ramd at
// the address that the spec gives it says that it is the one that asks.
func (l *life) admit(ctx context.Context, in joining) (identity, error) {
	rec := l.machine.Record()
	want := rec.Spec
	if want == nil {
		want = l.start.spec
	}
	if !rec.Formed() {
		return identity{}, errStarting
	}
	n, ok := want.Node(in.Node)
	if !ok || in.Cluster != rec.Cluster {
		return identity{}, api.Errorf(http.StatusForbidden, "node %s is not in revision %d of the spec of cluster %q: apply a spec that has it", in.Node, rec.Revision, rec.Cluster)
	}
	h, err := l.peers.hello(ctx, address(n.Host, n.Ports.API))
	if err != nil || h.Node != in.Node || h.Incarnation != in.Incarnation || h.HasState {
		return identity{}, api.Errorf(http.StatusForbidden, "the ramd at %s, which is node %s in the spec, does not confirm the request", address(n.Host, n.Ports.API), in.Node)
	}
	m := raftstore.Member{Name: n.Name, Incarnation: in.Incarnation, Address: address(n.Host, n.Ports.Raft)}
	if err := l.store.AddNonvoter(ctx, m); err != nil {
		return identity{}, err
	}
	cmd := reconcile.Command{At: time.Now().UTC(), By: l.start.node.Name, Admit: &reconcile.Admit{Member: memberOf(n, in.Incarnation, time.Now().UTC())}}
	if err := l.ledger().Propose(ctx, cmd); err != nil {
		return identity{}, err
	}
	return l.identity(), nil
}

func memberOf(n spec.Node, incarnation string, at time.Time) reconcile.Member {
	return reconcile.Member{
		Name: n.Name, Incarnation: incarnation, Host: n.Host,
		APIPort: n.Ports.API, RaftPort: n.Ports.Raft, JoinedAt: at,
	}
}

// formRecord makes the first record. Whoever leads first does it, since the one
// that bootstrapped may have died in between.
func (l *life) formRecord(ctx context.Context) error {
	if l.machine.Record().Formed() {
		return nil
	}
	id := l.identity()
	form := reconcile.Form{
		Cluster: l.start.spec.Name, ClusterID: id.ClusterID,
		Secrets: reconcile.Secrets{
			AdminToken: newSecret(), PeerToken: id.PeerToken, Superuser: newSecret(), Replication: newSecret(),
		},
	}
	for _, m := range l.store.Members() {
		if n, ok := l.start.spec.Node(m.Name); ok {
			form.Members = append(form.Members, memberOf(n, m.Incarnation, time.Now().UTC()))
		}
	}
	return l.ledger().Propose(ctx, reconcile.Command{At: time.Now().UTC(), By: l.start.node.Name, Form: &form})
}
