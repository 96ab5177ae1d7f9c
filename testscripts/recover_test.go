package testscripts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// wiped are hosts that were lost with all their disks.
func wiped(t *testing.T, c *cluster.Cluster, names ...string) {
	t.Helper()
	c.KillTree(names...)
	for _, name := range names {
		if err := os.RemoveAll(c.StateDir(name)); err != nil {
			t.Fatal(err)
		}
	}
}

// others are the nodes but some.
func others(nodes []string, but ...string) []string {
	return slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return slices.Contains(but, n) })
}

// refused runs ramd recover where it must change nothing.
func refused(t *testing.T, c *cluster.Cluster, node, why string, flags ...string) {
	t.Helper()
	before := listing(t, c.StateDir(node))
	r := c.Ramd(node, append([]string{"recover", "--force-new-cluster"}, flags...)...)
	if r.Code != 1 || !strings.Contains(r.Stderr, why) {
		t.Errorf("want %q and exit code 1: %s", why, r)
	}
	if diff := cmp.Diff(before, listing(t, c.StateDir(node))); diff != "" {
		t.Errorf("a refused recovery left something (-before +after):\n%s", diff)
	}
}

// listing is what a node's directories hold that a recovery changes: names, and who
// the node is.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n := e.Name(); strings.HasPrefix(n, "raft") || strings.HasPrefix(n, "identity") {
			all = append(all, n)
		}
	}
	for _, file := range []string{"identity.json", "raft/store.json"} {
		text, _ := os.ReadFile(filepath.Join(dir, file))
		all = append(all, file+": "+string(text))
	}
	return all
}

// recovered runs ramd recover where it must succeed, and returns what it printed.
func recovered(t *testing.T, c *cluster.Cluster, node string, flags ...string) string {
	t.Helper()
	r := c.Ramd(node, append([]string{"recover", "--force-new-cluster", "--yes"}, flags...)...)
	if r.Code != 0 {
		t.Fatalf("recover: %s", r)
	}
	return r.Stdout
}

// killedRecovery runs ramd recover and kills it at some moment.
func killedRecovery(t *testing.T, c *cluster.Cluster, node string, flags ...string) {
	t.Helper()
	args := []string{"recover", "--force-new-cluster", "--yes", "--data-dir", c.StateDir(node)}
	cmd := exec.Command(filepath.Join(c.Dir(node), "ramd"), append(args, flags...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(rand.N(150 * time.Millisecond))
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not said in:\n%s", part, text)
		}
	}
}

func TestPrimaryIsLeftOfAMajorityThatIsLost(t *testing.T) {
	t.Parallel()
	c := applied(t, threeNodes)
	s, _ := c.Status()
	left := s.Primary
	lost := others(threeNodes.Nodes, left)
	before := c.Query(left, "SELECT count(*)::text FROM ledger")

	c.Part("nothing is recovered while ramd runs", func(t *testing.T) {
		refused(t, c, left, "already runs on "+c.StateDir(left), "--yes")
	})
	c.Part("nor while another member answers", func(t *testing.T) {
		c.Stop(left)
		refused(t, c, left, "is not lost: its ramd answers", "--yes")
	})
	kept := filepath.Join(c.Dir(lost[0]), "kept")
	c.Part("nor without the operator's word", func(t *testing.T) {
		c.KillTree(lost...)
		if err := os.Rename(c.StateDir(lost[0]), kept); err != nil {
			t.Fatal(err)
		}
		wiped(t, c, lost[1])
		refused(t, c, left, "nothing was changed: run this on a terminal, or with --yes")
		if r := c.Ramd(left, "recover", "--yes"); r.Code != 2 {
			t.Errorf("without --force-new-cluster: %s", r)
		}
	})
	c.Part("nor with the spec of another cluster, or without this node", func(t *testing.T) {
		path := filepath.Join(c.Dir(left), "wrong.hcl")
		for text, why := range map[string]string{
			strings.Replace(threeNodes.String(), `cluster "test"`, `cluster "other"`, 1): `is the spec of cluster "other"`,
			threeNodes.Without(left).String():                                            `the spec has no node "` + left + `"`,
		} {
			if err := os.WriteFile(path, []byte(c.Text(text)), 0o644); err != nil {
				t.Fatal(err)
			}
			refused(t, c, left, why, "--yes", "--spec", path)
		}
		refused(t, c, left, "is that of node "+left, "--yes", "--node", lost[0])
	})
	c.Part("nor from a directory without state", func(t *testing.T) {
		refused(t, c, lost[1], "holds no state of a ramd", "--yes")
	})
	c.Part("what is known and what may be lost is said", func(t *testing.T) {
		says(t, recovered(t, c, left),
			"Node "+left+" of cluster test", "revision 1, nodes a, b, c", "this node, of term 1", left+" (this node)",
			"commits       wait for 1 of "+strings.Join(lost, ", "), "ago", "Acknowledged writes, if the lost nodes made another one the primary",
			strings.Join(lost, " or ")+" started again", "is the only voter of cluster test now", "raft.lost-1", "identity-")
		again := recovered(t, c, left)
		says(t, again, "there is nothing to recover")
	})
	c.Part("it goes on as the primary, with its data", func(t *testing.T) {
		c.Start(left)
		c.Await("the node leads and is the primary", func(s reconcile.Status) error {
			if s.Raft.Leader != left || s.Primary != left || len(s.Raft.Voters) != 1 {
				return errors.New("not yet")
			}
			return nil
		})
		if diff := cmp.Diff(before, c.Query(left, "SELECT count(*)::text FROM ledger")); diff != "" {
			t.Errorf("rows (-before +after):\n%s", diff)
		}
	})
	c.Part("a member of the old group is not believed", func(t *testing.T) {
		if err := os.Rename(kept, c.StateDir(lost[0])); err != nil {
			t.Fatal(err)
		}
		c.Start(lost[0])
		c.AwaitLog(lost[0], "ramd starts")
		c.Until("the new group refuses the old member", cluster.Patience, func() bool {
			return strings.Contains(c.Log(lost[0]), "another incarnation of it, answers at this address") ||
				strings.Contains(c.Log(left), "it wants member "+left+"#")
		})
		s, err := c.StatusOf(left)
		if err != nil || len(s.Raft.Voters) != 1 {
			t.Errorf("status of %s: %+v, %v", left, s.Raft, err)
		}
		for _, n := range s.Nodes {
			if n.Name == lost[0] && n.State != reconcile.NodeUnreachable {
				t.Errorf("the old member counts as %s", n.State)
			}
		}
		wiped(t, c, lost[0])
	})
	c.Part("the others join again with empty directories", func(t *testing.T) {
		c.Start(lost...)
		c.CheckHealthy()
		s, _ := c.Status()
		if diff := cmp.Diff(threeNodes.Nodes, s.Raft.Voters); diff != "" {
			t.Errorf("voters (-want +got):\n%s", diff)
		}
	})
	c.Part("and the new group survives the loss of the one it came from", func(t *testing.T) {
		c.KillTree(left)
		c.Await("another primary", func(s reconcile.Status) error {
			if s.Primary == "" || s.Primary == left {
				return errors.New("not yet")
			}
			return nil
		})
		c.Start(left)
		c.CheckHealthy()
	})
}

