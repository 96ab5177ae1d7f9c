package raftstore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCommandsReachEveryMemberInOrder(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	for i, command := range []string{"one", "two", "three"} {
		result, err := c.leader().Propose(t.Context(), []byte(command))
		must(t, err)
		if result != i+1 {
			t.Errorf("answer to %s is %v, want %d", command, result, i+1)
		}
	}
	c.converge("one", "two", "three")
	if diff := cmp.Diff(c.nodes["a"].machine.lines, c.nodes["b"].machine.lines); diff != "" {
		t.Errorf("b holds other indexes than a:\n%s", diff)
	}
}

func TestRejectedCommandIsANormalResult(t *testing.T) {
	c := bootstrapped(t, "a")
	before := c.leader().Applied()
	if _, err := c.leader().Propose(t.Context(), []byte("reject this")); err != errRejected {
		t.Fatalf("proposer got %v, want the machine's own error", err)
	}
	if c.leader().Applied() <= before {
		t.Error("a rejected command does not count as applied")
	}
	c.propose("one")
	c.converge("one")
}

func TestFollowerRefusesAndNamesTheLeader(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	leader, follower := c.leader(), c.follower()
	c.eventually("the follower to know the leader", func() bool { _, _, ok := follower.Leader(); return ok })
	calls := map[string]func() error{
		"Propose":            func() error { _, err := follower.Propose(t.Context(), []byte("x")); return err },
		"Barrier":            func() error { return follower.Barrier(t.Context()) },
		"VerifyLeader":       func() error { return follower.VerifyLeader(t.Context()) },
		"AddVoter":           func() error { return follower.AddVoter(t.Context(), leader.Self()) },
		"AddNonvoter":        func() error { return follower.AddNonvoter(t.Context(), leader.Self()) },
		"RemoveMember":       func() error { return follower.RemoveMember(t.Context(), leader.name) },
		"Promote":            func() error { return follower.Promote(t.Context(), leader.name) },
		"Demote":             func() error { return follower.Demote(t.Context(), leader.name) },
		"TransferLeadership": func() error { return follower.TransferLeadership(t.Context(), "") },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			err := call()
			wantError(t, err, ErrNotLeader, leader.name, leader.Address())
			var refusal *NotLeaderError
			want := NotLeaderError{Leader: leader.name, Address: leader.Address()}
			if !errors.As(err, &refusal) || *refusal != want {
				t.Errorf("refusal is %+v, want %+v", refusal, want)
			}
		})
	}
}

func TestNodeIsBootstrappedOnce(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.nodes["a"], c.nodes["b"]
	state := func(n *node) bool {
		t.Helper()
		has, err := n.HasState()
		must(t, err)
		return has
	}
	if state(a) {
		t.Error("a new directory has state")
	}
	if err := a.Bootstrap(t.Context(), []Member{b.Self()}); err == nil {
		t.Error("a node bootstraps a cluster without itself")
	}
	members := []Member{b.Self(), a.Self()}
	must(t, a.Bootstrap(t.Context(), members))
	if !state(a) {
		t.Error("a bootstrapped node has no state")
	}
	wantError(t, a.Bootstrap(t.Context(), members), ErrHasState)
	// The other may be told the same, or that it is late already.
	slices.Reverse(members)
	if err := b.Bootstrap(t.Context(), members); err != nil && !errors.Is(err, ErrHasState) {
		t.Fatal(err)
	}
	c.propose("one")
	c.converge("one")
	for i := range members {
		members[i].Voter = true
	}
	if diff := cmp.Diff(members, c.leader().Members()); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

func TestMinorityCommitsNothing(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	c.propose("one")
	old := c.leader()
	c.network.cutOff(old.name)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := old.Propose(ctx, []byte("lost"))
	if !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNotLeader) {
		t.Fatalf("the cut-off leader answered %v", err)
	}
	c.eventually("the cut-off leader to step down", func() bool { return !old.IsLeader() && !old.HasQuorum() })
	if _, err := old.Propose(ctx, []byte("late")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("without a majority a proposal gives %v", err)
	}
	c.propose("two")
	if diff := cmp.Diff([]string{"one"}, old.machine.commands()); diff != "" {
		t.Errorf("the minority applied (-want +got):\n%s", diff)
	}
	c.network.heal(old.name)
	c.converge("one", "two")
	if age, ok := old.LeaderContact(); !ok || !old.HasQuorum() {
		t.Errorf("after healing: contact %v %v, quorum %v", age, ok, old.HasQuorum())
	}
}

