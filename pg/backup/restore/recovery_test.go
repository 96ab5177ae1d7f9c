package restore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/take"
	"github.com/ramhq/ram/pg/guard"
	"github.com/ramhq/ram/pg/instance"
)

// role tells the test binary to be something else than a test.
const role = "RAM_RESTORE_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) == "guard" {
		os.Exit(guard.Main(os.Stdin, os.Stdout, os.Stderr))
	}
	if os.Getenv(role) == "fetcher" {
		os.Exit(beFetcher())
	}
	os.Exit(m.Run())
}

const password = "secret"

// server is a real one.
type server struct {
	*instance.Instance
	dir  string
	port int
}

func newServer(t *testing.T, name string) *server {
	t.Helper()
	s := &server{dir: tempDir(t)}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	config := instance.Config{
		Cluster: "test", Name: name, DataDir: filepath.Join(s.dir, "data"), StateDir: filepath.Join(s.dir, "state"),
		Host: "127.0.0.1", Port: s.port, SuperuserPassword: password, Logger: zerolog.Nop(),
		GuardCommand: []string{"/usr/bin/env", role + "=guard", os.Args[0]},
	}
	for config.Major = 18; config.Major > 13; config.Major-- {
		if _, err := instance.Find("", config.Major); err == nil {
			break
		}
	}
	if s.Instance, err = instance.Open(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.KillTree(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, name := range []string{"postgresql.log", "restore.log", "verify.log"} {
				text, _ := os.ReadFile(filepath.Join(s.dir, "state", name))
				t.Logf("%s:\n%s", name, text)
			}
		}
		s.Close()
	})
	return s
}

func files() pg.ConfigFiles {
	return pg.ConfigFiles{
		Main:    "include 'ram.conf'\n",
		Managed: "listen_addresses = '127.0.0.1'\nfsync = off\nmax_wal_senders = 10\n",
		HBA:     "local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n",
	}
}

func (s *server) start(t *testing.T) *server {
	t.Helper()
	if err := s.Start(t.Context(), instance.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) sql(t *testing.T, statements ...string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", s.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, statement := range statements {
		results, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		if last := results[len(results)-1]; len(last.Rows) > 0 {
			value = string(last.Rows[0][0])
		}
	}
	return value
}

const contents = `SELECT (SELECT md5(string_agg(t::text, '' ORDER BY n)) FROM here t) || (SELECT md5(string_agg(t::text, '' ORDER BY n)) FROM away t)`

