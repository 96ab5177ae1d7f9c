package cluster

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long the helpers wait for what must happen. It says nothing
// about how fast things are: the machine may be busy with anything.
const Patience = 3 * time.Minute

// Cluster is the ramd processes of one test, their PostgreSQL servers and their
// files. Its methods are called from the test's goroutine, and fail the test.
type Cluster struct {
	t     testing.TB
	dir   string
	block block
	hosts []string // names of nodes in the order of their addresses
	spec  string   // what Start gives to nodes that have no file yet
	nodes map[string]*node
	http  *http.Client
	rows  int      // written by Write
	env   []string // of every ramd, beside that of the tests
	// release gives up the lock on dir.
	release func()
}

// node is one host: what is there of it stays when its ramd is gone.
type node struct {
	name string
	cmd  *exec.Cmd // nil before the first start
	// ended is closed when cmd has been waited for; err is set before.
	ended chan struct{}
	err   error
	// meant is set when the end of the process was asked for.
	meant bool
}

func (n *node) runs() bool {
	if n == nil || n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// New makes a cluster that starts with the spec; no process runs yet. It waits
// for its turn.
func New(t testing.TB, spec string) *Cluster {
	t.Helper()
	needs(t)
	shared.turn <- struct{}{}
	t.Cleanup(func() { <-shared.turn })
	return start(t, spec)
}

// NewIdle is New for a test that mostly waits for the time to pass, beside those whose
// turn it is.
func NewIdle(t testing.TB, spec string) *Cluster {
	t.Helper()
	needs(t)
	return start(t, spec)
}

func needs(t testing.TB) {
	t.Helper()
	if _, err := postgres(); err != nil {
		t.Fatal(err)
	}
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, spec string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, nodes: map[string]*node{}, http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(c.http.CloseIdleConnections)
	var err error
	if c.block, err = claimBlock(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.block.lock.Close() })
	if c.dir, err = os.MkdirTemp("", dirPrefix); err != nil {
		t.Fatal(err)
	}
	if c.release, err = claim(c.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.finish)
	c.SetSpec(spec)
	return c
}

// Dir is everything of a node: ramd's data directory, with its PostgreSQL in it.
func (c *Cluster) Dir(node string) string { return filepath.Join(c.dir, node) }

// DataDir is PostgreSQL's data directory, when the spec does not say another.
func (c *Cluster) DataDir(node string) string { return filepath.Join(c.Dir(node), "state", "postgres") }

// StateDir is ramd's --data-dir.
func (c *Cluster) StateDir(node string) string { return filepath.Join(c.Dir(node), "state") }

// SpecFile is the spec that the node's ramd is started with.
func (c *Cluster) SpecFile(node string) string { return filepath.Join(c.Dir(node), "cluster.hcl") }

// LogFile is what the node's ramd has written.
func (c *Cluster) LogFile(node string) string { return filepath.Join(c.Dir(node), "ramd.log") }

// TokenFile is the admin token as a node has it.
func (c *Cluster) TokenFile(node string) string {
	return filepath.Join(c.StateDir(node), "admin.token")
}

// Host is the address of a node, Addr that of its API.
func (c *Cluster) Host(node string) string {
	i := slices.Index(c.hosts, node)
	if i < 0 {
		i = len(c.hosts)
		c.hosts = append(c.hosts, node)
	}
	return c.block.addr(i)
}

// Addr is the host:port of a node's API.
func (c *Cluster) Addr(node string) string { return c.Host(node) + ":8080" }

var hostName = regexp.MustCompile(`"@([a-z0-9_-]+)"`)

// Text is a spec with addresses in the place of "@name".
func (c *Cluster) Text(spec string) string {
	return hostName.ReplaceAllStringFunc(spec, func(s string) string {
		return `"` + c.Host(strings.Trim(s, `"@`)) + `"`
	})
}

// SetSpec makes a spec the one that Start writes for nodes without a file.
func (c *Cluster) SetSpec(spec string) { c.spec = c.Text(spec) }

