package faults

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/testscripts/cluster"
)

// Cluster is one test's hosts, the network between them, ramd on each of them, and a
// host of the clients. Its methods fail the test, and are called from its goroutine.
type Cluster struct {
	// Net is where hosts are cut off.
	Net *Net
	// Client is the host that ramctrl and the writers run on.
	Client *Host

	t       testing.TB
	dir     string
	base    cluster.Spec // of New
	spec    string       // what the next Apply applies
	names   []string     // of nodes, in the order of their addresses
	left    []string     // of names, that the spec has no more
	tables  int          // made by newTable
	nodes   map[string]*node
	http    *http.Client
	disks   bool   // GiveDisks was called
	release func() // gives up the lock on dir
	// superuser is what Superuser has found; nil before.
	superuser *pgx.ConnConfig
}

// node is one host with what the test knows of its ramd.
type node struct {
	*Host
	cmd   *exec.Cmd     // nil before the first start
	ended chan struct{} // closed when cmd has been waited for
	// meant is set when the end of the process was asked for.
	meant bool
}

func (n *node) runs() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// clientName is a host that no node is called.
const clientName = "client"

// New makes hosts for the nodes of a spec, where nothing runs yet, and a client.
func New(t testing.TB, s cluster.Spec) *Cluster {
	t.Helper()
	Need(t)
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, Net: NewNet(), names: s.Nodes, nodes: map[string]*node{}}
	var err error
	if c.dir, c.release, err = makeDir(""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.finish)
	for i, name := range append(slices.Clone(s.Nodes), clientName) {
		h, err := NewHost(c.Net, name, netip.AddrFrom4([4]byte{10, 77, 1, byte(i + 1)}))
		c.must(err)
		if name == clientName {
			c.Client = h
		} else {
			c.nodes[name] = &node{Host: h}
		}
	}
	c.http = &http.Client{Transport: &http.Transport{DialContext: c.Client.Dial}}
	c.base = s
	c.SetSpec(s)
	return c
}

var hostName = regexp.MustCompile(`"@([a-z0-9_-]+)"`)

// SetSpec makes a spec the one that the next ramd is started with, and that the next
// Apply applies. It gets the line of hba that clients need.
func (c *Cluster) SetSpec(s cluster.Spec) {
	c.superuser = nil
	s.Swift = true
	s.Postgres += "    hba = [\"host all all 10.77.0.0/16 scram-sha-256\"]\n"
	c.spec = hostName.ReplaceAllStringFunc(s.String(), func(name string) string {
		return `"` + c.Host(strings.Trim(name, `"@`)).Addr.String() + `"`
	})
}

// Host is a node's.
func (c *Cluster) Host(name string) *Host { return c.node(name).Host }

func (c *Cluster) node(name string) *node {
	n, ok := c.nodes[name]
	if !ok {
		panic(fmt.Sprintf("faults: the test has no node %q", name))
	}
	return n
}

// Nodes are the names of all nodes, in the order of the spec.
func (c *Cluster) Nodes() []string { return slices.Clone(c.names) }

// Others are the names of all nodes but some.
func (c *Cluster) Others(but ...string) []string {
	return slices.DeleteFunc(c.Nodes(), func(name string) bool { return slices.Contains(but, name) })
}

// standbys are the names of all nodes that should follow a primary.
func (c *Cluster) standbys(primary string) []string {
	return c.Others(slices.Concat([]string{primary}, c.left, c.base.Witnesses)...)
}

// Dir is everything of a node; StateDir ramd's --data-dir; DataDir PostgreSQL's;
// LogFile what its ramds have written.
func (c *Cluster) Dir(node string) string { return filepath.Join(c.dir, node) }

// StateDir is the --data-dir of a node's ramd.
func (c *Cluster) StateDir(node string) string { return filepath.Join(c.Dir(node), "state") }

// DataDir is the data directory of a node's PostgreSQL.
func (c *Cluster) DataDir(node string) string {
	if c.disks {
		return c.diskData(node)
	}
	return filepath.Join(c.StateDir(node), "postgres")
}

// LogFile is what the ramds of a node have written.
func (c *Cluster) LogFile(node string) string { return filepath.Join(c.Dir(node), "ramd.log") }

// must fails the test on an error.
func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// Start starts ramd on the hosts of nodes; it does not wait for anything.
func (c *Cluster) Start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		n := c.node(name)
		if n.runs() {
			c.t.Fatalf("ramd of node %s runs already", name)
		}
		c.must(os.MkdirAll(c.Dir(name), 0o755))
		file := filepath.Join(c.Dir(name), "cluster.hcl")
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			c.must(os.WriteFile(file, []byte(c.spec), 0o644))
		}
		c.start(n, c.ramd(name, "start", "--spec", file, "--node", name, "--insecure"))
	}
}

