package testscripts

import (
	gocmp "cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

var abc = []string{"a", "b", "c"}

// settled is a cluster of three that has been applied and is in order; node a is
// the primary.
func settled(t *testing.T, s cluster.Spec, flags ...string) *cluster.Cluster {
	t.Helper()
	c := cluster.New(t, s.String())
	for _, name := range s.Nodes {
		c.StartWith(name, flags...)
	}
	if !slices.Contains(flags, "--watch") {
		c.Apply("")
	}
	c.CheckHealthy()
	return c
}

// planned is a plan as far as operators count on it: which servers restart, in
// their order.
func planned(p reconcile.Plan) []string {
	nodes := []string{}
	for _, s := range p.Steps {
		if s.Kind == reconcile.StepRestart {
			nodes = append(nodes, s.Node)
		}
	}
	return nodes
}

// restarted are the nodes whose servers were started since, in the order in which
// they were.
func restarted(before, after map[string]time.Time) []string {
	nodes := []string{}
	for node, at := range after {
		if at.After(before[node]) {
			nodes = append(nodes, node)
		}
	}
	slices.SortFunc(nodes, func(a, b string) int { return after[a].Compare(after[b]) })
	return nodes
}

// change applies a spec and checks that exactly those servers restart that the plan
// names, in its order, and that the cluster is in order afterwards.
func change(t *testing.T, c *cluster.Cluster, spec string, wantRestarts ...string) {
	t.Helper()
	before := c.StartedAt(abc...)
	plan := c.Plan(spec)
	if diff := cmp.Diff(append([]string{}, wantRestarts...), planned(plan)); diff != "" {
		t.Errorf("planned restarts (-want +got):\n%s", diff)
	}
	if want := slices.Contains(wantRestarts, "a"); plan.Summary.WritesInterrupted != want {
		t.Errorf("the plan says that writes are interrupted: %v, want %v", plan.Summary.WritesInterrupted, want)
	}
	c.Apply(spec)
	if diff := cmp.Diff(append([]string{}, wantRestarts...), restarted(before, c.StartedAt(abc...))); diff != "" {
		t.Errorf("servers that restarted, in order (-want +got):\n%s\n%s", diff, c.Picture())
	}
	c.CheckHealthy()
}

// show is a setting on every node.
func show(c *cluster.Cluster, name string) map[string]string {
	values := map[string]string{}
	for _, node := range abc {
		values[node] = c.Query(node, "SHOW "+name)[0]
	}
	return values
}

func everywhere(value string) map[string]string {
	return map[string]string{"a": value, "b": value, "c": value}
}

func checkShown(t *testing.T, c *cluster.Cluster, name string, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, show(c, name)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	base := cluster.Spec{Nodes: abc}
	with := func(parameters string) string {
		s := base
		s.Parameters = parameters
		return s.String()
	}
	c := settled(t, base)

	c.Part("a parameter that reloads restarts nothing", func(t *testing.T) {
		change(t, c, with(`work_mem = "5MB"`))
		checkShown(t, c, "work_mem", everywhere("5MB"))
	})
	c.Part("a parameter of one node goes before that of the cluster", func(t *testing.T) {
		s := base
		s.Parameters = `work_mem = "5MB"`
		s.Node = map[string]string{"b": `parameters = { work_mem = "7MB" }`}
		change(t, c, s.String())
		checkShown(t, c, "work_mem", map[string]string{"a": "5MB", "b": "7MB", "c": "5MB"})
	})
	c.Part("a parameter that is removed goes back to PostgreSQL's default", func(t *testing.T) {
		change(t, c, with(""))
		checkShown(t, c, "work_mem", everywhere("4MB"))
	})
	c.Part("a parameter that restarts goes through the standbys and then the primary", func(t *testing.T) {
		change(t, c, with(`max_files_per_process = 900`), "b", "c", "a")
		checkShown(t, c, "max_files_per_process", everywhere("900"))
	})
	c.Part("what standbys must match is raised on them first", func(t *testing.T) {
		change(t, c, with(`max_connections = 120`), "b", "c", "a")
		checkShown(t, c, "max_connections", everywhere("120"))
	})
	c.Part("what standbys must match is lowered on the primary first", func(t *testing.T) {
		change(t, c, with(`max_connections = 110`), "a", "b", "c")
		checkShown(t, c, "max_connections", everywhere("110"))
	})
	c.Part("raised and lowered at once costs the standbys two restarts and never their stream", func(t *testing.T) {
		logs := serverStarts(t, c)
		c.Apply(with("max_connections = 115\nmax_worker_processes = 6"))
		c.CheckHealthy()
		checkShown(t, c, "max_connections", everywhere("115"))
		checkShown(t, c, "max_worker_processes", everywhere("6"))
		got := serverStarts(t, c)
		for node := range got {
			got[node] -= logs[node]
		}
		if diff := cmp.Diff(map[string]int{"a": 1, "b": 2, "c": 2}, got); diff != "" {
			t.Errorf("starts of servers (-want +got):\n%s", diff)
		}
	})
	c.Part("a parameter that restarts and is removed goes back to the default", func(t *testing.T) {
		c.Apply(with(""))
		c.CheckHealthy()
		checkShown(t, c, "max_connections", everywhere("100"))
		checkShown(t, c, "max_worker_processes", everywhere("8"))
	})
	c.Part("lines of pg_hba.conf reload", func(t *testing.T) {
		s := base
		s.Postgres = "hba = [\"host all nobody 127.0.0.0/8 reject\"]\n"
		change(t, c, s.String())
		for _, node := range abc {
			got := c.Query(node, "SELECT auth_method FROM pg_hba_file_rules WHERE user_name = '{nobody}'")
			if diff := cmp.Diff([]string{"reject"}, got); diff != "" {
				t.Errorf("rules on node %s (-want +got):\n%s", node, diff)
			}
		}
		change(t, c, base.String())
	})
	c.Part("no standby ever had less than the primary needed", func(t *testing.T) {
		for _, node := range abc {
			text, err := os.ReadFile(filepath.Join(c.StateDir(node), "postgresql.log"))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "insufficient parameter settings") {
				t.Errorf("node %s stopped replaying for insufficient settings:\n%s", node, text)
			}
		}
	})
}