func TestStandbyIsLeftOfAMajorityThatIsLost(t *testing.T) {
	t.Parallel()
	c := applied(t, threeNodes)
	s, _ := c.Status()
	left := others(threeNodes.Nodes, s.Primary)[0]
	lost := others(threeNodes.Nodes, left)
	c.KillTree(threeNodes.Nodes...)
	wiped(t, c, lost...)

	c.Part("what may be lost is said", func(t *testing.T) {
		says(t, recovered(t, c, left, "--spec", c.SpecFile(left)), s.Primary+", of term 1",
			"Acknowledged writes that were on "+s.Primary, "when they never will: ramctrl failover --accept-data-loss")
	})
	c.Part("it does not become the primary by itself, since acknowledged writes may be missing", func(t *testing.T) {
		c.Start(left)
		c.Await("status says what is needed", func(s reconcile.Status) error {
			if o := s.Opening; o == nil || !strings.Contains(o.Waits, "must promise") || !strings.Contains(o.Waits, "ramctrl failover --accept-data-loss") {
				return fmt.Errorf("not yet: %+v", o)
			}
			if s.Primary != "" {
				t.Errorf("the primary is %s", s.Primary)
			}
			return nil
		})
	})
	c.Part("but when an operator accepts that", func(t *testing.T) {
		c.CtlOK("failover", "--accept-data-loss", "--auto-approve")
		c.Await("the node is the primary", func(s reconcile.Status) error {
			if s.Primary != left {
				return errors.New("not yet")
			}
			return nil
		})
	})
	c.Part("a spec with this node alone works", func(t *testing.T) {
		c.Apply(cluster.Spec{Nodes: []string{left}, Cluster: "  replication { sync_standbys = 0 }"}.String(), "--allow-destroy")
		c.CheckHealthy()
	})
	c.Part("and so does one with a new node", func(t *testing.T) {
		c.SetSpec(cluster.Spec{Nodes: []string{left, lost[0]}}.String())
		c.WriteSpec(lost[0], cluster.Spec{Nodes: []string{left, lost[0]}}.String())
		c.Start(lost[0])
		c.Apply("")
		c.CheckHealthy()
	})
}

func TestOperatorAcceptsTheLossWithTheRecovery(t *testing.T) {
	t.Parallel()
	c := applied(t, threeNodes)
	s, _ := c.Status()
	left := others(threeNodes.Nodes, s.Primary)[1]
	lost := others(threeNodes.Nodes, left)
	c.Stop(left) // PostgreSQL goes on under its guard
	c.KillTree(lost...)
	// Their data directories are left, but not what made them members.
	for _, name := range lost {
		c.WipeRamd(name)
	}
	for range 5 * seeds() {
		killedRecovery(t, c, left, "--accept-data-loss")
	}
	if text := recovered(t, c, left, "--accept-data-loss"); !strings.Contains(text, "there is nothing to recover") {
		says(t, text, "whatever it lacks (--accept-data-loss)")
	}
	if found, err := filepath.Glob(filepath.Join(c.StateDir(left), "raft?*")); err != nil || len(found) != 1 || !strings.HasSuffix(found[0], "/raft.lost-1") {
		t.Errorf("beside raft there is %v, want the old directory alone (%v)", found, err)
	}
	c.Start(left)
	c.Await("the node is the primary", func(s reconcile.Status) error {
		if s.Primary != left {
			return errors.New("not yet")
		}
		return nil
	})
	c.Start(lost...)
	c.CheckHealthy()
}
