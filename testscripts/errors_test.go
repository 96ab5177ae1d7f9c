package testscripts

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// oneNode is a spec of node a alone, with further lines in its block and in postgres.
func oneNode(node, postgres string) cluster.Spec {
	return cluster.Spec{Nodes: []string{"a"}, Node: map[string]string{"a": node}, Postgres: postgres}
}

func TestRamdThatCannotStartSaysWhatToDo(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, oneNode("", "").String())
	listen := func(port string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			l, err := net.Listen("tcp", c.Host("a")+":"+port)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}
	}
	good := oneNode("", "").String()
	for _, test := range []struct {
		name  string
		spec  string
		node  string
		flags []string
		first func(t *testing.T)
		want  []string
	}{
		{
			name: "an invalid spec", node: "a",
			spec: oneNode("", "max_conections = 5\n").String(),
			want: []string{"cluster.hcl:4:", "max_conections = 5"},
		},
		{
			name: "a node that the spec does not have", node: "x", spec: good,
			want: []string{`no node "x"`, "it has a"},
		},
		{name: "no node", spec: good, want: []string{"--node", "a"}},
		{
			name: "a missing file", node: "a", spec: good, flags: []string{"--spec", "/nowhere/cluster.hcl"},
			want: []string{"/nowhere/cluster.hcl", "no such file"},
		},
		{
			name: "an address that is not loopback, without TLS", node: "a",
			spec: strings.ReplaceAll(good, `"@a"`, `"192.0.2.1"`),
			want: []string{"192.0.2.1", "--insecure"},
		},
		{
			name: "the API's port is taken", node: "a", spec: good, first: listen("8080"),
			want: []string{":8080", "in use", "ports.api"},
		},
		{
			name: "Raft's port is taken", node: "a", spec: good, first: listen("7400"),
			want: []string{":7400", "in use", "ports.raft"},
		},
		{
			name: "the port of the metrics is taken", node: "a", spec: good, first: listen("9090"),
			want: []string{":9090", "in use", "ports.metrics"},
		},
		{
			name: "ramd's directory cannot be made", node: "a", spec: good, flags: []string{"--data-dir", "/dev/null/ram"},
			want: []string{"/dev/null", "--data-dir"},
		},
	} {
		c.Part(test.name, func(t *testing.T) {
			if test.first != nil {
				test.first(t)
			}
			c.WriteSpec("a", test.spec)
			args := []string{"--spec", c.SpecFile("a")}
			if test.node != "" {
				args = append(args, "--node", test.node)
			}
			r := c.RamdStart("a", append(args, test.flags...)...)
			if r.Code != 1 {
				t.Errorf("%s", r)
			}
			last := r.Stderr[max(0, strings.Index(r.Stderr, "ramd: ")):]
			for _, part := range test.want {
				if !strings.Contains(last, part) {
					t.Errorf("%q is not in what it says:\n%s", part, last)
				}
			}
		})
	}
	c.Part("then it starts", func(*testing.T) {
		c.WriteSpec("a", good)
		c.Start("a")
		c.Apply("")
		c.CheckHealthy()
	})
	c.Part("another ramd runs on its directory", func(t *testing.T) {
		r := c.RamdStart("a", "--spec", c.SpecFile("a"), "--node", "a")
		if r.Code != 1 || !strings.Contains(r.Stderr, "already runs on") || !strings.Contains(r.Stderr, "--data-dir") {
			t.Errorf("%s", r)
		}
	})
}

