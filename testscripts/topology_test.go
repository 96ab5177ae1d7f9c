package testscripts

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// node is the line of one node in a status; the zero value when there is none.
func node(s reconcile.Status, name string) reconcile.NodeStatus {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	return reconcile.NodeStatus{}
}

// keptData are the data directories that are kept beside a node's own.
func keptData(t *testing.T, c *cluster.Cluster, name string) []string {
	t.Helper()
	kept, err := filepath.Glob(c.DataDir(name) + ".ram-*/PG_VERSION")
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// mustHaveLeft checks what is left of a node that was removed and whose ramd runs.
func mustHaveLeft(t *testing.T, c *cluster.Cluster, name string) {
	t.Helper()
	c.Until("the data directory of "+name+" is set aside", cluster.Patience, func() bool {
		_, err := os.Stat(c.DataDir(name))
		return errors.Is(err, os.ErrNotExist) && len(keptData(t, c, name)) > 0
	})
	c.Until("no PostgreSQL runs on "+name, cluster.Patience, func() bool {
		return !slices.ContainsFunc(c.Processes(name), func(p cluster.Process) bool {
			return strings.Contains(p.Command, "postgres")
		})
	})
	c.AwaitLog(name, "waiting to be admitted")
}

func TestTopologyNodesComeAndGo(t *testing.T) {
	t.Parallel()
	c := applied(t, threeNodes)
	four := threeNodes.With("d")

	c.Part("a node is added before its ramd is there", func(t *testing.T) {
		c.Apply(four.String(), "--detach")
		c.Await("the plan waits for the ramd of d", func(s reconcile.Status) error {
			if n := node(s, "d"); !strings.Contains(n.Reason, "ramd start --node d") || s.Converged {
				return fmt.Errorf("converged %t, node d: %+v", s.Converged, n)
			}
			return nil
		})
		c.Start("d")
		c.CheckHealthy()
		if s := c.AwaitConverged(); !slices.Equal(s.Raft.Voters, []string{"a", "b", "c", "d"}) {
			t.Errorf("voters are %q", s.Raft.Voters)
		}
	})
	c.Part("a node is not removed without the operator's word", func(t *testing.T) {
		r := c.TryApply(threeNodes.String())
		if r.Code != 1 || !strings.Contains(r.Stderr, "--allow-destroy") {
			t.Errorf("apply without node d: %s", r)
		}
		c.SetSpec(four.String())
		c.CheckHealthy()
	})
	c.Part("a removed node stops, and its data is kept aside", func(t *testing.T) {
		c.Apply(threeNodes.String(), "--allow-destroy")
		mustHaveLeft(t, c, "d")
		c.CheckHealthy()
		if s := c.AwaitConverged(); !slices.Equal(s.Raft.Voters, []string{"a", "b", "c"}) || node(s, "d").Name != "" {
			t.Errorf("node d is still there: %+v", s)
		}
	})
	c.Part("it comes back under its name, with its ramd still running", func(*testing.T) {
		c.Apply(four.String())
		c.CheckHealthy()
	})
	for how, end := range map[string]func(...string){"all of it was down": c.KillTree, "only its ramd was down": c.Kill9} {
		c.Part("a node is removed while "+how+", and leaves when it is back", func(*testing.T) {
			end("d")
			c.Await("d is seen to be down", func(s reconcile.Status) error {
				if n := node(s, "d"); n.State != reconcile.NodeUnreachable {
					return fmt.Errorf("node d: %+v", n)
				}
				return nil
			})
			c.Apply(threeNodes.String(), "--allow-destroy")
			c.CheckHealthy()
			c.Start("d")
			mustHaveLeft(t, c, "d")
			c.CheckHealthy()
			c.Apply(four.String())
			c.CheckHealthy()
		})
	}
	c.Part("the Raft leader leaves", func(t *testing.T) {
		c.MoveLeader("d")
		c.Apply(threeNodes.String(), "--allow-destroy")
		mustHaveLeft(t, c, "d")
		c.CheckHealthy()
		if leader := c.Leader(); leader == "d" {
			t.Error("node d leads although it has left")
		}
	})
	c.Part("the primary does not leave", func(t *testing.T) {
		s, _ := c.Status()
		primary := s.Primary // a busy machine may have made it another one
		r := c.TryApply(threeNodes.Without(primary).String(), "--allow-destroy")
		if r.Code != 1 || !strings.Contains(r.String(), fmt.Sprintf("node %s is the primary and cannot leave", primary)) {
			t.Errorf("apply without the primary: %s", r)
		}
		c.SetSpec(threeNodes.String())
		c.CheckHealthy()
	})
}

// incarnations are those of the members, by name.
func incarnations(t *testing.T, c *cluster.Cluster) map[string]string {
	t.Helper()
	var nodes []struct {
		Name        string `json:"name"`
		Incarnation string `json:"incarnation"`
	}
	if err := c.Ask(c.Leader(), "/nodes", &nodes); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, n := range nodes {
		all[n.Name] = n.Incarnation
	}
	return all
}

func TestTopologyWipedDisks(t *testing.T) {
	t.Parallel()
	c := applied(t, threeNodes)
	systemID := c.Query("a", "SELECT system_identifier::text FROM pg_control_system()")[0]

	wiped := func(part, name string, wipe func()) {
		c.Part(part, func(t *testing.T) {
			before := incarnations(t, c)
			wipe()
			c.Start(name)
			c.Await("node "+name+" is a new member", func(reconcile.Status) error {
				if now := incarnations(t, c); now[name] == before[name] || now[name] == "" {
					return fmt.Errorf("incarnations %v", now)
				}
				return nil
			})
			c.CheckHealthy()
			now := incarnations(t, c)
			delete(before, name)
			delete(now, name)
			if diff := cmp.Diff(before, now); diff != "" {
				t.Errorf("the other members changed (-before +now):\n%s", diff)
			}
			if got := c.Query("a", "SELECT system_identifier::text FROM pg_control_system()")[0]; got != systemID {
				t.Errorf("the system identifier was %s and is %s", systemID, got)
			}
			if s := c.AwaitConverged(); !slices.Equal(s.Raft.Voters, []string{"a", "b", "c"}) {
				t.Errorf("voters are %q", s.Raft.Voters)
			}
		})
	}
	wiped("ramd's directory of a standby, with its PostgreSQL running", "b", func() {
		c.MoveLeader("c")
		c.Kill9("b")
		c.WipeRamd("b")
	})
	wiped("ramd's directory of a standby, after a power cut", "b", func() {
		c.KillTree("b")
		c.WipeRamd("b")
	})
	wiped("everything of a standby", "b", func() {
		c.KillTree("b")
		c.WipeRamd("b")
		c.WipeData("b")
	})
	wiped("ramd's directory of the Raft leader", "c", func() {
		c.MoveLeader("c")
		c.KillTree("c")
		c.WipeRamd("c")
	})
	wiped("ramd's directory of the primary, after a power cut", "a", func() {
		c.KillTree("a")
		c.WipeRamd("a")
	})
	wiped("ramd's directory of the primary, with its PostgreSQL running", "a", func() {
		c.Kill9("a")
		c.WipeRamd("a")
	})
	c.Part("PostgreSQL's data of a standby", func(*testing.T) {
		c.KillTree("b")
		c.WipeData("b")
		c.Start("b")
		c.CheckHealthy()
	})
	c.Part("PostgreSQL's data of a standby, while it runs", func(t *testing.T) {
		if seeds() == 1 {
			t.Skip("a server looks for its files once a minute: RAM_TEST_SEEDS=2 waits for it")
		}
		c.WipeData("b")
		c.CheckHealthy()
	})
	c.Part("PostgreSQL's data of the primary: another node takes over, and it is copied anew", func(t *testing.T) {
		c.Write()
		rows := c.Query("a", "SELECT count(*)::text FROM ledger")[0]
		c.KillTree("a")
		if err := os.Rename(c.DataDir("a"), c.DataDir("a")+"-elsewhere"); err != nil {
			t.Fatal(err)
		}
		c.Start("a")
		c.Await("another node is the primary, and all stream", func(s reconcile.Status) error {
			if s.Primary == "" || s.Primary == "a" || !s.Converged {
				return fmt.Errorf("primary %q, converged %t", s.Primary, s.Converged)
			}
			return nil
		})
		for _, name := range []string{"a", "b", "c"} {
			if got := c.Query(name, "SELECT count(*)::text FROM ledger")[0]; got != rows {
				t.Errorf("node %s has %s rows of %s", name, got, rows)
			}
		}
		c.CheckHealthy()
	})
}

// fingerprint is of all files below a directory, with their owners and modes.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, path, info.Mode(), info.Size(), info.ModTime())
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			sum.Write(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

func TestTopologyForeignDataIsNeverTouched(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, threeNodes.String())
	c.Start("a", "b", "c")
	c.AwaitFormed()
	moveAway := func(t *testing.T, name string) {
		t.Helper()
		if err := os.RemoveAll(c.DataDir(name)); err != nil {
			t.Fatal(err)
		}
	}

	for what, put := range map[string]func(name string){
		"something that is no data directory": func(name string) {
			if err := errors.Join(
				os.MkdirAll(c.DataDir(name), 0o755),
				os.WriteFile(filepath.Join(c.DataDir(name), "thesis.tex"), []byte("the only copy"), 0o644),
			); err != nil {
				t.Fatal(err)
			}
		},
		"another PostgreSQL cluster": c.InitForeign,
	} {
		c.Part(what+" in the place of the first data directory", func(t *testing.T) {
			put("a")
			before := fingerprint(t, c.DataDir("a"))
			c.Until("the plan is blocked by it", cluster.Patience, func() bool {
				return slices.ContainsFunc(c.Plan("").Blocked, func(b reconcile.Blocked) bool {
					return b.Node == "a" && strings.Contains(b.Reason, c.DataDir("a")) || strings.Contains(b.Reason, "data directory")
				})
			})
			if r := c.TryApply("", "--timeout", "20s"); r.Code != 1 {
				t.Errorf("apply: %s", r)
			}
			if after := fingerprint(t, c.DataDir("a")); after != before {
				t.Error("it was changed")
			}
			moveAway(t, "a")
		})
	}
	c.Part("they go on when the place is free", func(*testing.T) {
		c.Apply("")
		c.CheckHealthy()
	})
	c.Part("another PostgreSQL cluster in the place of a standby's", func(t *testing.T) {
		c.KillTree("b")
		moveAway(t, "b")
		c.InitForeign("b")
		before := fingerprint(t, c.DataDir("b"))
		c.Start("b")
		c.Await("it is said", cluster.Blocked("node b", "another PostgreSQL cluster", "move it away"))
		c.Write()
		if after := fingerprint(t, c.DataDir("b")); after != before {
			t.Error("it was changed")
		}
		moveAway(t, "b")
		c.CheckHealthy()
	})
	c.Part("another PostgreSQL cluster in the place of the primary's", func(t *testing.T) {
		c.KillTree("a")
		away := c.DataDir("a") + "-elsewhere"
		if err := os.Rename(c.DataDir("a"), away); err != nil {
			t.Fatal(err)
		}
		c.InitForeign("a")
		before := fingerprint(t, c.DataDir("a"))
		c.Start("a")
		c.Await("it is said", cluster.Blocked("node a", "another PostgreSQL cluster"))
		if after := fingerprint(t, c.DataDir("a")); after != before {
			t.Error("it was changed")
		}
		moveAway(t, "a")
		if err := os.Rename(away, c.DataDir("a")); err != nil {
			t.Fatal(err)
		}
		c.CheckHealthy()
	})
}
