package raftstore

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// roles are the members as "name" for a voter and "name-" for a nonvoter.
func roles(members []Member) []string {
	var all []string
	for _, m := range members {
		if m.Voter {
			all = append(all, m.Name)
		} else {
			all = append(all, m.Name+"-")
		}
	}
	return all
}

// change has the leader, whoever it is, change the members.
func (c *cluster) change(what func(leader *node) error) {
	c.t.Helper()
	c.eventually("a change of the members", func() bool {
		err := what(c.leader())
		if err != nil && !errors.Is(err, ErrNotLeader) {
			c.t.Fatal(err)
		}
		return err == nil
	})
}

func (c *cluster) wantMembers(want ...string) {
	c.t.Helper()
	for name, n := range c.nodes {
		c.eventually(name+" to see the members", func() bool { return cmp.Equal(want, roles(n.Members())) })
	}
}

func TestMembershipCallsCanBeRepeated(t *testing.T) {
	ctx := t.Context()
	c := bootstrapped(t, "a")
	b := c.add("b")
	steps := []struct {
		name string
		call func(*node) error
		want []string
	}{
		{"add a nonvoter", func(l *node) error { return l.AddNonvoter(ctx, b.Self()) }, []string{"a", "b-"}},
		{"promote it", func(l *node) error { return l.Promote(ctx, "b") }, []string{"a", "b"}},
		{"demote it", func(l *node) error { return l.Demote(ctx, "b") }, []string{"a", "b-"}},
		{"add it as a voter", func(l *node) error { return l.AddVoter(ctx, b.Self()) }, []string{"a", "b"}},
		{"add it as a nonvoter", func(l *node) error { return l.AddNonvoter(ctx, b.Self()) }, []string{"a", "b-"}},
		{"remove it", func(l *node) error { return l.RemoveMember(ctx, "b") }, []string{"a"}},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			for range 2 {
				c.change(step.call)
				if diff := cmp.Diff(step.want, roles(c.leader().Members())); diff != "" {
					t.Errorf("members (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestLeaderIsRemovedByTheNextOne(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	old := c.leader()
	wantError(t, old.RemoveMember(t.Context(), old.name), ErrNotLeader)
	c.change(func(leader *node) error { return leader.RemoveMember(t.Context(), old.name) })
	delete(c.nodes, old.name)
	defer old.Close()
	c.propose("one")
	c.converge("one")
	if got := len(c.leader().Members()); got != 2 {
		t.Errorf("%d members are left of three", got)
	}
}

func TestLastVoterStays(t *testing.T) {
	c := bootstrapped(t, "a")
	if err := c.leader().RemoveMember(t.Context(), "a"); err == nil || errors.Is(err, ErrNotLeader) {
		t.Errorf("removing the only voter gives %v", err)
	}
	c.propose("one")
}

func TestTwoMembersDoNotShareAnAddress(t *testing.T) {
	c := bootstrapped(t, "a")
	err := c.leader().AddVoter(t.Context(), Member{Name: "b", Incarnation: "00000000", Address: c.nodes["a"].Address()})
	if err == nil {
		t.Fatal("b became a member at a's address")
	}
	if err := c.leader().Promote(t.Context(), "nobody"); err == nil {
		t.Error("a node that is no member was promoted")
	}
	for _, wrong := range []Member{
		{Name: "b#1", Incarnation: "00000000", Address: "127.0.0.1:1"},
		{Name: "b", Address: "127.0.0.1:1"},
		{Name: "b", Incarnation: "00000000"},
	} {
		if err := c.leader().AddVoter(t.Context(), wrong); err == nil {
			t.Errorf("%+v became a member", wrong)
		}
	}
}

func TestWipedDiskComesBackAsANewMember(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	c.propose("one")
	c.converge("one")
	wiped := c.follower()
	before := wiped.ID()
	must(t, wiped.Close())
	must(t, os.RemoveAll(wiped.config.Dir))
	c.open(wiped)
	if wiped.ID() == before {
		t.Fatal("a wiped disk came back under its old ID")
	}
	if wiped.IsMember() {
		t.Error("a wiped node believes that it is a member")
	}
	for range 2 {
		c.change(func(leader *node) error { return leader.AddVoter(t.Context(), wiped.Self()) })
	}
	c.propose("two")
	c.converge("one", "two")
	c.wantMembers("a", "b", "c")
	for _, m := range c.leader().Members() {
		if m.ID() == before {
			t.Errorf("the old incarnation %s is still a member", before)
		}
	}
	if !wiped.IsMember() {
		t.Error("the new incarnation does not know that it is a member")
	}
}

// Raft's requests do not say for whom they are; without the handshake's word for
// it, c would store and vote at its old address as the member that it was.
func TestWipedNodeDoesNotCountAsTheMemberThatItWas(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	c.propose("one")
	c.converge("one")
	leader := c.leader()
	var others []*node
	for _, n := range c.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	away, wiped := others[0], others[1]
	must(t, away.Close())
	must(t, wiped.Close())
	must(t, os.RemoveAll(wiped.config.Dir))
	c.open(wiped)
	if _, err := leader.Propose(t.Context(), []byte("two")); err == nil {
		t.Fatal("one of three committed with a wiped one's help")
	}
	c.eventually("the leader to lose its majority", func() bool { return !leader.IsLeader() })
	c.eventually("the refusal to be logged", func() bool { return c.log.count("raft connection refused") > 0 })
	if has, err := wiped.HasState(); has || err != nil {
		t.Errorf("the wiped node has state before anybody added it (%v)", err)
	}
	c.open(away)
	c.change(func(leader *node) error { return leader.AddVoter(t.Context(), wiped.Self()) })
	c.propose("three")
	for _, n := range c.nodes {
		c.eventually(n.name+" to have all", func() bool {
			got := n.machine.commands()
			return len(got) > 1 && got[0] == "one" && got[len(got)-1] == "three"
		})
	}
}

func TestRemovedMemberComesBackAfterItsDirectoryWasSetAside(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	c.propose("one")
	c.converge("one")
	removed := c.follower()
	before := removed.ID()
	c.change(func(leader *node) error { return leader.RemoveMember(t.Context(), removed.name) })
	c.propose("two")
	c.eventually("the removed node to be gone", func() bool { return len(c.leader().Members()) == 2 })

	_, err := Forget(removed.config.Dir)
	wantError(t, err, ErrLocked)
	must(t, removed.Close())
	for n, want := range []string{".removed-1", ".removed-2"} {
		aside, err := Forget(removed.config.Dir)
		must(t, err)
		if aside != removed.config.Dir+want {
			t.Errorf("directory number %d was set aside as %s", n, aside)
		}
		c.open(removed)
		if removed.ID() == before {
			t.Fatal("the member came back under its old ID")
		}
		must(t, removed.Close())
	}
	c.open(removed)
	c.change(func(leader *node) error { return leader.AddVoter(t.Context(), removed.Self()) })
	c.converge("one", "two")
	if aside, err := Forget(removed.config.Dir + "-that-never-was"); aside != "" || err != nil {
		t.Errorf("forgetting nothing gives %q, %v", aside, err)
	}
}