// A first node that cannot be set up says why, and goes on when that is gone.
func TestFirstNodeThatCannotBeSetUpSaysWhatToDo(t *testing.T) {
	t.Parallel()
	noWay := []string{"system user postgres cannot enter", "/data", "choose another place"}
	if os.Geteuid() != 0 {
		noWay = []string{"/data", "cannot be written", "change data_dir"}
	}
	for _, test := range []struct {
		name string
		// bad makes what is in the way, and returns how to take it away.
		bad  func(t *testing.T, c *cluster.Cluster) (mend func())
		want []string
		root bool
		// follow has apply tell it too; it waits a while for what may pass.
		follow bool
	}{
		{
			name: "the port of PostgreSQL is taken", follow: true,
			bad: func(t *testing.T, c *cluster.Cluster) func() {
				l, err := net.Listen("tcp", c.Host("a")+":5432")
				if err != nil {
					t.Fatal(err)
				}
				return func() { l.Close() }
			},
			want: []string{"5432", "taken by another process", "ports.postgres"},
		},
		{
			name: "the parent of the data directory cannot be entered or written",
			bad: func(t *testing.T, c *cluster.Cluster) func() {
				parent := filepath.Join(c.Dir("a"), "data")
				mode := os.FileMode(0o700) // nobody but root
				if os.Geteuid() != 0 {
					mode = 0o500
				}
				if err := os.MkdirAll(c.Dir("a"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Mkdir(parent, mode); err != nil {
					t.Fatal(err)
				}
				return func() {
					if err := os.Chmod(parent, 0o755); err != nil {
						t.Fatal(err)
					}
				}
			},
			want: noWay,
		},
		{
			name: "the parent of the data directory is a file",
			bad: func(t *testing.T, c *cluster.Cluster) func() {
				parent := filepath.Join(c.Dir("a"), "data")
				writeFile(t, parent, "")
				return func() {
					if err := os.Remove(parent); err != nil {
						t.Fatal(err)
					}
				}
			},
			want: []string{"/data/pg", "not a directory", "change data_dir"},
		},
		{
			name: "the data directory is not empty",
			bad: func(t *testing.T, c *cluster.Cluster) func() {
				stranger := filepath.Join(c.Dir("a"), "data", "pg", "somebody's")
				writeFile(t, stranger, "")
				return func() {
					if err := os.Remove(stranger); err != nil {
						t.Fatal(err)
					}
				}
			},
			want: []string{"is not empty", "choose another data_dir"},
		},
		{
			name: "the disk of the data directory is full",
			root: true,
			bad: func(t *testing.T, c *cluster.Cluster) func() {
				disk := filepath.Join(c.Dir("a"), "data")
				if err := os.MkdirAll(disk, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=200m,mode=0755"); err != nil {
					t.Skipf("no file system can be mounted here: %v", err)
				}
				t.Cleanup(func() {
					if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
						t.Error(err)
					}
				})
				writeFile(t, filepath.Join(disk, "filler"), strings.Repeat("x", 180<<20))
				return func() {
					if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
						t.Fatal(err)
					}
				}
			},
			want: []string{"initdb", "space"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.root && os.Geteuid() != 0 {
				t.Skip("only root can mount")
			}
			t.Parallel()
			c := cluster.New(t, oneNode("", "").String())
			c.SetSpec(oneNode(fmt.Sprintf("data_dir = %q", filepath.Join(c.Dir("a"), "data", "pg")), "").String())
			mend := test.bad(t, c)
			c.Start("a")
			c.AwaitFormed()
			tryUnusable(t, c, test.follow, test.want)
			mend()
			c.Until("apply gets on once it is mended", cluster.Patience, func() bool { return c.TryApply("").Code == 0 })
			c.CheckHealthy()
		})
	}
}

// What only the start of ramd and the spec decide is shown in status too, and a
// corrected spec is applied.
func TestFirstNodeWithAWrongSpecSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		spec cluster.Spec
		want []string
		root bool
		// follow has apply tell it too; it waits a while for what may pass.
		follow bool
	}{
		{
			name: "PostgreSQL's programs are not where bin_dir says", follow: true,
			spec: oneNode("", "bin_dir = \"/nowhere/bin\"\n"),
			want: []string{"/nowhere/bin", "set bin_dir"},
		},
		{
			name: "a version that is not installed",
			spec: func() cluster.Spec { s := oneNode("", ""); s.Version = 14; return s }(),
			want: []string{"version 14", "postgresql-14"},
		},
		{
			name: "a system user that is not there",
			root: true,
			spec: oneNode("", "user = \"nobody-of-that-name\"\n"),
			want: []string{`system user "nobody-of-that-name"`, "does not exist", "postgres.user"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.root && os.Geteuid() != 0 {
				t.Skip("PostgreSQL runs as ramd's own user")
			}
			t.Parallel()
			c := cluster.New(t, test.spec.String())
			c.Start("a")
			c.AwaitFormed()
			tryUnusable(t, c, test.follow, test.want)
			c.Apply(oneNode("", "").String())
			c.CheckHealthy()
		})
	}
	t.Run("ramd's directory is too long for sockets", func(t *testing.T) {
		t.Parallel()
		c := cluster.New(t, oneNode("", "").String())
		long := filepath.Join(c.Dir("a"), strings.Repeat("long/", 20))
		c.StartWith("a", "--data-dir", long)
		if code := c.AwaitEnd("a"); code != 1 {
			t.Errorf("exit code %d", code)
		}
		text, err := os.ReadFile(c.LogFile("a"))
		if err != nil {
			t.Fatal(err)
		}
		if !lineWith(string(text), []string{"ramd: ", "bytes too long", "--data-dir"}) {
			t.Errorf("what it says:\n%s", text)
		}
	})
}

// tryUnusable applies what cannot be done, and checks what is said of it.
func tryUnusable(t *testing.T, c *cluster.Cluster, follow bool, want []string) {
	t.Helper()
	if follow {
		r := c.TryApply("")
		if r.Code != 1 {
			t.Errorf("apply: %s\n%s", r, c.Picture())
		}
		for _, part := range want {
			if !strings.Contains(r.Stderr, part) {
				t.Errorf("%q is not in what apply says:\n%s", part, r)
			}
		}
	} else {
		c.TryApply("", "--detach")
	}
	c.Await("status says what is wrong", explained(want))
}

