package testscripts

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// devCluster is a cluster of ramctrl dev, with the addresses of a test cluster.
type devCluster struct {
	*cluster.Cluster
	t    *testing.T
	dir  string // the dev directory
	spec string // path of the spec
}

func newDev(t *testing.T, s cluster.Spec) *devCluster {
	t.Helper()
	c := cluster.New(t, s.String())
	c.WriteSpec("specs", s.String())
	return &devCluster{Cluster: c, t: t, dir: c.Dir("dev"), spec: c.SpecFile("specs")}
}

// dev runs ramctrl dev VERB, which has to succeed, and returns what it printed.
func (d *devCluster) dev(verb string, args ...string) string {
	d.t.Helper()
	r := d.tryDev(verb, args...)
	if r.Code != 0 {
		d.t.Fatalf("ramctrl dev %s: %s", verb, r)
	}
	return r.Stdout
}

func (d *devCluster) tryDev(verb string, args ...string) cluster.Result {
	d.t.Helper()
	return d.Ctl(append([]string{"dev", verb, "--dir", d.dir}, args...)...)
}

// ctl runs ramctrl with what dev env prints.
func (d *devCluster) ctl(args ...string) string {
	d.t.Helper()
	values := map[string]string{}
	for line := range strings.Lines(d.dev("env")) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		values[name] = value
	}
	r := d.Ctl(append([]string{"--addr", values["RAM_ADDR"], "--token-file", values["RAM_TOKEN_FILE"]}, args...)...)
	if r.Code != 0 {
		d.t.Fatalf("ramctrl %s: %s\n%s", strings.Join(args, " "), r, d.dev("status"))
	}
	return strings.TrimSpace(r.Stdout)
}

// sql asks the primary, or another node.
func (d *devCluster) sql(node, text string) string {
	d.t.Helper()
	at := []string{"psql"}
	if node != "" {
		at = append(at, "--node", node)
	}
	return d.ctl(append(at, "--", "-XAtqc", text)...)
}

type devReport struct {
	Cluster string
	Ramds   []struct {
		Node string
		PID  int
	}
	Status *reconcile.Status
}

func (d *devCluster) report() devReport {
	d.t.Helper()
	var r devReport
	if err := json.Unmarshal([]byte(d.dev("status", "-o", "json")), &r); err != nil {
		d.t.Fatal(err)
	}
	return r
}

// ramds are the process numbers by node; zero where none runs.
func (d *devCluster) ramds() map[string]int {
	d.t.Helper()
	pids := map[string]int{}
	for _, ramd := range d.report().Ramds {
		pids[ramd.Node] = ramd.PID
	}
	return pids
}

// kill9 kills ramds of nodes, all of them when none is named, and waits until they are
// gone.
func (d *devCluster) kill9(nodes ...string) {
	d.t.Helper()
	for node, pid := range d.ramds() {
		if len(nodes) > 0 && !slices.Contains(nodes, node) {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			d.t.Fatal(err)
		}
		d.Until("ramd of "+node+" is gone", cluster.Patience, func() bool {
			return !slices.ContainsFunc(d.Processes("dev"), func(p cluster.Process) bool { return p.PID == pid })
		})
	}
}

func (d *devCluster) converged() reconcile.Status {
	d.t.Helper()
	var status reconcile.Status
	d.Until("the dev cluster has converged", cluster.Patience, func() bool {
		status = reconcile.Status{}
		return json.Unmarshal([]byte(d.ctl("status", "-o", "json")), &status) == nil && status.Converged
	})
	return status
}

func (d *devCluster) checkGone() {
	d.t.Helper()
	if left := d.Processes("dev"); len(left) > 0 {
		d.t.Errorf("processes are left: %v", left)
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, fs.ErrNotExist) {
		d.t.Errorf("%s is still there: %v", d.dir, err)
	}
}

