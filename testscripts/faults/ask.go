package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// Ctl runs ramctrl on the client's host, with the addresses of all nodes.
func (c *Cluster) Ctl(args ...string) cluster.Result {
	c.t.Helper()
	return c.ctl(cluster.Patience, args...)
}

// ctl is Ctl that is killed after a time.
func (c *Cluster) ctl(limit time.Duration, args ...string) cluster.Result {
	c.t.Helper()
	var addrs []string
	for _, name := range c.names {
		addrs = append(addrs, c.Host(name).Addr.String()+":8080")
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(shared.dir, "ramctrl"), args...)
	cmd.Dir = c.dir
	cmd.Env = environment("RAM_ADDR="+strings.Join(addrs, ","), "RAM_TOKEN="+c.token(), "NO_COLOR=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := c.Client.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	r := cluster.Result{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		r.Code, r.Stderr = -1, err.Error()
	}
	return r
}

// token is the admin token of whichever node has it; empty when none has.
func (c *Cluster) token() string {
	for _, name := range c.names {
		if b, err := os.ReadFile(filepath.Join(c.StateDir(name), "admin.token")); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

// Apply applies the spec and follows the run until it is done.
func (c *Cluster) Apply() {
	c.t.Helper()
	if r := c.Ctl("apply", c.applyFile(), "--auto-approve"); r.Code != 0 {
		c.t.Fatalf("apply: %s\n%s", r, c.Picture())
	}
}

// applyFile is a file with the spec of SetSpec.
func (c *Cluster) applyFile() string {
	c.t.Helper()
	path := filepath.Join(c.dir, "apply.hcl")
	c.must(os.WriteFile(path, []byte(c.spec), 0o644))
	return path
}

// ask gets a path of the API, such as "/status", from one node.
func (c *Cluster) ask(node, path string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Host(node).Addr.String()+":8080/api/v1"+path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.token())
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
	return json.Unmarshal(envelope.Data, out)
}

// askAny asks nodes in turn until one answers.
func (c *Cluster) askAny(path string, out any) error {
	err := errors.New("no ramd runs")
	for _, name := range c.Running() {
		if err = c.ask(name, path, out); err == nil {
			break
		}
	}
	return err
}

// Status is the cluster's state as a node tells it whose ramd sees a quorum, or else as
// any node tells it that answers. All are asked at once, for some may be frozen.
func (c *Cluster) Status() (reconcile.Status, error) {
	type answer struct {
		status reconcile.Status
		err    error
	}
	running := c.Running()
	answers := make(chan answer, len(running))
	for _, name := range running {
		go func() {
			var s reconcile.Status
			err := c.ask(name, "/status", &s)
			answers <- answer{s, err}
		}()
	}
	best := answer{err: errors.New("no ramd runs")}
	for range running {
		a := <-answers
		if a.err == nil && a.status.Raft.HasQuorum {
			return a.status, nil
		}
		if best.err != nil {
			best = a
		}
	}
	return best.status, best.err
}

// Superuser is how a session of the superuser is opened from the client's host
// through the DSN that ramctrl dsn prints: all nodes that hold data in turn, until
// one of them takes writes.
func (c *Cluster) Superuser() *pgx.ConnConfig {
	c.t.Helper()
	if c.superuser == nil {
		c.superuser = c.newSuperuser()
	}
	return c.superuser.Copy()
}

func (c *Cluster) newSuperuser() *pgx.ConnConfig {
	c.t.Helper()
	var r struct {
		User     string `json:"user"`
		Password string `json:"password"`
	}
	c.must(c.askAny("/credentials", &r))
	printed := c.Ctl("dsn", "--user", r.User)
	if printed.Code != 0 {
		c.t.Fatalf("ramctrl dsn: %s\n%s", printed, c.Picture())
	}
	config, err := pgx.ParseConfig(strings.TrimSpace(printed.Stdout))
	c.must(err)
	config.Password = r.Password
	config.TLSConfig = nil
	// Without TLS every host would be in the list twice.
	var plain []*pgconn.FallbackConfig
	for _, f := range config.Fallbacks {
		if f.TLSConfig == nil && (f.Host != config.Host || f.Port != config.Port) {
			plain = append(plain, f)
		}
	}
	config.Fallbacks = plain
	config.DialFunc = c.Client.Dial
	config.RuntimeParams["application_name"] = "faults"
	return config
}

// at is the same for one node, as a client on some host; the server may be a standby.
func at(config *pgx.ConnConfig, node, from *Host) *pgx.ConnConfig {
	one := config.Copy()
	one.Host, one.Fallbacks, one.ValidateConnect, one.DialFunc = node.Addr.String(), nil, nil, from.Dial
	return one
}

// Exec runs a statement on the primary.
func (c *Cluster) Exec(sql string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, c.Superuser())
	if err == nil {
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, sql)
	}
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", sql, err, c.Picture())
	}
}