// serverStarts counts how often the server of each node has been started.
func serverStarts(t *testing.T, c *cluster.Cluster) map[string]int {
	t.Helper()
	starts := map[string]int{}
	for _, node := range abc {
		text, err := os.ReadFile(filepath.Join(c.StateDir(node), "postgresql.log"))
		if err != nil {
			t.Fatal(err)
		}
		starts[node] = strings.Count(string(text), "starting PostgreSQL")
	}
	return starts
}

func TestPortsOfPostgreSQLChange(t *testing.T) {
	t.Parallel()
	base := cluster.Spec{Nodes: abc}
	on := func(ports map[string]int) string {
		s := base
		s.Node = map[string]string{}
		for node, port := range ports {
			s.Node[node] = fmt.Sprintf("ports { postgres = %d }", port)
		}
		return s.String()
	}
	c := settled(t, base)
	for _, test := range []struct {
		name     string
		ports    map[string]int
		restarts []string
	}{
		{"of a standby", map[string]int{"b": 5444}, []string{"b"}},
		{"of the primary", map[string]int{"b": 5444, "a": 5445}, []string{"a"}},
	} {
		c.Part(test.name, func(t *testing.T) {
			plan := c.Plan(on(test.ports))
			if diff := cmp.Diff(test.restarts, planned(plan)); diff != "" {
				t.Errorf("planned restarts (-want +got):\n%s", diff)
			}
			c.Apply(on(test.ports))
			s := c.AwaitConverged()
			for _, n := range s.Nodes {
				want := gocmp.Or(test.ports[n.Name], 5432)
				got := strings.TrimSpace(c.CtlOK("psql", "--node", n.Name, "--", "-Atc", "SHOW port"))
				if n.Port != want || got != fmt.Sprint(want) {
					t.Errorf("node %s: status has port %d, the server %s, want %d", n.Name, n.Port, got, want)
				}
			}
		})
	}
	c.Part("back to the default", func(t *testing.T) {
		c.Apply(base.String())
		c.CheckHealthy()
	})
}

func TestSynchronousCommit(t *testing.T) {
	t.Parallel()
	replication := func(attributes string) string {
		return cluster.Spec{Nodes: abc, Cluster: "replication {\n" + attributes + "\n}"}.String()
	}
	c := settled(t, cluster.Spec{Nodes: abc})
	names := func() string { return c.Query("a", "SHOW synchronous_standby_names")[0] }
	checkNames := func(t *testing.T, want string) {
		t.Helper()
		if got := names(); got != want {
			t.Errorf("the primary runs synchronous_standby_names = %q, want %q", got, want)
		}
	}
	// hang begins a commit and returns once it waits for a standby.
	hang := func(t *testing.T, row int) <-chan error {
		t.Helper()
		ended := c.Begin("a", fmt.Sprintf("INSERT INTO ledger VALUES (-%d)", row))
		c.Until("a commit waits for a standby", cluster.Patience, func() bool {
			return len(c.Query("a", "SELECT query FROM pg_stat_activity WHERE wait_event = 'SyncRep'")) == 1
		})
		return ended
	}
	goesOn := func(t *testing.T, ended <-chan error) {
		t.Helper()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the commit that waited: %v", err)
			}
		case <-time.After(cluster.Patience):
			t.Errorf("the commit still waits\n%s", c.Picture())
		}
	}
	down := func(nodes ...string) {
		c.CtlOK("pause", "--reason", "standbys are stopped by a test")
		for _, node := range nodes {
			c.PgCtl(node, "stop", "-m", "fast")
		}
	}
	up := func() { c.CtlOK("resume") }

	c.Part("one of two", func(t *testing.T) {
		checkNames(t, `ANY 1 ("b","c")`)
		down("b")
		c.Write() // c is enough
		c.PgCtl("c", "stop", "-m", "fast")
		ended := hang(t, 1)
		up()
		goesOn(t, ended)
		c.Exec("a", "DELETE FROM ledger WHERE row < 0")
		c.CheckHealthy()
	})
	c.Part("two of two", func(t *testing.T) {
		change(t, c, replication("sync_standbys = 2"))
		checkNames(t, `ANY 2 ("b","c")`)
		down("c")
		ended := hang(t, 2)
		up()
		goesOn(t, ended)
		c.Exec("a", "DELETE FROM ledger WHERE row < 0")
		c.CheckHealthy()
	})
	c.Part("none", func(t *testing.T) {
		change(t, c, replication(`mode = "async"`))
		checkNames(t, "")
		down("b", "c")
		c.Write()
		up()
		c.CheckHealthy()
		if s := c.AwaitConverged(); s.Nodes[1].Sync != "async" {
			t.Errorf("status has sync %q of a standby in async mode", s.Nodes[1].Sync)
		}
	})
	c.Part("one of two again", func(t *testing.T) {
		change(t, c, replication("sync_standbys = 1"))
		checkNames(t, `ANY 1 ("b","c")`)
		if s := c.AwaitConverged(); s.Nodes[1].Sync != "quorum" {
			t.Errorf("status has sync %q of a standby in quorum mode", s.Nodes[1].Sync)
		}
	})
}
