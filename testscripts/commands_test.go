package testscripts

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

func TestCommandsOnARunningCluster(t *testing.T) {
	t.Parallel()
	base := cluster.Spec{Nodes: abc}
	with := func(parameters string) string {
		s := base
		s.Parameters = parameters
		return s.String()
	}
	c := settled(t, base)
	specFile := func(t *testing.T, name, spec string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		writeFile(t, path, c.Text(spec))
		return path
	}

	c.Part("a saved plan is applied as it was shown", func(t *testing.T) {
		saved := filepath.Join(t.TempDir(), "next.plan")
		shownPlan := c.CtlOK("plan", specFile(t, "next.hcl", with(`work_mem = "5MB"`)), "--out", saved)
		applied := c.CtlOK("apply", saved, "--auto-approve")
		if !strings.Contains(applied, strings.TrimSpace(shownPlan)) {
			t.Errorf("the plan that was applied is not the one that was shown:\n%s\nbut:\n%s", shownPlan, applied)
		}
		checkShown(t, c, "work_mem", everywhere("5MB"))
		c.CheckHealthy()
		checkStale(t, c, saved) // it has been applied
	})
	c.Part("a saved plan is refused when another revision came in between", func(t *testing.T) {
		saved := filepath.Join(t.TempDir(), "next.plan")
		c.CtlOK("plan", specFile(t, "next.hcl", with(`work_mem = "6MB"`)), "--out", saved)
		c.Apply(with(`work_mem = "7MB"`))
		checkStale(t, c, saved)
		checkShown(t, c, "work_mem", everywhere("7MB"))
	})
	c.Part("a saved plan is refused when a node has changed since", func(t *testing.T) {
		saved := filepath.Join(t.TempDir(), "next.plan")
		c.CtlOK("plan", specFile(t, "next.hcl", with(`work_mem = "6MB"`)), "--out", saved)
		c.CtlOK("pause")
		c.PgCtl("b", "stop", "-m", "fast")
		c.Await("the stop of b is seen", func(s reconcile.Status) error {
			return stateIs(s, "b", reconcile.NodeStopped)
		})
		checkStale(t, c, saved)
		c.CtlOK("resume")
		c.CheckHealthy()
	})

	c.Part("history has every revision, its maker and its text", func(t *testing.T) {
		var got struct {
			Revisions []reconcile.Revision `json:"revisions"`
		}
		if err := json.Unmarshal([]byte(c.CtlOK("history", "-o", "json")), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Revisions) != 3 || got.Revisions[2].Number != 3 || got.Revisions[2].By == "" || got.Revisions[2].At.IsZero() {
			t.Errorf("history: %+v", got.Revisions)
		}
		if diff := cmp.Diff(c.Text(with(`work_mem = "7MB"`)), c.CtlOK("history", "3")); diff != "" {
			t.Errorf("text of revision 3 (-want +got):\n%s", diff)
		}
	})
	c.Part("rollback makes the old content a new revision", func(t *testing.T) {
		c.CtlOK("rollback", "2", "--auto-approve")
		checkShown(t, c, "work_mem", everywhere("5MB"))
		c.CheckHealthy()
		if s := c.AwaitConverged(); s.Revision != 4 {
			t.Errorf("revision %d, want 4", s.Revision)
		}
		if r := c.Ctl("rollback", "99", "--auto-approve"); r.Code != 1 || !strings.Contains(r.Stderr, "ramctrl history") {
			t.Errorf("rollback to what is not there: %s", r)
		}
	})

	c.Part("restart of one node restarts no other", func(t *testing.T) {
		before := c.StartedAt(abc...)
		c.CtlOK("restart", "b", "--auto-approve")
		if diff := cmp.Diff([]string{"b"}, restarted(before, c.StartedAt(abc...))); diff != "" {
			t.Errorf("servers that restarted (-want +got):\n%s", diff)
		}
		c.CheckHealthy()
	})
	c.Part("restart of all goes through the standbys and then the primary", func(t *testing.T) {
		before := c.StartedAt(abc...)
		c.CtlOK("restart", "--auto-approve")
		if diff := cmp.Diff([]string{"b", "c", "a"}, restarted(before, c.StartedAt(abc...))); diff != "" {
			t.Errorf("servers that restarted, in order (-want +got):\n%s", diff)
		}
		c.CheckHealthy()
	})
	c.Part("reload reads files again and restarts nothing", func(t *testing.T) {
		loaded := func() string { return c.Query("c", "SELECT pg_conf_load_time()::text")[0] }
		before, was := c.StartedAt(abc...), loaded()
		c.CtlOK("reload", "c")
		if loaded() == was {
			t.Error("the configuration was not loaded again")
		}
		if got := restarted(before, c.StartedAt(abc...)); len(got) > 0 {
			t.Errorf("%q restarted", got)
		}
		c.CheckHealthy()
	})
	c.Part("a node that is not there is an error of usage", func(t *testing.T) {
		for _, command := range []string{"restart", "reload", "reinit"} {
			if r := c.Ctl(command, "x"); r.Code != 2 || !strings.Contains(r.Stderr, "a, b, c") {
				t.Errorf("%s: %s", command, r)
			}
		}
	})
	c.Part("the primary is not cloned anew", func(t *testing.T) {
		if r := c.Ctl("reinit", "a", "--auto-approve"); r.Code != 1 || !strings.Contains(r.Stderr, "primary") {
			t.Errorf("%s", r)
		}
	})
	c.Part("reinit keeps the old data until the new one streams", func(t *testing.T) { checkReinit(t, c) })

	c.Part("the connection string leads libpq to the primary, or to a standby", func(t *testing.T) {
		for _, test := range []struct {
			flags []string
			want  string
		}{
			{nil, "f"},
			{[]string{"--read-only"}, "t"},
		} {
			uri := strings.TrimSpace(c.CtlOK(append([]string{"dsn", "--user", "postgres"}, test.flags...)...))
			if got := psql(t, c, uri); got != test.want {
				t.Errorf("dsn %q: pg_is_in_recovery is %s, want %s (%s)", test.flags, got, test.want, uri)
			}
			got := c.CtlOK(append(append([]string{"psql"}, test.flags...), "--", "-Atc", "SELECT pg_is_in_recovery()")...)
			if strings.TrimSpace(got) != test.want {
				t.Errorf("psql %q: pg_is_in_recovery is %s, want %s", test.flags, got, test.want)
			}
		}
	})
}

