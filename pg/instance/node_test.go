package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

// role tells the test binary to be something else than a test.
const role = "RAM_INSTANCE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "guard":
		os.Exit(guard.Main(os.Stdin, os.Stdout, os.Stderr))
	case "ramd":
		os.Exit(beRamd())
	}
	code := m.Run()
	os.RemoveAll(template.dir)
	os.Exit(code)
}

const (
	password    = "it's a \\ secret: yes"
	replicator  = "replicator"
	replicating = "streams:all day"
)

// major is the newest PostgreSQL that the tests find.
func major(t *testing.T) int {
	t.Helper()
	for n := 18; n >= 13; n-- {
		if _, err := Find("", n); err == nil {
			return n
		}
	}
	t.Fatal("these tests need PostgreSQL: apt-get install postgresql-15")
	return 0
}

// node is one instance with a place of its own.
type node struct {
	*Instance
	dir string
}

// scratch is where test servers live: in memory where there is plenty, for they
// write a lot that nobody reads again; otherwise in the usual place.
func scratch() string {
	const memory = "/dev/shm"
	var fs syscall.Statfs_t
	if syscall.Statfs(memory, &fs) != nil || uint64(fs.Bsize)*fs.Bavail < 4<<30 {
		return ""
	}
	return memory
}

// newNode prepares an instance without a data directory. Whatever runs on it at the
// end of the test is killed.
func newNode(t *testing.T, name string, change ...func(*Config)) *node {
	t.Helper()
	// Not t.TempDir: its name holds the test's, and a socket's path is short.
	dir, err := os.MkdirTemp(scratch(), "ram")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Cluster: "test", Name: name, Major: major(t),
		DataDir: filepath.Join(dir, "data"), StateDir: filepath.Join(dir, "state"),
		Host: "127.0.0.1", Port: freePort(t), SuperuserPassword: password,
		GuardCommand: as("guard"), Version: "test", Logger: zerolog.Nop(),
	}
	for _, f := range change {
		f(&cfg)
	}
	n := &node{Instance: open(t, cfg), dir: dir}
	t.Cleanup(func() { n.end(t) })
	return n
}

func open(t *testing.T, cfg Config) *Instance {
	t.Helper()
	i, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func (n *node) end(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.KillTree(ctx); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		for _, log := range []string{n.LogFile(), n.guardLog()} {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", log, text)
		}
	}
}

