package pg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestAgainstPostgreSQL compares this package's knowledge with a real server:
// the newest that is installed, or the one whose programs are in
// RAM_TEST_BINDIR.
func TestAgainstPostgreSQL(t *testing.T) {
	srv := startScratch(t)
	t.Run("settings are those of pg_settings", srv.checkTable)
	t.Run("values are read as the server reads them", srv.checkValues)
	t.Run("configuration files are read as the server reads them", srv.checkConf)
	t.Run("pg_hba.conf lines are judged as the server judges them", srv.checkHBA)
	t.Run("libpq reads connection strings and URIs", srv.checkConninfo)
	t.Run("synchronous_standby_names are judged as the server judges them", srv.checkSyncNames)
	t.Run("slot names are kept whole", srv.checkSlotNames)
	t.Run("control data are those of the server", srv.checkControlData)
	t.Run("postmaster.pid is that of the server", srv.checkPostmasterPID)
}

// scratch is a server of its own, on a Unix socket only.
type scratch struct {
	dir   string // holds data and the socket
	major int
	pid   int
	conn  *pgx.Conn
}

func startScratch(t *testing.T) *scratch {
	t.Helper()
	bin := binDir(t)
	dir, err := os.MkdirTemp("", "ram-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	owner := serverOwner(t, dir)
	srv := &scratch{dir: dir}

	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", srv.data(), "-N", "-U", "postgres", "--locale=C", "--encoding=UTF8", "-A", "trust")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", srv.data(), "-k", dir, "-c", "listen_addresses=", "-F")
	server.Dir = dir
	server.Stdout, server.Stderr = log, log
	// The server goes away with the test binary, even when that is killed.
	server.SysProcAttr = &syscall.SysProcAttr{Credential: owner, Pdeathsig: syscall.SIGQUIT}
	runChild(t, server)
	srv.pid = server.Process.Pid
	srv.connect(t)
	return srv
}

func (s *scratch) data() string { return filepath.Join(s.dir, "data") }

// binDir finds the server's programs.
func binDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("RAM_TEST_BINDIR"); dir != "" {
		return dir
	}
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) > 0 {
		return slices.Max(dirs)
	}
	postgres, err := exec.LookPath("postgres")
	if err != nil {
		t.Skip("no PostgreSQL server is installed")
	}
	return filepath.Dir(postgres)
}

// serverOwner is whom the server runs as: PostgreSQL refuses root.
func serverOwner(t *testing.T, dir string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("as root, these tests need the system user postgres")
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// runChild starts the server and stops it at the end of the test. The parent
// death signal follows the thread that forked, so that thread is kept.
func runChild(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the exit status after SIGQUIT says nothing
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		<-ended
	})
}

func (s *scratch) connect(t *testing.T) {
	t.Helper()
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=5432 user=postgres dbname=postgres sslmode=disable", s.dir))
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = nil
	deadline := time.Now().Add(30 * time.Second)
	for {
		s.conn, err = pgx.ConnectConfig(t.Context(), config)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("%v\n%s", err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Cleanup(func() { s.conn.Close(context.Background()) })
	version, err := strconv.Atoi(s.show(t, "server_version_num"))
	if err != nil {
		t.Fatal(err)
	}
	s.major = version / 10000
}

func (s *scratch) show(t *testing.T, name string) string {
	t.Helper()
	var value string
	if err := s.conn.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