func TestDevRunsAWholeCluster(t *testing.T) {
	t.Parallel()
	d := newDev(t, threeNodes)
	part := func(name string, f func()) {
		t.Helper()
		d.Part(name, func(t *testing.T) {
			whole := d.t
			d.t = t
			defer func() { d.t = whole }()
			f()
		})
	}

	part("up forms it, and apply makes it what the spec says", func() {
		if said := d.dev("up", d.spec); !strings.Contains(said, "ramctrl apply") {
			d.t.Errorf("dev up does not say what comes next:\n%s", said)
		}
		d.ctl("apply", d.spec, "--auto-approve")
		status := d.converged()
		if got, want := len(status.Nodes), 3; got != want || status.Primary == "" {
			d.t.Errorf("%d nodes, primary %q; want %d and a primary", got, status.Primary, want)
		}
		d.sql("", "create table kept (n int); insert into kept values (1)")
	})
	part("a second up starts nothing", func() {
		before := d.ramds()
		if said := d.dev("up", d.spec); !strings.Contains(said, "runs already") {
			d.t.Errorf("dev up said:\n%s", said)
		}
		if diff := cmp.Diff(before, d.ramds()); diff != "" {
			d.t.Errorf("processes changed (-before +after):\n%s", diff)
		}
	})
	part("up starts a ramd that was killed, and leaves the others alone", func() {
		before := d.ramds()
		d.kill9("b")
		if pid := d.ramds()["b"]; pid != 0 {
			d.t.Errorf("status shows a ramd on b that was killed (pid %d)", pid)
		}
		d.dev("up", d.spec)
		after := d.ramds()
		if after["b"] == 0 || after["b"] == before["b"] {
			d.t.Errorf("ramd of b had pid %d and has %d", before["b"], after["b"])
		}
		delete(before, "b")
		delete(after, "b")
		if diff := cmp.Diff(before, after); diff != "" {
			d.t.Errorf("other processes changed (-before +after):\n%s", diff)
		}
		d.converged()
	})
	part("up starts a node that was added to the spec, and apply takes it in", func() {
		d.WriteSpec("specs", threeNodes.With("d").String())
		if said := d.dev("up", d.spec); !strings.Contains(said, "Node d becomes a member") {
			d.t.Errorf("dev up said:\n%s", said)
		}
		d.ctl("apply", d.spec, "--auto-approve")
		d.converged()
		if got := d.sql("d", "select n from kept"); got != "1" {
			d.t.Errorf("d has %q in the table, want 1", got)
		}
	})
	part("down --keep stops everything, and up goes on with the data", func() {
		d.dev("down", "--keep")
		d.CheckNoProcess("dev")
		d.dev("up", d.spec)
		d.converged()
		if got := d.sql("", "select n from kept"); got != "1" {
			d.t.Errorf("the table has %q, want 1", got)
		}
	})
	part("up says why a ramd does not stay", func() {
		d.dev("down", "--keep")
		raft := filepath.Join(d.dir, "b", "raft")
		if err := errors.Join(os.Rename(raft, raft+".away"), os.WriteFile(raft, nil, 0o600)); err != nil {
			d.t.Fatal(err)
		}
		r := d.tryDev("up", d.spec)
		for _, part := range []string{"ramd of node b did not stay", filepath.Join(d.dir, "b", "ramd.log"), "not a directory", "ramctrl dev down"} {
			if r.Code != 1 || !strings.Contains(r.Stderr, part) {
				d.t.Errorf("no %q in: %s", part, r)
			}
		}
		if err := errors.Join(os.Remove(raft), os.Rename(raft+".away", raft)); err != nil {
			d.t.Fatal(err)
		}
		d.dev("up", d.spec)
		d.converged()
	})
	part("down leaves nothing, though every ramd was killed", func() {
		d.kill9()
		d.dev("down")
		d.checkGone()
	})
}

func TestDevDownEndsAClusterThatIsBeingSetUp(t *testing.T) {
	t.Parallel()
	d := newDev(t, threeNodes)
	d.dev("up", "--watch", d.spec)
	d.Until("a node is being set up", cluster.Patience, func() bool {
		files, _ := filepath.Glob(filepath.Join(d.dir, "*", "postgres*"))
		return len(files) > 0
	})
	d.kill9()
	d.dev("down")
	d.checkGone()
}

func TestDevRefuses(t *testing.T) {
	t.Parallel()
	d := newDev(t, threeNodes)
	taken, err := net.Listen("tcp", d.Addr("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	foreign := d.Dir("foreign")
	notes := filepath.Join(foreign, "notes")
	if err := errors.Join(os.Mkdir(foreign, 0o755), os.WriteFile(notes, []byte("mine"), 0o644)); err != nil {
		t.Fatal(err)
	}
	placed := threeNodes
	placed.Node = map[string]string{"b": `data_dir = "/var/lib/postgresql/b"`}

	for _, test := range []struct {
		rule string
		spec string
		args []string
		want []string
	}{
		{
			"a port that is taken, with what has it",
			threeNodes.String(),
			[]string{"up", d.spec, "--dir", d.dir},
			[]string{"node b: port 8080 (api) of " + d.Host("b") + " is taken by process", filepath.Base(os.Args[0]), "ports.api"},
		},
		{
			"hosts that are not this machine",
			strings.ReplaceAll(threeNodes.String(), "@b", "10.1.2.3"),
			[]string{"up", d.spec, "--dir", d.dir},
			[]string{"node b has host 10.1.2.3", "loopback", "127.0.0."},
		},
		{
			"data directories that dev down could not remove",
			placed.String(),
			[]string{"up", d.spec, "--dir", d.dir},
			[]string{"node b has data_dir /var/lib/postgresql/b", "leave data_dir out"},
		},
		{
			"a spec that is not valid",
			strings.ReplaceAll(threeNodes.String(), "host =", "hots ="),
			[]string{"up", d.spec, "--dir", d.dir},
			[]string{"hots", "nothing was started"},
		},
		{
			"a directory that is too long for sockets",
			threeNodes.String(),
			[]string{"up", d.spec, "--dir", filepath.Join(d.dir, strings.Repeat("x", 90))},
			[]string{"too long for the unix sockets", "--dir"},
		},
		{
			"to start in a directory of somebody else's",
			threeNodes.String(),
			[]string{"up", d.spec, "--dir", foreign},
			[]string{foreign + " was not made by ramctrl dev", "--dir"},
		},
		{
			"to remove a directory of somebody else's",
			threeNodes.String(),
			[]string{"down", "--dir", foreign},
			[]string{foreign + " was not made by ramctrl dev", "nothing in it is touched"},
		},
		{
			"to remove what is not there",
			threeNodes.String(),
			[]string{"down", "--dir", d.dir},
			[]string{"no dev cluster in " + d.dir, "ramctrl dev up"},
		},
	} {
		t.Run(test.rule, func(t *testing.T) {
			d.WriteSpec("specs", test.spec)
			r := d.Ctl(append([]string{"dev"}, test.args...)...)
			for _, part := range test.want {
				if r.Code != 1 || !strings.Contains(r.Stderr, part) {
					t.Errorf("no %q in: %s", part, r)
				}
			}
			d.checkGone()
		})
	}
	if text, err := os.ReadFile(notes); err != nil || string(text) != "mine" {
		t.Errorf("somebody else's file: %q, %v", text, err)
	}
}