func as(r string, env ...string) []string {
	return append(append([]string{"/usr/bin/env", role + "=" + r}, env...), os.Args[0])
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// files is a configuration under which nodes follow each other.
func files(settings ...string) pg.ConfigFiles {
	return pg.ConfigFiles{
		Main: "include 'ram.conf'\n",
		Managed: strings.Join(append([]string{
			"listen_addresses = '127.0.0.1'", "wal_level = replica", "hot_standby = on", "fsync = off",
			"wal_retrieve_retry_interval = '100ms'", "log_statement = 'all'", "wal_keep_size = '64MB'",
		}, settings...), "\n") + "\n",
		HBA: "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 scram-sha-256\n",
	}
}

// standbyFiles is the configuration of a standby of another node.
func standbyFiles(upstream *node, slot string) pg.ConfigFiles {
	conninfo := pg.Conninfo{
		"host": "127.0.0.1", "port": strconv.Itoa(upstream.cfg.Port), "user": replicator,
		"password": replicating, "application_name": "b",
	}
	f := files("primary_conninfo = '"+strings.ReplaceAll(conninfo.String(), "'", "''")+"'", "primary_slot_name = '"+slot+"'")
	f.Standby = true
	return f
}

// template is an initialised data directory that tests copy: initdb takes its time.
var template struct {
	once sync.Once
	dir  string
}

// newPrimary is a node with a data directory of generation 1, not started.
func newPrimary(t *testing.T, settings ...string) *node {
	t.Helper()
	template.once.Do(func() {
		n := newNode(t, "a")
		if err := n.Init(t.Context(), InitOptions{Generation: 1, Files: files()}); err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp(scratch(), "ram-instance-template")
		if err != nil {
			t.Fatal(err)
		}
		template.dir = dir
		copyDir(t, n.DataDir(), filepath.Join(dir, "data"))
	})
	n := newNode(t, "a")
	copyDir(t, filepath.Join(template.dir, "data"), n.DataDir())
	if err := n.WriteConfig(files(settings...)); err != nil {
		t.Fatal(err)
	}
	return n
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (n *node) start(t *testing.T) *node {
	t.Helper()
	if err := n.Start(t.Context(), StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	if err := n.Stop(t.Context(), guard.Fast, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// startPrimary is a running primary with a role and a slot for a standby.
func startPrimary(t *testing.T, settings ...string) *node {
	t.Helper()
	n := newPrimary(t, settings...).start(t)
	if err := n.EnsureReplicationRole(t.Context(), replicator, replicating); err != nil {
		t.Fatal(err)
	}
	if err := n.CreateSlot(t.Context(), "ram_b"); err != nil {
		t.Fatal(err)
	}
	return n
}

// cloneOptions clone generation 2 from a primary.
func cloneOptions(t *testing.T, from *node) CloneOptions {
	t.Helper()
	return CloneOptions{
		Generation: 2, SystemID: inspect(t, from).SystemID,
		Source:   pg.Conninfo{"host": "127.0.0.1", "port": strconv.Itoa(from.cfg.Port), "user": replicator},
		Password: replicating, Slot: "ram_b", Files: standbyFiles(from, "ram_b"),
	}
}

func (n *node) clone(t *testing.T, from *node) *node {
	t.Helper()
	if err := n.Clone(t.Context(), cloneOptions(t, from)); err != nil {
		t.Fatal(err)
	}
	return n
}

func inspect(t *testing.T, n *node) pg.DataDirectory {
	t.Helper()
	d, err := n.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func probe(t *testing.T, n *node, names ...string) pg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := n.Probe(ctx, names)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sql runs one statement in a session of its own and returns its only value as text.
func (n *node) sql(t *testing.T, statement string) string {
	t.Helper()
	var value any
	err := n.withSession(t.Context(), func(conn *pgx.Conn) error {
		rows, err := conn.Query(t.Context(), statement)
		if err != nil {
			return err
		}
		defer rows.Close()
		if rows.Next() {
			values, err := rows.Values()
			if err != nil {
				return err
			}
			value = values[0]
		}
		rows.Close()
		return rows.Err()
	})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return fmt.Sprint(value)
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func waitClosed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
}

func wantError(t *testing.T, err, is error, says ...string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) {
		t.Errorf("got %v, want %v", err, is)
		return
	}
	for _, words := range says {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}

func processes(t *testing.T, n *node) int {
	t.Helper()
	found, err := guard.Processes(n.DataDir())
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("no process to signal: %d", pid)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// errand is what a process that plays ramd is asked to do.
type errand struct {
	Config Config
	Clone  *CloneOptions
	Init   *InitOptions
	Rewind *RewindOptions
	// Restore and Verify copy Backup.
	Restore *RestoreOptions
	Verify  *VerifyOptions
	Backup  string
	// DieAt is the step before which it kills itself.
	DieAt string
	// Start makes it start the server and live on.
	Start bool
}

// ramd starts a process that runs an errand; its end is awaited with Wait.
func ramd(t *testing.T, e errand) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	command := as("ramd")
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// beRamd is what ramd starts.
func beRamd() int {
	var e errand
	if err := json.NewDecoder(os.Stdin).Decode(&e); err != nil {
		return 2
	}
	i, err := Open(e.Config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	i.step = func(name string) {
		if name == e.DieAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	ctx := context.Background()
	switch {
	case e.Clone != nil:
		err = i.Clone(ctx, *e.Clone)
	case e.Rewind != nil:
		err = i.Rewind(ctx, *e.Rewind)
	case e.Restore != nil:
		e.Restore.Fetch = copyBackup(e.Backup)
		_, err = i.Restore(ctx, *e.Restore)
	case e.Verify != nil:
		e.Verify.Fetch = copyBackup(e.Backup)
		_, err = i.Verify(ctx, *e.Verify)
	case e.Init != nil:
		err = i.Init(ctx, *e.Init)
	case e.Start:
		if err = i.Start(ctx, StartOptions{}); err == nil {
			time.Sleep(time.Minute)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// plain is the node's configuration as an errand can carry it.
func (n *node) plain() Config {
	cfg := n.cfg
	cfg.Logger = zerolog.Logger{}
	return cfg
}