// WriteSpec writes the spec file of one node.
func (c *Cluster) WriteSpec(node, spec string) {
	c.t.Helper()
	c.must(os.MkdirAll(c.Dir(node), 0o755))
	c.must(os.WriteFile(c.SpecFile(node), []byte(c.Text(spec)), 0o644))
}

// must fails the test on an error.
func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// Start starts the ramd of each node with its spec file; it does not wait for
// anything.
func (c *Cluster) Start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		c.StartWith(name)
	}
}

// StartWith starts the ramd of one node with further flags.
func (c *Cluster) StartWith(name string, flags ...string) {
	c.t.Helper()
	if c.nodes[name].runs() {
		c.t.Fatalf("ramd of node %s runs already", name)
	}
	c.must(os.MkdirAll(c.Dir(name), 0o755))
	if _, err := os.Stat(c.SpecFile(name)); errors.Is(err, os.ErrNotExist) {
		c.WriteSpec(name, c.spec)
	}
	cmd := c.ramd(name, append([]string{
		"start", "--spec", c.SpecFile(name), "--node", name, "--data-dir", c.StateDir(name),
	}, flags...)...)
	log, err := os.OpenFile(c.LogFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	c.must(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	n := &node{name: name, cmd: cmd, ended: make(chan struct{})}
	c.must(cmd.Start())
	c.nodes[name] = n
	go func() {
		n.err = cmd.Wait()
		close(n.ended)
	}()
}

// ramd is a command of a node's own ramd: a name of the program in the node's
// directory, so that the guards that it starts can be told from those of others.
func (c *Cluster) ramd(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	program := filepath.Join(c.Dir(name), "ramd")
	if _, err := os.Stat(program); err != nil {
		c.must(os.MkdirAll(c.Dir(name), 0o755))
		c.must(os.Link(filepath.Join(shared.dir, "ramd"), program))
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(environment("GORACE=halt_on_error=0 atexit_sleep_ms=0"), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// environment is that of the tests without what would change how ram behaves.
func environment(add ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "RAM_") || strings.HasPrefix(v, "RAMD_") || strings.HasPrefix(v, "PG")
	})
	return append(env, add...)
}

// Ramd runs another command of a node's ramd, such as "info", on its data
// directory, and returns what it printed.
func (c *Cluster) Ramd(name string, args ...string) Result {
	c.t.Helper()
	return run(c.ramd(name, append(args, "--data-dir", c.StateDir(name))...), nil)
}

// Running are the nodes whose ramd runs, sorted.
func (c *Cluster) Running() []string {
	var names []string
	for name, n := range c.nodes {
		if n.runs() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Kill9 kills the ramd of each node with SIGKILL. PostgreSQL goes on.
func (c *Cluster) Kill9(names ...string) {
	c.t.Helper()
	c.signal(syscall.SIGKILL, names...)
}

// Stop ends the ramd of each node with SIGTERM. PostgreSQL goes on.
func (c *Cluster) Stop(names ...string) {
	c.t.Helper()
	c.signal(syscall.SIGTERM, names...)
	for _, name := range names {
		if err := c.nodes[name].err; err != nil {
			c.t.Errorf("ramd of node %s, asked to end: %v", name, err)
		}
	}
}

func (c *Cluster) signal(sig syscall.Signal, names ...string) {
	c.t.Helper()
	for _, name := range names {
		n := c.nodes[name]
		if !n.runs() {
			c.t.Fatalf("ramd of node %s does not run\n%s", name, c.tails(name))
		}
		n.meant = true
		_ = n.cmd.Process.Signal(sig)
	}
	for _, name := range names {
		c.AwaitEnd(name)
	}
}

// StopPostgres runs ramd stop --postgres on a node.
func (c *Cluster) StopPostgres(name string) Result {
	c.t.Helper()
	c.nodes[name].meant = true
	r := c.Ramd(name, "stop", "--postgres")
	if r.Code == 0 {
		c.AwaitEnd(name)
	}
	return r
}

// AwaitEnd waits until the ramd of a node has ended, and returns its exit code.
func (c *Cluster) AwaitEnd(name string) int {
	c.t.Helper()
	n := c.nodes[name]
	n.meant = true
	select {
	case <-n.ended:
	case <-time.After(Patience):
		c.t.Fatalf("ramd of node %s does not end\n%s", name, c.goroutines(n))
	}
	return n.cmd.ProcessState.ExitCode()
}

// goroutines has a ramd that hangs write where it hangs, and ends it.
func (c *Cluster) goroutines(n *node) string {
	_ = n.cmd.Process.Signal(syscall.SIGABRT)
	select {
	case <-n.ended:
	case <-time.After(10 * time.Second):
		_ = n.cmd.Process.Kill()
		<-n.ended
	}
	return tail(c.LogFile(n.name), 200)
}

// KillTree kills everything of the nodes at one moment, as a power cut does: ramd,
// guard, PostgreSQL, and whatever they were running.
func (c *Cluster) KillTree(names ...string) {
	c.t.Helper()
	dirs := make([]string, len(names))
	for i, name := range names {
		dirs[i] = c.Dir(name)
		if n := c.nodes[name]; n != nil {
			n.meant = true
		}
	}
	killBelow(dirs...)
	for _, name := range names {
		if c.nodes[name] != nil {
			c.AwaitEnd(name)
		}
	}
	c.CheckNoProcess(names...)
}

// finish ends everything and looks at what is left.
func (c *Cluster) finish() {
	defer c.release()
	if !c.t.Failed() {
		c.endInOrder()
		c.checkLogs()
	}
	killBelow(c.dir)
	for _, n := range c.nodes {
		<-n.ended
	}
	if c.t.Failed() && os.Getenv("RAM_TEST_KEEP") != "" {
		_ = os.WriteFile(filepath.Join(c.dir, keptFile), nil, 0o644)
		c.t.Logf("kept %s", c.dir)
		return
	}
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Error(err)
	}
}

// endInOrder stops every node that runs with ramd stop --postgres, after which no
// process of it may be left. What runs without ramd is killed.
func (c *Cluster) endInOrder() {
	var stopping sync.WaitGroup
	for _, name := range c.Running() {
		c.nodes[name].meant = true
		stopping.Go(func() {
			if r := c.Ramd(name, "stop", "--postgres"); r.Code != 0 {
				c.t.Errorf("ramd stop --postgres on node %s:\n%s\n%s", name, r.Stderr, c.tails(name))
			}
		})
	}
	stopped := c.Running()
	stopping.Wait()
	for name, n := range c.nodes {
		if !slices.Contains(stopped, name) {
			killBelow(c.Dir(name))
		} else if code := c.AwaitEnd(name); code != 0 {
			c.t.Errorf("ramd of node %s ended with exit code %d\n%s", n.name, code, c.tails(name))
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	left := processesBelow(c.dir)
	for len(left) > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
		left = processesBelow(c.dir)
	}
	if len(left) > 0 {
		c.t.Errorf("processes are left after ramd stop --postgres on every node:\n%s", describeProcesses(left))
	}
}

var crashed = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE)`)

// checkLogs looks for ramds that crashed, raced, or ended without being asked.
func (c *Cluster) checkLogs() {
	for name, n := range c.nodes {
		if !n.meant && !n.runs() {
			c.t.Errorf("ramd of node %s has ended by itself: %v\n%s", name, n.err, tail(c.LogFile(name), 30))
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

// Until waits for a claim to become true, and fails the test with a picture of
// the cluster when it does not.
func (c *Cluster) Until(claim string, timeout time.Duration, holds func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(timeout)
	for !holds() {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %s: %s\n%s", timeout, claim, c.Picture())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *Cluster) context(timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), timeout)
}
