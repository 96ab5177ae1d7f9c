package raftstore

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// lost is a group of three of which only one node is left, closed, with what was
// proposed.
func lost(t *testing.T, compacting bool) (c *cluster, left *node, want []string) {
	t.Helper()
	c = bootstrapped(t, "a", "b", "c")
	if compacting {
		c.compacting()
	}
	want = commands("x", 20)
	c.propose(want...)
	c.converge(want...)
	left = c.follower()
	for _, n := range c.nodes {
		must(t, n.Close())
	}
	c.nodes = map[string]*node{left.name: left}
	return c, left, want
}

// remains opens what is left of a node.
func remains(t *testing.T, n *node) (*Remains, *ledger) {
	t.Helper()
	machine := &ledger{}
	r, err := OpenRemains(n.config.Dir, "0.1", machine, zerolog.Nop())
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r, machine
}

// refound makes the new group, with one command more than the machine has.
func refound(t *testing.T, r *Remains, machine *ledger, more string) *Refounded {
	t.Helper()
	next, err := r.Refound(r.Self.Address, func(Member) ([]byte, error) {
		lines := append(machine.lines, line{r.Last + 1, more})
		return json.Marshal(lines)
	})
	must(t, err)
	return next
}

// carriesOn starts the node and has it lead and replicate alone, and then with a new node.
func (c *cluster) carriesOn(n *node, want ...string) {
	c.t.Helper()
	c.open(n)
	c.leader()
	c.converge(want...)
	c.propose("after")
	d := c.add("d")
	must(c.t, n.AddVoter(c.t.Context(), d.Self()))
	c.propose("with d")
	c.converge(append(want, "after", "with d")...)
}