// checkStale checks that a saved plan is refused and changes nothing.
func checkStale(t *testing.T, c *cluster.Cluster, saved string) {
	t.Helper()
	before, _ := c.Status()
	r := c.Ctl("apply", saved, "--auto-approve")
	if r.Code != 1 || !strings.Contains(r.Stderr, "stale") && !strings.Contains(r.Stderr, "paused") {
		t.Errorf("apply of a plan whose base has moved on: %s", r)
	}
	if after, _ := c.Status(); after.Revision != before.Revision {
		t.Errorf("revision %d became %d", before.Revision, after.Revision)
	}
}

func stateIs(s reconcile.Status, node string, want reconcile.NodeState) error {
	for _, n := range s.Nodes {
		if n.Name == node && n.State == want {
			return nil
		}
	}
	return &notYet{s.Nodes, want}
}

type notYet struct {
	nodes []reconcile.NodeStatus
	want  reconcile.NodeState
}

func (e *notYet) Error() string {
	b, _ := json.Marshal(e.nodes)
	return "no node is " + string(e.want) + " that should be: " + string(b)
}

// checkReinit has a node cloned anew whose server cannot start at first.
func checkReinit(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	c.CtlOK("pause")
	c.PgCtl("b", "stop", "-m", "fast")
	port, err := net.Listen("tcp", c.Host("b")+":5432")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	mark := filepath.Join(c.DataDir("b"), "of-the-old-copy")
	writeFile(t, mark, "")
	c.CtlOK("resume")
	c.CtlOK("reinit", "b", "--auto-approve", "--detach")
	c.Until("the new copy is in place", cluster.Patience, func() bool {
		_, err := os.Stat(mark)
		return err != nil && c.ReadData("b", "PG_VERSION") != ""
	})
	c.Await("the new copy cannot start", reason("b", "5432"))
	kept := asides(c, "b")
	if len(kept) != 1 {
		t.Fatalf("the old data directory is not kept while the new one does not stream: %q", kept)
	}
	if _, err := os.Stat(filepath.Join(kept[0], filepath.Base(mark))); err != nil {
		t.Error(err)
	}
	port.Close()
	c.CheckHealthy()
	c.Until("the old data directory is gone", cluster.Patience, func() bool { return len(asides(c, "b")) == 0 })
}

// psql asks a server whether it is a standby.
func psql(t *testing.T, c *cluster.Cluster, uri string) string {
	t.Helper()
	var role struct {
		Password string `json:"password"`
	}
	if err := c.Ask("a", "/credentials", &role); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed")
	}
	cmd := exec.Command(program, uri, "-Atc", "SELECT pg_is_in_recovery()")
	cmd.Env = []string{"PGPASSWORD=" + role.Password, "PATH=" + os.Getenv("PATH")}
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql %s: %v\n%s", uri, err, out)
	}
	return strings.TrimSpace(string(out))
}
