package take

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// role tells the test binary to be something else than a test.
const role = "RAM_TAKE_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) == "taker" {
		os.Exit(beTaker())
	}
	code := m.Run()
	os.RemoveAll(template.dir)
	os.Exit(code)
}

// errand is what a process that takes a backup, and is killed, is asked to do.
type errand struct {
	Repository backup.Config
	Options    plainOptions
}

// plainOptions are the Options that an errand can carry.
type plainOptions struct {
	Conninfo pg.Conninfo
	ID       string
	SystemID pg.SystemID
	MaxRate  pg.Bytes
	PartSize pg.Bytes
}

// takerCommand is this test binary as the process that does an errand.
func takerCommand(t testing.TB, e errand) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"=taker")
	cmd.Stdin = bytes.NewReader(text)
	return cmd
}

func beTaker() int {
	var e errand
	if err := json.NewDecoder(os.Stdin).Decode(&e); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	repository, err := backup.Open(context.Background(), e.Repository)
	if err == nil {
		_, err = Take(context.Background(), Options{
			Repository: repository, Conninfo: e.Options.Conninfo, ID: e.Options.ID, SystemID: e.Options.SystemID,
			MaxRate: e.Options.MaxRate, PartSize: e.Options.PartSize,
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// server is a PostgreSQL of its own, on a Unix socket only, in a directory that it
// can call its own.
type server struct {
	dir     string // holds data and the socket
	process *os.Process
	ended   chan struct{} // closed when the postmaster is gone
}

// template is an initialised data directory that tests copy: initdb takes its time.
var template struct {
	once sync.Once
	dir  string
}

const hba = `local replication,all guarded scram-sha-256
local replication,all plain trust
local replication,all postgres trust
`

// binaries is where the newest PostgreSQL's programs are.
func binaries(t testing.TB) string {
	t.Helper()
	for major := 18; major >= oldestMajor; major-- {
		dir := fmt.Sprintf("/usr/lib/postgresql/%d/bin", major)
		if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
			return dir
		}
	}
	t.Fatal("these tests need PostgreSQL: apt-get install postgresql-15")
	return ""
}

// owner is whom PostgreSQL runs as: it refuses root.
func owner(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal("as root, these tests need the system user postgres")
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// run runs a program of PostgreSQL as its user.
func run(t testing.TB, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries(t), program), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner(t)}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// scratch makes a directory that PostgreSQL's user owns, below a short path: a
// socket's is limited.
func scratch(t testing.TB, pattern string) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratchParent(), pattern)
	if err != nil {
		t.Fatal(err)
	}
	if account := owner(t); account != nil {
		if err := os.Chown(dir, int(account.Uid), int(account.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// scratchParent is where servers and repositories live: what RAM_TEST_DIR says, or in
// memory where there is plenty, or else the usual place.
func scratchParent() string {
	if dir := os.Getenv("RAM_TEST_DIR"); dir != "" {
		return dir
	}
	const memory = "/dev/shm"
	var fs syscall.Statfs_t
	if syscall.Statfs(memory, &fs) != nil || uint64(fs.Bsize)*fs.Bavail < 4<<30 {
		return ""
	}
	return memory
}

// newServer prepares a server without a data directory.
func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{dir: scratch(t, "ramtake")}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	return s
}

// startPrimary starts a server on a copy of the template.
func startPrimary(t testing.TB, settings ...string) *server {
	t.Helper()
	template.once.Do(func() {
		template.dir = scratch(t, "ramtaketemplate")
		data := filepath.Join(template.dir, "data")
		run(t, "initdb", "-D", data, "-N", "-k", "-U", "postgres", "--locale=C", "--encoding=UTF8", "-A", "trust")
		if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	s := newServer(t)
	if out, err := exec.Command("cp", "-a", filepath.Join(template.dir, "data"), s.data()).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return s.start(t, settings...)
}

// startStandby clones a server and starts the clone as its standby.
func startStandby(t testing.TB, upstream *server, settings ...string) *server {
	t.Helper()
	s := newServer(t)
	run(t, "pg_basebackup", "-D", s.data(), "-d", upstream.conninfo("postgres").String(), "-R", "-c", "fast", "-N")
	return s.start(t, append([]string{"hot_standby_feedback=on"}, settings...)...)
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

// conninfo leads to the server as a role.
func (s *server) conninfo(role string) pg.Conninfo {
	return pg.Conninfo{"host": s.dir, "port": "5432", "user": role}
}

// start starts the server, which ends with the test. The parent-death signal follows
// the thread that forked, so that thread is kept.
func (s *server) start(t testing.TB, settings ...string) *server {
	t.Helper()
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-F", "-c", "shared_buffers=32MB", "-c", "log_statement=none"}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(binaries(t), "postgres"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner(t), Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	started := make(chan error)
	s.ended = make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(s.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the status after a kill says nothing
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	s.process = cmd.Process
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", log.Name(), text)
		}
	})
	waitFor(t, "the server to start", func() bool {
		conn, err := pgx.Connect(t.Context(), s.conninfo("postgres").String()+" dbname=postgres sslmode=disable")
		if err != nil {
			return false
		}
		return conn.Close(t.Context()) == nil
	})
	return s
}

// kill ends the postmaster and what it started, as a lost host would, and returns
// when the postmaster is gone. Its children see that at once, or are killed.
func (s *server) kill() {
	select {
	case <-s.ended:
		return
	default:
	}
	pid := s.process.Pid
	_ = syscall.Kill(pid, syscall.SIGSTOP) // so that it starts nothing new
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	<-s.ended
}

// connect opens a session that ends with the test.
func (s *server) connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), s.conninfo("postgres").String()+" dbname=postgres sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// sql runs statements in a session of their own and returns the last one's only
// value as text.
func (s *server) sql(t testing.TB, statements ...string) string {
	t.Helper()
	conn := s.connect(t)
	defer conn.Close(context.Background())
	value := ""
	for _, statement := range statements {
		results, err := conn.PgConn().Exec(context.Background(), statement).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		for _, result := range results {
			if len(result.Rows) > 0 {
				value = string(result.Rows[0][0])
			}
		}
	}
	return value
}

func (s *server) systemID(t testing.TB) pg.SystemID {
	t.Helper()
	id, err := pg.ParseSystemID(s.sql(t, "SELECT system_identifier FROM pg_control_system()"))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