func TestSurvivorGoesOnAloneWithAllThatItHad(t *testing.T) {
	for name, compacting := range map[string]bool{"with a log from the beginning": false, "with snapshots": true} {
		t.Run(name, func(t *testing.T) {
			c, n, want := lost(t, compacting)
			r, machine := remains(t, n)
			if diff := cmp.Diff(want, machine.commands()); diff != "" {
				t.Errorf("what it has (-want +got):\n%s", diff)
			}
			before := r.Self
			if len(r.Members) != 3 || len(r.Others()) != 2 || r.Alone() || !before.Voter || before.Name != n.name {
				t.Errorf("members %v, self %v", r.Members, before)
			}
			if age := time.Since(r.Written); age < 0 || age > patience {
				t.Errorf("the newest entry was written %v ago (%v)", age, r.Written)
			}
			if r.Committed == 0 || r.Committed > r.Last || r.Term == 0 || r.LastTerm == 0 {
				t.Errorf("knows of %d committed, %d in all, term %d, last of term %d", r.Committed, r.Last, r.Term, r.LastTerm)
			}
			next := refound(t, r, machine, "recovered")
			aside, err := next.Replace()
			must(t, err)
			must(t, r.Close())

			if next.Self.ID() == before.ID() || next.Self.Name != before.Name {
				t.Errorf("was %s, is %s: want another incarnation of the same node", before.ID(), next.Self.ID())
			}
			if o := lookAt(aside); o.id != before.ID() {
				t.Errorf("%s is what remains of %q, want of %s", aside, o.id, before.ID())
			}
			c.carriesOn(n, append(want, "recovered")...)
			if diff := cmp.Diff([]string{n.name, "d"}, roles(n.Members())); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEntriesThatAreNotKnownToBeCommittedAreKeptAndNotTakenForCommitted(t *testing.T) {
	c, n, want := lost(t, false)
	// A note that says less is what a loss of power leaves.
	must(t, os.Remove(filepath.Join(n.config.Dir, appliedFile)))
	for range 2 { // looking changes nothing
		r, machine := remains(t, n)
		if r.Committed != 0 || r.Last < uint64(len(want)) {
			t.Errorf("knows of %d committed of %d", r.Committed, r.Last)
		}
		if diff := cmp.Diff(want, machine.commands()); diff != "" {
			t.Errorf("what it has (-want +got):\n%s", diff)
		}
		must(t, r.Close())
	}
	c.open(n)
	if got := n.machine.commands(); len(got) != 0 {
		t.Errorf("after a look, a start shows %v, of which nothing was known to be committed", got)
	}
}

func TestOldMembersNeitherReachNorAreReachedByTheNewGroup(t *testing.T) {
	c, n, want := lost(t, false)
	made := c.made
	r, machine := remains(t, n)
	_, err := refound(t, r, machine, "recovered").Replace()
	must(t, err)
	must(t, r.Close())
	c.open(n)
	c.leader()
	for _, old := range made {
		if old.name == n.name {
			continue
		}
		c.nodes[old.name] = old
		c.open(old) // with its old directory, and even the same secret
	}
	// The two old ones are a majority of the old group: nobody can keep them from
	// being one, but they stay among themselves.
	var lead *node
	c.eventually("the old group to have a leader", func() bool {
		for _, old := range c.nodes {
			if old != n && old.IsLeader() && old.VerifyLeader(t.Context()) == nil {
				lead = old
			}
		}
		return lead != nil
	})
	_, err = lead.Propose(t.Context(), []byte("of the old group"))
	must(t, err)
	_, err = n.Propose(t.Context(), []byte("of the new group"))
	must(t, err)
	if diff := cmp.Diff(append(want, "recovered", "of the new group"), n.machine.commands()); diff != "" {
		t.Errorf("the new group (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(append(want, "of the old group"), lead.machine.commands()); diff != "" {
		t.Errorf("the old group (-want +got):\n%s", diff)
	}
	must(t, n.Close())
}

func TestRecoveryThatWasKilledIsDoneAgainOrFinished(t *testing.T) {
	for _, killed := range []struct {
		name string
		// at leaves the directories as a process that is killed there does.
		at func(t *testing.T, r *Remains, machine *ledger)
		// inForce says whether the new group is the one that counts.
		inForce bool
	}{
		{"when the new directory is empty", func(t *testing.T, r *Remains, _ *ledger) {
			must(t, os.Mkdir(r.dir+recovering, 0o700))
		}, false},
		{"before the new directory has an identity", func(t *testing.T, r *Remains, _ *ledger) {
			must(t, os.Mkdir(r.dir+recovering, 0o700))
			must(t, os.WriteFile(filepath.Join(r.dir+recovering, recoveryFile), []byte(`{"from":"`+r.Self.ID()+`"}`), 0o600))
		}, false},
		{"before there is a snapshot", func(t *testing.T, r *Remains, _ *ledger) {
			_, err := r.Refound(r.Self.Address, func(Member) ([]byte, error) { return nil, errRejected })
			if !errors.Is(err, errRejected) {
				t.Fatal(err)
			}
		}, false},
		{"before the directories are exchanged", func(t *testing.T, r *Remains, m *ledger) {
			refound(t, r, m, "recovered")
		}, false},
		{"after the exchange, before the old directory has its name", func(t *testing.T, r *Remains, m *ledger) {
			refound(t, r, m, "recovered")
			between := r.dir + ".between"
			must(t, os.Rename(r.dir, between))
			must(t, os.Rename(r.dir+recovering, r.dir))
			must(t, os.Rename(between, r.dir+recovering))
		}, true},
		{"between the two renames of a file system without exchange", func(t *testing.T, r *Remains, m *ledger) {
			refound(t, r, m, "recovered")
			must(t, os.Rename(r.dir, r.dir+".lost-1"))
		}, true},
	} {
		t.Run(killed.name, func(t *testing.T) {
			c, n, want := lost(t, false)
			r, machine := remains(t, n)
			before := r.Self.ID()
			killed.at(t, r, machine)
			must(t, r.Close())

			r, machine = remains(t, n)
			if r.Alone() != killed.inForce {
				t.Fatalf("the new group is in force: %v, want %v", r.Alone(), killed.inForce)
			}
			if !killed.inForce {
				_, err := refound(t, r, machine, "recovered").Replace()
				must(t, err)
			}
			must(t, r.Close())
			if o := lookAt(n.config.Dir + ".lost-1"); o.id != before {
				t.Errorf("kept aside is what remains of %q, want of %s", o.id, before)
			}
			if _, err := os.Lstat(n.config.Dir + recovering); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", n.config.Dir+recovering, err)
			}
			c.carriesOn(n, append(want, "recovered")...)
		})
	}
}

func TestNodeIsRecoveredASecondTime(t *testing.T) {
	c, n, want := lost(t, false)
	for _, command := range []string{"first", "second"} {
		r, machine := remains(t, n)
		refound(t, r, machine, "not this one") // killed before it came into force
		must(t, r.Close())
		r, machine = remains(t, n)
		_, err := refound(t, r, machine, command).Replace()
		must(t, err)
		must(t, r.Close())
		want = append(want, command)
	}
	c.carriesOn(n, want...)
}

func TestNothingIsRecovered(t *testing.T) {
	open := func(dir string) error {
		r, err := OpenRemains(dir, "0.1", &ledger{}, zerolog.Nop())
		if err == nil {
			must(t, r.Close())
		}
		return err
	}
	t.Run("from a directory that is not there", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "raft")
		wantError(t, open(dir), ErrNoState)
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory was made: %v", err)
		}
	})
	t.Run("of a node that was never a member", func(t *testing.T) {
		c := newCluster(t, "a")
		must(t, c.nodes["a"].Close())
		wantError(t, open(c.nodes["a"].config.Dir), ErrNoState)
	})
	t.Run("while a store has it open", func(t *testing.T) {
		c := bootstrapped(t, "a")
		wantError(t, open(c.nodes["a"].config.Dir), ErrLocked)
	})
	t.Run("beside a directory that has nothing to do with it", func(t *testing.T) {
		_, n, _ := lost(t, false)
		_, other, _ := lost(t, false)
		must(t, os.Rename(other.config.Dir, n.config.Dir+recovering))
		if err := open(n.config.Dir); err == nil || !strings.Contains(err.Error(), "out of the way") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("when the log is of a newer ramd", func(t *testing.T) {
		c := newCluster(t, "a")
		n := c.nodes["a"]
		n.machine.modern = true
		must(t, n.Bootstrap(t.Context(), []Member{n.Self()}))
		c.leader()
		c.propose("newer than this")
		must(t, n.Close())
		wantError(t, open(n.config.Dir), ErrIncompatible)
	})
}
