package guard

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// role tells the test binary to be something else than a test.
const role = "RAM_GUARD_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "guard":
		os.Exit(Main(os.Stdin, os.Stdout, os.Stderr))
	case "ramd":
		os.Exit(beRamd())
	}
	code := m.Run()
	os.RemoveAll(template.dir)
	os.Exit(code)
}

func as(r string) []string { return []string{"/usr/bin/env", role + "=" + r, os.Args[0]} }

// binDir finds the newest PostgreSQL where Debian puts it, or on PATH.
func binDir(t *testing.T) string {
	t.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(dirs) > 0 {
		return dirs[len(dirs)-1]
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Fatal("these tests need PostgreSQL: apt-get install postgresql-15")
	}
	return filepath.Dir(path)
}

// postgresUser is whom PostgreSQL runs as: nil when the tests are an ordinary user's.
func postgresUser(t *testing.T) *Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal("as root these tests need the system user postgres")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &Credential{UID: uint32(uid), GID: uint32(gid)}
}

// template is a data directory that tests copy, since initdb takes its time.
var template struct {
	once sync.Once
	dir  string
}

func templateDir(t *testing.T) string {
	template.once.Do(func() {
		dir, err := os.MkdirTemp(scratch(), "ram-guard-template")
		if err != nil {
			t.Fatal(err)
		}
		template.dir = dir
		own(t, dir)
		asPostgres(t, filepath.Join(binDir(t), "initdb"), "-D", filepath.Join(dir, "data"),
			"-A", "trust", "-U", "postgres", "--no-sync", "--wal-segsize=1", "--locale=C", "-E", "UTF8")
	})
	return filepath.Join(template.dir, "data")
}

func own(t *testing.T, path string) {
	t.Helper()
	if u := postgresUser(t); u != nil {
		if err := os.Chown(path, int(u.UID), int(u.GID)); err != nil {
			t.Fatal(err)
		}
	}
}

func asPostgres(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	if u := postgresUser(t); u != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// world is a data directory with all that a guard needs around it.
type world struct {
	cfg Config
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

// newWorld prepares one; whatever runs in it at the end of the test is killed.
func newWorld(t *testing.T, args ...string) *world {
	t.Helper()
	source := templateDir(t)
	// Not t.TempDir: its name holds the test's, and a socket's path is short.
	dir, err := os.MkdirTemp(scratch(), "ram")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if out, err := exec.Command("cp", "-a", source, data).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	own(t, run)
	w := &world{dir: dir, cfg: Config{
		Version: "test", Binary: filepath.Join(binDir(t), "postgres"), DataDir: data, Credential: postgresUser(t),
		Args:   append([]string{"-D", data, "-c", "listen_addresses=", "-c", "unix_socket_directories=" + run, "-c", "fsync=off"}, args...),
		Env:    []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"},
		Socket: filepath.Join(dir, "guard.sock"), ExitFile: filepath.Join(dir, "guard.exit"),
		ServerLog: filepath.Join(dir, "postgresql.log"), GuardLog: filepath.Join(dir, "guard.log"),
	}}
	t.Cleanup(func() { w.end(t) })
	return w
}

func (w *world) end(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := KillLeftovers(ctx, w.cfg.DataDir); err != nil {
		t.Error(err)
	}
	// A guard that is not killed has its last words to write; then it gives up the lock.
	if lock, err := lockDataDir(w.cfg.DataDir); err == nil {
		lock.Close()
	}
	if t.Failed() {
		for _, log := range []string{w.cfg.ServerLog, w.cfg.GuardLog} {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", log, text)
		}
	}
}

// spawn starts a guard and waits until its server takes connections.
func (w *world) spawn(t *testing.T) *Client {
	t.Helper()
	c, err := Spawn(t.Context(), as("guard"), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w.connect(t).Close(context.Background())
	return c
}

// connect opens a session, as soon as there can be one.
func (w *world) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, "host="+filepath.Join(w.dir, "run")+" user=postgres dbname=postgres")
		if err == nil {
			t.Cleanup(func() { conn.Close(context.Background()) })
			return conn
		}
		if ctx.Err() != nil {
			t.Fatalf("no session: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// keepCommitting runs a loop of commits inside the server, which does not look at
// its client or its postmaster.
func (w *world) keepCommitting(t *testing.T) {
	t.Helper()
	conn := w.connect(t)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS marks (n int)"); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = conn.Exec(context.Background(), "DO $$ BEGIN LOOP INSERT INTO marks VALUES (1); COMMIT; END LOOP; END $$")
	}()
	t.Cleanup(func() {
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the busy session is still there")
		}
	})
	watcher := w.connect(t)
	waitFor(t, "commits of the busy session", func() bool {
		var n int
		err := watcher.QueryRow(t.Context(), "SELECT count(*) FROM marks").Scan(&n)
		return err == nil && n > 10
	})
}

// keepBusy keeps so many sessions committing that some outlive their postmaster: one that
// waits for a buffer in that moment ends with it.
func (w *world) keepBusy(t *testing.T) {
	t.Helper()
	for range 3 {
		w.keepCommitting(t)
	}
}

func (w *world) processes(t *testing.T) int {
	t.Helper()
	found, err := Processes(w.cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func waitDone(t *testing.T, c *Client) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(15 * time.Second):
		t.Fatal("waited in vain for the guard's last word")
	}
}