// explained is the condition that a node's reason, or what blocks the plan, has all parts.
func explained(parts []string) cluster.Condition {
	return func(s reconcile.Status) error {
		err := reason("a", parts...)(s)
		if err != nil && cluster.Blocked(parts...)(s) == nil {
			return nil
		}
		return err
	}
}

func TestRunningClusterSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	base := cluster.Spec{Nodes: abc}
	with := func(parameters string) string {
		s := base
		s.Parameters = parameters
		return s.String()
	}
	c := settled(t, base)

	c.Part("a spec of another cluster", func(t *testing.T) {
		other := strings.Replace(base.String(), `cluster "`+cluster.Name+`"`, `cluster "other"`, 1)
		r := c.TryApply(other)
		if r.Code != 1 || !strings.Contains(r.Stdout+r.Stderr, `is for cluster "other", this one is "test"`) {
			t.Errorf("%s", r)
		}
		c.SetSpec(base.String())
	})
	c.Part("paused", func(t *testing.T) {
		c.CtlOK("pause", "--reason", "moving the rack")
		for _, args := range [][]string{{"apply", "--auto-approve"}, {"restart", "b", "--auto-approve"}} {
			if args[0] == "apply" {
				args = append(args, specOf(t, c, with(`work_mem = "9MB"`)))
			}
			if r := c.Ctl(args...); r.Code != 1 || !strings.Contains(r.Stderr, "paused") || !strings.Contains(r.Stderr, "ramctrl resume") {
				t.Errorf("%q: %s", args, r)
			}
		}
		c.CtlOK("resume")
		c.CheckHealthy()
	})
	c.Part("no majority", func(t *testing.T) {
		c.Kill9("b", "c")
		c.Await("the one that is left knows", func(s reconcile.Status) error {
			if s.Raft.HasQuorum || s.Converged {
				return fmt.Errorf("quorum %v, converged %v", s.Raft.HasQuorum, s.Converged)
			}
			return nil
		})
		if r := c.Ctl("status"); !strings.Contains(r.Stdout, "no majority") {
			t.Errorf("status: %s", r)
		}
		if r := c.Ctl("apply", specOf(t, c, with(`work_mem = "9MB"`)), "--auto-approve"); r.Code != 1 || !strings.Contains(r.Stderr, "leader") {
			t.Errorf("apply: %s", r)
		}
		c.CtlOK("history")
		c.Await("the primary is ended when its lease is over", nodeState("a", reconcile.NodeStopped))
		c.Start("b", "c")
		c.CheckHealthy()
		if primaryOf(c) != "a" { // either may take writes again, whoever is heard first
			c.CtlOK("switchover", "--to", "a", "--auto-approve")
			c.CheckHealthy()
		}
	})
	c.Part("a parameter that PostgreSQL refuses when it starts", func(t *testing.T) {
		before := c.StartedAt("a", "c")
		r := c.TryApply(strings.Replace(base.String(), `shared_buffers = "16MB"`, `shared_buffers = "900GB"`, 1))
		if r.Code != 1 {
			t.Errorf("apply: %s", r)
		}
		for _, part := range []string{"node b", "shared memory", "postgresql.log"} {
			if !strings.Contains(r.Stderr, part) {
				t.Errorf("%q is not in what apply says:\n%s", part, r)
			}
		}
		if got := restarted(before, c.StartedAt("a", "c")); len(got) > 0 {
			t.Errorf("%q restarted although b did not come back", got)
		}
		c.Await("status says so too", reason("b", "shared memory"))
		c.Apply(base.String())
		c.CheckHealthy()
		if got := restarted(before, c.StartedAt("a", "c")); len(got) > 0 {
			t.Errorf("%q restarted although its settings are as before", got)
		}
	})
	c.Part("a library that is not there", func(t *testing.T) {
		c.TryApply(with(`shared_preload_libraries = "nowhere"`), "--detach")
		c.Await("status says so", reason("b", "nowhere"))
		c.Apply(base.String())
		c.CheckHealthy()
	})
	c.Part("a data directory that became somebody else's", func(t *testing.T) {
		c.CtlOK("pause")
		c.PgCtl("b", "stop", "-m", "fast")
		kept := c.DataDir("b") + "-kept"
		if err := os.Rename(c.DataDir("b"), kept); err != nil {
			t.Fatal(err)
		}
		c.InitForeign("b")
		c.CtlOK("resume")
		c.Await("status says so", cluster.Blocked("b", "another PostgreSQL cluster", "system identifier", "move it away"))
		if c.Postmaster("b") != 0 {
			t.Error("a server was started on it")
		}
		if err := os.Rename(c.DataDir("b"), kept+"-foreign"); err != nil {
			t.Fatal(err)
		}
		c.CheckHealthy()
	})
}

func specOf(t *testing.T, c *cluster.Cluster, spec string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cluster.hcl")
	writeFile(t, path, c.Text(spec))
	return path
}