func (c *Cluster) start(n *node, cmd *exec.Cmd) {
	c.t.Helper()
	log, err := os.OpenFile(c.LogFile(n.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	c.must(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	c.must(n.Host.Start(cmd))
	n.cmd, n.ended, n.meant = cmd, make(chan struct{}), false
	go func() {
		_ = cmd.Wait()
		close(n.ended)
	}()
}

// ramd is a command of a node's own ramd, which is a file in the node's directory, so
// that what a test leaves behind can be found.
func (c *Cluster) ramd(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	program := filepath.Join(c.Dir(name), "ramd")
	if _, err := os.Stat(program); err != nil {
		c.must(os.Link(filepath.Join(shared.dir, "ramd"), program))
	}
	cmd := exec.Command(program, append(args, "--data-dir", c.StateDir(name))...)
	cmd.Env = environment("GORACE=halt_on_error=0 atexit_sleep_ms=0")
	return cmd
}

// environment is that of the tests without what would change how ram behaves.
func environment(add ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "RAM_") || strings.HasPrefix(v, "RAMD_") || strings.HasPrefix(v, "PG")
	})
	return append(env, add...)
}

// Running are the nodes whose ramd runs, in the order of the spec. One that is frozen
// or cut off runs.
func (c *Cluster) Running() []string {
	return slices.DeleteFunc(c.Nodes(), func(name string) bool { return !c.nodes[name].runs() })
}

// Form starts ramd on all hosts, applies the spec and waits for convergence.
func (c *Cluster) Form() {
	c.t.Helper()
	c.Start(c.names...)
	c.AwaitFormed()
	c.Apply()
	c.AwaitConverged()
}

// KillRamd kills a node's ramd with SIGKILL. PostgreSQL goes on.
func (c *Cluster) KillRamd(name string) {
	c.t.Helper()
	n := c.node(name)
	if !n.runs() {
		c.t.Fatalf("ramd of node %s does not run", name)
	}
	n.meant = true
	_ = n.cmd.Process.Kill()
	<-n.ended
}

// KillHost kills everything on the host of a node at one moment.
func (c *Cluster) KillHost(name string) {
	c.t.Helper()
	n := c.node(name)
	n.meant = true
	c.must(n.KillAll())
	if n.cmd != nil {
		<-n.ended
	}
}

// Part runs one part of a test on a cluster that several parts share, as a subtest.
// A part that fails ends the test: the next ones count on a cluster in order.
func (c *Cluster) Part(name string, part func(t *testing.T)) {
	c.t.Helper()
	whole, ok := c.t.(*testing.T)
	if !ok {
		c.t.Fatal("only a test has parts")
	}
	passed := whole.Run(name, func(t *testing.T) {
		c.t = t
		defer func() { c.t = whole }()
		part(t)
	})
	if !passed {
		c.t.FailNow()
	}
}

// finish ends everything and looks at what is left.
func (c *Cluster) finish() {
	defer c.release()
	c.Net.Heal()
	c.FreeDisks()
	for _, n := range c.nodes {
		n.ContAll()
	}
	if !c.t.Failed() {
		c.stopInOrder()
		c.checkLogs()
	}
	for _, name := range append(c.Nodes(), clientName) {
		c.closeHost(name)
	}
	c.Net.Close()
	if c.t.Failed() && os.Getenv("RAM_TEST_KEEP") != "" {
		_ = os.WriteFile(filepath.Join(c.dir, keptFile), nil, 0o644)
		c.t.Logf("kept %s", c.dir)
		return
	}
	unmountBelow(c.dir)
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Error(err)
	}
}

// closeHost closes a host, if New came as far as making it.
func (c *Cluster) closeHost(name string) {
	host := c.Client
	if n := c.nodes[name]; n != nil {
		host = n.Host
	}
	if host == nil {
		return
	}
	if err := host.Close(); err != nil {
		c.t.Errorf("host %s: %v", name, err)
	}
	if n := c.nodes[name]; n != nil && n.cmd != nil {
		<-n.ended
	}
}

// stopInOrder stops every node that runs as an operator does, after which no process
// may be left on its host.
func (c *Cluster) stopInOrder() {
	for _, name := range c.Running() {
		n := c.nodes[name]
		n.meant = true
		cmd := c.ramd(name, "stop", "--postgres")
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		err := n.Host.Start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			c.t.Errorf("ramd stop --postgres on node %s: %v\n%s\n%s", name, err, out.String(), c.tails(name))
			continue
		}
		deadline := time.Now().Add(20 * time.Second)
		for len(n.PIDs()) > 0 && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
		if left := n.Processes(); len(left) > 0 {
			c.t.Errorf("node %s has processes after ramd stop --postgres: %v", name, left)
		}
	}
}

var crashed = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE)`)

// checkLogs looks for ramds that crashed, raced, or ended without being asked.
func (c *Cluster) checkLogs() {
	for name, n := range c.nodes {
		if n.cmd == nil {
			continue
		}
		if !n.meant && !n.runs() {
			c.t.Errorf("ramd of node %s has ended by itself: %s\n%s", name, n.cmd.ProcessState, tail(c.LogFile(name), 30))
		}
		text, err := os.ReadFile(c.LogFile(name))
		if err != nil {
			c.t.Error(err)
		}
		if at := crashed.FindIndex(text); at != nil {
			c.t.Errorf("ramd of node %s:\n%s", name, text[at[0]:min(len(text), at[0]+8000)])
		}
	}
}