// takeBackup makes a server with a tablespace and puts a backup of it into a
// repository, which is at place. sum is a checksum of the contents.
func takeBackup(t *testing.T) (a *server, r *backup.Repository, place string, e backup.Entry, sum string) {
	t.Helper()
	a = newServer(t, "a")
	if err := a.Init(t.Context(), instance.InitOptions{Generation: 1, Files: files()}); err != nil {
		t.Fatal(err)
	}
	a.start(t)
	space := filepath.Join(a.dir, "state", "run", "space") // where PostgreSQL's user may make it
	a.sql(
		t, "COPY (SELECT 1) TO PROGRAM 'mkdir "+space+"'", "CREATE TABLESPACE elsewhere LOCATION '"+space+"'",
		"CREATE TABLE here AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n", "CREATE INDEX ON here (n)",
		"CREATE TABLE away TABLESPACE elsewhere AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n", "CREATE INDEX ON away (n) TABLESPACE elsewhere",
	)
	place = tempDir(t)
	r, err := backup.Open(t.Context(), backup.Config{URL: "file://" + place})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	id, err := pg.ParseSystemID(a.sql(t, "SELECT system_identifier FROM pg_control_system()"))
	if err != nil {
		t.Fatal(err)
	}
	e, err = take.Take(t.Context(), take.Options{
		Repository: r, ID: testID, Cluster: "test", Node: "a", By: "test", SystemID: id, PartSize: 4 * pg.MB, Logger: zerolog.Nop(),
		Conninfo: pg.Conninfo{"host": "127.0.0.1", "port": strconv.Itoa(a.port), "user": "postgres"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Parts) < 4 || len(e.Tablespaces) != 1 {
		t.Fatalf("the backup has %d parts and %d tablespaces", len(e.Parts), len(e.Tablespaces))
	}
	return a, r, place, e, a.sql(t, contents)
}

// fetchTo is what an instance wants; tablespaces go below a directory that the data
// directory's path leads to.
func fetchTo(r *backup.Repository, e backup.Entry, beside func(dir string) string) func(context.Context, string, int, int) error {
	return func(ctx context.Context, dir string, uid, gid int) error {
		return Fetch(ctx, Options{
			Repository: r, Entry: e, Dir: dir, UID: uid, GID: gid, Logger: zerolog.Nop(),
			Tablespace: func(t backup.Tablespace) string { return filepath.Join(beside(dir), fmt.Sprint(t.OID)) },
		})
	}
}

func TestBackupOfAServerIsRestoredAndVerified(t *testing.T) {
	a, r, repository, e, want := takeBackup(t)
	b := newServer(t, "b")
	place := filepath.Join(b.dir, "tablespaces")
	o := instance.RestoreOptions{
		Generation: 1, SystemID: e.SystemID, Files: files(), Fetch: fetchTo(r, e, func(string) string { return place }),
		RecoveryOptions: instance.RecoveryOptions{Target: instance.Target{Kind: instance.TargetImmediate}},
	}
	t.Run("restore that fails leaves no tablespaces in the way", func(t *testing.T) {
		failing := o
		broken := errors.New("broken")
		failing.Fetch = func(ctx context.Context, dir string, uid, gid int) error {
			return errors.Join(o.Fetch(ctx, dir, uid, gid), broken)
		}
		_, err := b.Restore(t.Context(), failing)
		wantError(t, err, broken)
	})
	done, err := b.Restore(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if done.LSN < e.StopLSN || done.Timeline != e.Timeline+1 {
		t.Errorf("recovered to %s on timeline %d, the backup ends at %s", done.LSN, done.Timeline, e.StopLSN)
	}
	b.start(t)
	if got := b.sql(t, contents); got != want {
		t.Error("it has other contents")
	}
	if got := b.sql(t, "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'elsewhere'"); !strings.HasPrefix(got, place) {
		t.Errorf("the tablespace is at %s", got)
	}

	inScratch := instance.VerifyOptions{SystemID: e.SystemID, Fetch: fetchTo(r, e, func(dir string) string { return filepath.Join(filepath.Dir(dir), "tablespaces") })}
	t.Run("verified beside the server", func(t *testing.T) {
		checked, err := a.Verify(t.Context(), inScratch)
		if err != nil {
			t.Fatal(err)
		}
		if checked.LSN < e.StopLSN || !checked.Checksums || checked.Pages < 1000 || checked.Indexes < 300 || checked.Databases != 2 {
			t.Errorf("checked %+v", checked)
		}
		beside, _ := filepath.Glob(a.DataDir() + ".*")
		if len(beside) != 0 {
			t.Errorf("left: %v", beside)
		}
	})
	t.Run("tablespace that would be the server's own", func(t *testing.T) {
		o := inScratch
		o.Fetch = func(ctx context.Context, dir string, uid, gid int) error {
			return Fetch(ctx, Options{Repository: r, Entry: e, Dir: dir, UID: uid, GID: gid, Logger: zerolog.Nop()})
		}
		_, err := a.Verify(t.Context(), o)
		wantError(t, err, nil, "is not empty")
		if got := a.sql(t, contents); got != want {
			t.Error("the server has other contents now")
		}
	})
	t.Run("damaged part", func(t *testing.T) {
		damaged := e.Parts[len(e.Parts)/2].Object
		if err := change(filepath.Join(repository, damaged), func(b []byte) []byte { b[len(b)/2] ^= 1; return b }); err != nil {
			t.Fatal(err)
		}
		_, err := a.Verify(t.Context(), inScratch)
		wantError(t, err, backup.ErrDamaged, damaged)
		c := newServer(t, "c")
		o := o
		o.Fetch = fetchTo(r, e, func(string) string { return filepath.Join(c.dir, "tablespaces") })
		_, err = c.Restore(t.Context(), o)
		wantError(t, err, backup.ErrDamaged, damaged)
		if _, err := os.Lstat(c.DataDir()); err == nil {
			t.Error("a data directory is in place")
		}
	})
}