func TestLeadershipMovesToTheNamedVoter(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	target := c.follower()
	must(t, c.leader().TransferLeadership(t.Context(), target.name))
	c.eventually(target.name+" to lead", target.IsLeader)
	must(t, target.TransferLeadership(t.Context(), target.name))
	if err := c.leader().TransferLeadership(t.Context(), "nobody"); err == nil {
		t.Error("leadership was handed to a node that does not exist")
	}
	c.propose("one")
	c.converge("one")
}

func TestLeadRunsWhileLeadingAndOnlyThen(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	c.propose("one")
	type event struct {
		node, what string
		has        []string
	}
	events := make(chan event, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for name, n := range c.nodes {
		go func() {
			ended <- n.Lead(ctx, func(ctx context.Context) error {
				events <- event{name, "leads", n.machine.commands()}
				<-ctx.Done()
				events <- event{name, "led", nil}
				return ctx.Err()
			})
		}()
	}
	leading := map[string]bool{}
	record := func(e event) {
		t.Helper()
		if leading[e.node] == (e.what == "leads") {
			t.Errorf("%s %s twice", e.node, e.what)
		}
		leading[e.node] = e.what == "leads"
		if e.what == "leads" && !slices.Contains(e.has, "one") {
			t.Errorf("%s leads without what was committed before", e.node)
		}
	}
	until := func(done func() bool) {
		t.Helper()
		for !done() {
			select {
			case e := <-events:
				record(e)
			case <-time.After(patience):
				t.Fatalf("no event; leading: %v", leading)
			}
		}
	}
	first := c.leader()
	until(func() bool { return leading[first.name] })
	must(t, first.TransferLeadership(t.Context(), c.follower().name))
	until(func() bool { return !leading[first.name] && len(leading) > 1 })
	cancel()
	for range c.nodes {
		if err := <-ended; err != nil {
			t.Errorf("Lead returned %v when its context ended", err)
		}
	}
	for close(events); ; {
		e, ok := <-events
		if !ok {
			break
		}
		record(e)
	}
	for name, still := range leading {
		if still {
			t.Errorf("%s leads on after the end", name)
		}
	}
}

func TestLeadReturnsWhatLeadReturns(t *testing.T) {
	c := bootstrapped(t, "a")
	broken := errors.New("cannot lead")
	if err := c.nodes["a"].Lead(t.Context(), func(context.Context) error { return broken }); err != broken {
		t.Errorf("Lead returned %v", err)
	}
	ended := make(chan error, 1)
	leading := make(chan struct{})
	go func() {
		ended <- c.nodes["a"].Lead(t.Context(), func(context.Context) error { close(leading); return nil })
	}()
	<-leading
	must(t, c.nodes["a"].Close())
	wantError(t, <-ended, ErrClosed)
}

func TestChangedIsNeverMissed(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	follower := c.follower()
	for range 50 {
		changed, before := follower.Changed(), follower.Applied()
		c.propose("x")
		must(t, follower.WaitApplied(t.Context(), c.leader().Applied()))
		if follower.Applied() == before {
			t.Fatal("nothing was applied")
		}
		select {
		case <-changed:
		case <-time.After(patience):
			t.Fatal("the machine went on, and the channel that was taken before is open")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, follower.WaitApplied(ctx, 1<<40), context.Canceled)
}

func TestClosedStoreRefuses(t *testing.T) {
	c := bootstrapped(t, "a")
	a := c.nodes["a"]
	must(t, a.Close())
	must(t, a.Close())
	_, err := a.Propose(t.Context(), []byte("x"))
	wantError(t, err, ErrClosed)
	wantError(t, a.Barrier(t.Context()), ErrClosed)
	wantError(t, a.WaitApplied(t.Context(), 1<<40), ErrClosed)
	wantError(t, a.Run(t.Context()), ErrClosed)
	wantError(t, a.Err(), ErrClosed)
}

func TestGivenUpProposalIsOfUnknownOutcome(t *testing.T) {
	c := bootstrapped(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.leader().Propose(ctx, []byte("x")); err != context.Canceled {
		t.Errorf("a proposal that was given up before it began gives %v", err)
	}
	c.converge()
}
