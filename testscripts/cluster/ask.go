package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// Result is what a command did.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// String is the result for messages.
func (r Result) String() string {
	return fmt.Sprintf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
}

func run(cmd *exec.Cmd, stdin []byte) Result {
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		r.Code, r.Stderr = -1, err.Error()
	}
	return r
}

// Ctl runs ramctrl as an operator of the cluster, with the addresses of the nodes
// whose ramd runs, or of all when none does.
func (c *Cluster) Ctl(args ...string) Result {
	c.t.Helper()
	return c.CtlAt(c.Running(), args...)
}

// CtlAt runs ramctrl with the addresses of some nodes.
func (c *Cluster) CtlAt(nodes []string, args ...string) Result {
	c.t.Helper()
	return c.ctl(nodes, c.Token(), args)
}

// CtlAs runs ramctrl with another token.
func (c *Cluster) CtlAs(token string, args ...string) Result {
	c.t.Helper()
	return c.ctl(c.Running(), token, args)
}

func (c *Cluster) ctl(nodes []string, token string, args []string) Result {
	if len(nodes) == 0 {
		nodes = c.hosts
	}
	addrs := make([]string, len(nodes))
	for i, name := range nodes {
		addrs[i] = c.Addr(name)
	}
	cmd := exec.Command(filepath.Join(shared.dir, "ramctrl"), args...)
	cmd.Dir = c.dir
	cmd.Env = environment("RAM_ADDR="+strings.Join(addrs, ","), "RAM_TOKEN="+token, "NO_COLOR=1")
	return run(cmd, nil)
}

// Token is the admin token of whichever node has it; empty when none has.
func (c *Cluster) Token() string {
	for _, name := range c.hosts {
		if b, err := os.ReadFile(c.TokenFile(name)); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

// specFile writes a spec for ramctrl; the empty one is that of SetSpec.
func (c *Cluster) specFile(spec string) string {
	c.t.Helper()
	if spec != "" {
		c.SetSpec(spec)
	}
	path := filepath.Join(c.dir, "apply.hcl")
	c.must(os.WriteFile(path, []byte(c.spec), 0o644))
	return path
}

// Apply applies a spec (the empty one is that of New, or the last one) and follows
// the run until it is done; it waits for the cluster to be formed.
func (c *Cluster) Apply(spec string, flags ...string) Result {
	c.t.Helper()
	c.AwaitFormed()
	r := c.TryApply(spec, flags...)
	if r.Code != 0 {
		c.t.Fatalf("apply: %s\n%s", r, c.Picture())
	}
	return r
}

// TryApply is one ramctrl apply, whatever comes of it.
func (c *Cluster) TryApply(spec string, flags ...string) Result {
	c.t.Helper()
	return c.Ctl(append([]string{"apply", c.specFile(spec), "--auto-approve"}, flags...)...)
}

// Plan is the plan to a spec; the empty one is that of New, or the last one.
func (c *Cluster) Plan(spec string) reconcile.Plan {
	c.t.Helper()
	r := c.Ctl("plan", c.specFile(spec), "-o", "json")
	var p reconcile.Plan
	if err := json.Unmarshal([]byte(r.Stdout), &p); err != nil {
		c.t.Fatalf("plan: %s\n%s", r, c.Picture())
	}
	return p
}

// Ask gets a path of the API, such as "/status", from one node, with the admin
// token.
func (c *Cluster) Ask(node, path string, out any) error {
	return c.AskAs(c.Token(), node, http.MethodGet, path, nil, out)
}

// AskAs sends a request with any token and a body in JSON. The error is the
// answer's HTTP status and message when it is no success.
func (c *Cluster) AskAs(token, node, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := c.context(15 * time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+c.Addr(node)+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	var envelope struct {
		Success bool            `json:"success"`
		Data    json.RawMessage `json:"data"`
		Message string          `json:"message"`
	}
	if err := json.NewDecoder(w.Body).Decode(&envelope); err != nil {
		return fmt.Errorf("%s: %w", w.Status, err)
	}
	if !envelope.Success {
		return fmt.Errorf("%s: %s", w.Status, envelope.Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(envelope.Data, out)
}

// Status is the cluster's state as some node that runs tells it; false when none
// answers.
func (c *Cluster) Status() (reconcile.Status, bool) {
	for _, name := range c.Running() {
		if s, err := c.StatusOf(name); err == nil {
			return s, true
		}
	}
	return reconcile.Status{}, false
}

// StatusOf asks one node.
func (c *Cluster) StatusOf(node string) (reconcile.Status, error) {
	var s reconcile.Status
	err := c.Ask(node, "/status", &s)
	return s, err
}

// Events are all that the record still holds, oldest first.
func (c *Cluster) Events() []reconcile.Event {
	var answer struct {
		Events []reconcile.Event `json:"events"`
	}
	for _, name := range c.Running() {
		if c.Ask(name, "/events?limit=1000", &answer) == nil {
			break
		}
	}
	return answer.Events
}

// Runs are the executions of plans, oldest first.
func (c *Cluster) Runs() []reconcile.Run {
	var runs []reconcile.Run
	for _, name := range c.Running() {
		if c.Ask(name, "/runs", &runs) == nil {
			break
		}
	}
	return runs
}

// Leader waits for a Raft leader and returns its name.
func (c *Cluster) Leader() string {
	c.t.Helper()
	var leader string
	c.Await("there is a Raft leader that runs", func(s reconcile.Status) error {
		if s.Raft.Leader == "" || !c.nodes[s.Raft.Leader].runs() {
			return fmt.Errorf("the leader is %q", s.Raft.Leader)
		}
		leader = s.Raft.Leader
		return nil
	})
	return leader
}

// MoveLeader makes a node the Raft leader, by killing the ramd of whoever leads until
// the others elect that one. All are running again when it returns.
func (c *Cluster) MoveLeader(to string) {
	c.t.Helper()
	for range 30 {
		leader := c.Leader()
		if leader == to {
			return
		}
		c.Kill9(leader)
		c.Await("another node leads", func(s reconcile.Status) error {
			if s.Raft.Leader == "" || s.Raft.Leader == leader {
				return fmt.Errorf("the leader is %q", s.Raft.Leader)
			}
			return nil
		})
		c.Start(leader)
		c.AwaitConverged()
	}
	c.t.Fatalf("node %s does not become the Raft leader\n%s", to, c.Picture())
}
