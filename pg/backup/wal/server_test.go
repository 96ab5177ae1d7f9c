package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
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
)

const binaries = "/usr/lib/postgresql/15/bin/"

// account is whom servers run as: postgres when the tests are root's.
type account struct{ uid, gid int }

func postgres(t testing.TB) account {
	t.Helper()
	if os.Geteuid() != 0 {
		return account{os.Geteuid(), os.Getegid()}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return account{uid, gid}
}

func (a account) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	if a.uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}}
	}
	return cmd
}

// own gives everything below a directory to the account.
func (a account) own(t testing.TB, dir string) {
	t.Helper()
	if a.uid == os.Geteuid() {
		return
	}
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.uid, a.gid)
	}); err != nil {
		t.Fatal(err)
	}
}

// server is a PostgreSQL with segments of 1 MB.
type server struct {
	account account
	dir     string // with data, log and its socket
	cmd     *exec.Cmd
	exited  chan error
	conn    *pgx.Conn
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }
func (s *server) wal() string  { return filepath.Join(s.dir, "data", "pg_wal") }

// newServer has an empty data directory.
func newServer(t testing.TB) *server {
	t.Helper()
	s := unmadeServer(t)
	template.Do(func() {
		s.run(t, "initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "--no-sync", "--wal-segsize=1", "--locale=C")
		copyDir(t, s.data(), filepath.Join(filepath.Dir(program(t)), "template"))
	})
	if _, err := os.Stat(s.data()); err != nil {
		copyDir(t, filepath.Join(filepath.Dir(program(t)), "template"), s.data())
	}
	return s
}

// template guards the making of a data directory that is copied: initdb takes its time.
var template sync.Once

func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// unmadeServer has no data directory yet.
func unmadeServer(t testing.TB) *server {
	t.Helper()
	if _, err := os.Stat(binaries + "postgres"); err != nil {
		t.Fatal("these tests need PostgreSQL 15: apt-get install postgresql-15")
	}
	s := &server{account: postgres(t), dir: place(t)}
	s.account.own(t, s.dir)
	t.Cleanup(func() { s.kill(t) })
	return s
}

func (s *server) run(t testing.TB, program string, args ...string) {
	t.Helper()
	cmd := s.account.command(binaries+program, args...)
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// launch starts the server with settings and does not wait for it.
func (s *server) launch(t testing.TB, settings ...string) {
	t.Helper()
	args := []string{"-D", s.data()}
	for _, setting := range append([]string{
		"listen_addresses=", "unix_socket_directories=" + s.dir, "port=5432", "fsync=off", "wal_level=replica", "archive_timeout=0",
		"max_wal_size=4GB", "checkpoint_timeout=1h", "autovacuum=off", "wal_retrieve_retry_interval=100ms", "shared_buffers=16MB",
	}, settings...) {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = s.account.command(binaries+"postgres", args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Dir = s.dir
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.exited = make(chan error, 1)
	cmd, exited := s.cmd, s.exited
	go func() { exited <- cmd.Wait() }()
}

// start waits for sessions.
func (s *server) start(t testing.TB, settings ...string) *server {
	t.Helper()
	s.launch(t, settings...)
	waitFor(t, "the server\n"+s.log(), func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=5432 user=postgres dbname=postgres sslmode=disable", s.dir))
		s.conn = conn
		return err == nil
	})
	return s
}

// signal ends the server, and returns how long it took.
func (s *server) signal(t testing.TB, sig syscall.Signal) time.Duration {
	t.Helper()
	began := time.Now()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	s.await(t)
	return time.Since(began)
}

// await waits for the server's end, and returns its error.
func (s *server) await(t testing.TB) error {
	t.Helper()
	if s.conn != nil {
		defer s.conn.Close(context.Background())
		s.conn = nil
	}
	select {
	case err := <-s.exited:
		s.cmd = nil
		return err
	case <-time.After(40 * time.Second):
		t.Fatalf("the server does not end\n%s", s.log())
		return nil
	}
}

func (s *server) kill(t testing.TB) {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT)
		select {
		case <-s.exited:
		case <-time.After(10 * time.Second):
			_ = s.cmd.Process.Kill()
			<-s.exited
		}
	}
	if t.Failed() {
		t.Log(s.log())
	}
}

func (s *server) log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text)
}

func (s *server) sql(t testing.TB, statement string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var value string
	err := s.conn.QueryRow(ctx, statement).Scan(&value)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

// switches fills and ends so many segments.
func (s *server) switches(t testing.TB, count int) {
	t.Helper()
	for range count {
		s.sql(t, "SELECT pg_logical_emit_message(false, 'test', 'something')::text")
		s.sql(t, "SELECT pg_switch_wal()::text")
	}
}

func (s *server) systemID(t testing.TB) pg.SystemID {
	t.Helper()
	out, err := exec.Command(binaries+"pg_controldata", "-D", s.data()).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(out) {
		if value, ok := strings.CutPrefix(string(line), "Database system identifier:"); ok {
			id, err := pg.ParseSystemID(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
	}
	t.Fatal("no system identifier")
	return 0
}

// daemon is what ramd has of this package, for one server.
type daemon struct {
	*Archiver
	*Fetcher
	mood   mood
	socket string
	gate   Gate
	home   string
	repo   string
	stop   func()
}

// newDaemon serves a server with a repository.
func newDaemon(t testing.TB, s *server, repo string, standing Standing) *daemon {
	t.Helper()
	home := place(t)
	d := &daemon{home: home, repo: repo, socket: filepath.Join(home, "it's.sock"), gate: NewGate(filepath.Join(home, "shut"))}
	d.mood.set(standing)
	d.begin(t, s)
	return d
}

// begin runs the loops, as after a start of ramd.
func (d *daemon) begin(t testing.TB, s *server) {
	t.Helper()
	var err error
	d.Archiver, err = NewArchiver(ArchiverConfig{
		Open: opener(d.repo), Dir: s.wal, Standing: d.mood.get, Ahead: filepath.Join(d.home, "ahead"),
		Wait: 300 * time.Millisecond, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Fetcher, err = NewFetcher(FetcherConfig{Open: opener(d.repo), Spool: filepath.Join(d.home, "spool"), Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	service, err := Listen(ServiceConfig{
		Socket: d.socket, UID: s.account.uid, Push: d.Push, Fetch: d.Fetcher.Open, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	stops := []func(){run(t, service.Serve), run(t, d.Archiver.Run), run(t, d.Fetcher.Run)}
	d.stop = func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// archiving are the settings of a server whose archiver asks the daemon.
func (d *daemon) archiving(t testing.TB) []string {
	return []string{"archive_mode=always", "archive_command=" + ArchiveCommand(program(t), d.socket, filepath.Join(d.home, "ahead"))}
}

// stored is how many segments the repository has.
func (d *daemon) stored(t testing.TB) int {
	t.Helper()
	count := 0
	for _, name := range names(t, d.repo, "wal/") {
		if n, err := ParseName(name); err == nil && n.Kind == Segment {
			count++
		}
	}
	return count
}

// served is how many segments the fetcher had ahead.
func (d *daemon) served() int {
	d.Fetcher.mu.Lock()
	defer d.Fetcher.mu.Unlock()
	return d.hits
}
