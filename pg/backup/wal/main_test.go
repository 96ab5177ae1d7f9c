package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// TestMain makes the test binary the client when PostgreSQL starts it as ramd.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "wal" {
		os.Exit(client(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		os.Exit(serve(os.Args[2], os.Args[3], os.Args[4], os.Args[5]))
	}
	if len(os.Args) > 1 && os.Args[1] == "play" {
		if err := play(os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Under the race detector every client would take a second to end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	code := m.Run()
	for _, dir := range shared.dirs {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// client understands what ArchiveCommand and the other two write.
func client(args []string) int {
	mustKnow := false
	if args[0] == "fetch" && args[1] == "--must-know" {
		mustKnow = true
		args = append(args[:1], args[2:]...)
	}
	if args[0] == "push" {
		return PushVia(args[2], args[3], os.Stderr)
	}
	return FetchVia(args[2], args[3], args[4], mustKnow, os.Stderr)
}

// serve archives as a holder until it is killed.
func serve(home, repo, wal, uid string) int {
	a, err := NewArchiver(ArchiverConfig{
		Open: opener(repo), Dir: func() string { return wal }, Standing: func() Standing { return Holder },
		Ahead: filepath.Join(home, "ahead"), Logger: zerolog.Nop(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	number, _ := strconv.Atoi(uid)
	s, err := Listen(ServiceConfig{Socket: filepath.Join(home, "sock"), UID: number, Push: a.Push, Logger: zerolog.Nop()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go a.Run(context.Background())
	_ = s.Serve(context.Background())
	return 0
}

// shared is what several tests use and the end removes.
var shared struct {
	sync.Mutex
	dirs []string
}

// place is a short directory that everybody may enter: a socket's path is short, and
// PostgreSQL runs as another user.
func place(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ram")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

const systemID = pg.SystemID(7300000000000000001)

// newRepository is a claimed repository in a directory.
func newRepository(t testing.TB, id pg.SystemID) string {
	t.Helper()
	dir := filepath.Join(place(t), "repo")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	claim(t, dir, id)
	return dir
}

func claim(t testing.TB, dir string, id pg.SystemID) {
	t.Helper()
	r := openRepository(t, dir)
	if err := r.Claim(t.Context(), backup.Owner{Format: 1, Cluster: "test", ClusterID: "c1", SystemID: id, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func openRepository(t testing.TB, dir string) *backup.Repository {
	t.Helper()
	r, err := opener(dir)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func opener(dir string) func(context.Context) (*backup.Repository, error) {
	return func(ctx context.Context) (*backup.Repository, error) {
		return backup.Open(ctx, backup.Config{URL: "file://" + dir, Compression: "zstd"})
	}
}

// names are the files of the repository below a prefix, without directories.
func names(t testing.TB, dir, prefix string) []string {
	t.Helper()
	objects, err := openRepository(t, dir).List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, o := range objects {
		found = append(found, filepath.Base(o.Name))
	}
	return found
}

// mood is a standing that a test changes.
type mood struct {
	mu sync.Mutex
	s  Standing
}

func (m *mood) set(s Standing) { m.mu.Lock(); defer m.mu.Unlock(); m.s = s }
func (m *mood) get() Standing  { m.mu.Lock(); defer m.mu.Unlock(); return m.s }

// bench is an archiver with a pg_wal that a test fills.
type bench struct {
	*Archiver
	mood      mood
	dir, repo string
}

func newBench(t testing.TB, s Standing, change ...func(*ArchiverConfig)) *bench {
	t.Helper()
	b := &bench{repo: newRepository(t, systemID)}
	b.open(t, s, b.repo, change...)
	return b
}

// open starts another archiver on a repository, with a pg_wal of its own.
func (b *bench) open(t testing.TB, s Standing, repo string, change ...func(*ArchiverConfig)) {
	t.Helper()
	b.repo = repo
	home := place(t)
	b.dir = filepath.Join(home, "pg_wal")
	b.mood.set(s)
	if err := os.MkdirAll(filepath.Join(b.dir, "archive_status"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := ArchiverConfig{
		Open: opener(repo), Dir: func() string { return b.dir }, Standing: b.mood.get,
		Ahead: filepath.Join(home, "ahead"), Wait: 300 * time.Millisecond, Logger: zerolog.Nop(),
	}
	for _, f := range change {
		f(&cfg)
	}
	a, err := NewArchiver(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Archiver = a
	run(t, a.Run)
}

// run runs a loop until the end of the test, and awaits it.
func run(t testing.TB, loop func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- loop(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// segment is the content of a small segment: a right header, then noise by its seed.
func segment(t testing.TB, name string, id pg.SystemID, seed uint64) []byte {
	t.Helper()
	n, err := ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	b := make([]byte, size)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i < size/4; i += 8 {
		binary.NativeEndian.PutUint64(b[i:], random.Uint64())
	}
	order := binary.NativeEndian
	order.PutUint16(b[0:], 0xD110)
	order.PutUint16(b[2:], longHeader)
	order.PutUint32(b[4:], uint32(n.Timeline))
	order.PutUint64(b[8:], uint64(n.start(size)))
	order.PutUint64(b[24:], uint64(id))
	order.PutUint32(b[32:], size)
	order.PutUint32(b[36:], 8192)
	return b
}

// put writes a segment into pg_wal.
func (b *bench) put(t testing.TB, name string, seed uint64) {
	t.Helper()
	b.write(t, name, segment(t, name, systemID, seed))
}

func (b *bench) write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// ready has PostgreSQL want a file archived.
func (b *bench) ready(t testing.TB, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(statusDir(b.dir), name+readySuffix), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// nth is the name of a segment of 1 MB of timeline 1.
func nth(n int) string { return segmentName(1, uint64(n), 1<<20) }

func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func wantError(t testing.TB, err, is error, says ...string) {
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

// program is a copy of the test binary that PostgreSQL's user may run.
func program(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if len(shared.dirs) > 0 {
		return filepath.Join(shared.dirs[0], "ramd's 100% client")
	}
	dir, err := os.MkdirTemp("", "ram")
	if err != nil {
		t.Fatal(err)
	}
	shared.dirs = append(shared.dirs, dir)
	path := filepath.Join(dir, "ramd's 100% client")
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", fmt.Sprintf("chmod 755 %s && cp '%s' \"%s\" && chmod 755 \"%s\"", dir, own, path, path)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
