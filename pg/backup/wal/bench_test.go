package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup/internal/contest"
)

// BenchmarkPush archives a backlog of RAM_BENCH_SEGMENTS (200 by default) segments of
// pgbench's WAL, of 16 MB, through the command that PostgreSQL runs, one after the other
// as its archiver does, into a directory, until the last is durable. Beside it is
// pgBackRest's asynchronous archive-push. Memory is that of the group of processes that
// PostgreSQL's archiver starts, in ram's case with ramd; pgBackRest's asynchronous
// process leaves that group.
func BenchmarkPush(b *testing.B) {
	count := contest.Number("RAM_BENCH_SEGMENTS", 200)
	w := fillBacklog(b, count)
	c := contest.Contest{Plain: int64(count) * benchSegment, Reference: "pgbackrest/zst-1"}
	ramd := benchRamd(b)
	contestants := []contest.Contestant{{Name: "ram/zstd", Command: func(b *testing.B, home string) *exec.Cmd {
		w.markReady(b)
		claim(b, home, w.id)
		return player(b, "ram", w.dir, home, ramd)
	}}}
	if contest.FindPgBackRest(b) {
		for _, level := range []string{"1", "3"} {
			contestants = append(contestants, pgBackRest(w, level))
		}
	}
	c.Run(b, contestants)
}

// benchSegment is the size of PostgreSQL's segments unless it is told otherwise.
const benchSegment = 16 << 20

func pgBackRest(w backlog, level string) contest.Contestant {
	return contest.Contestant{Name: "pgbackrest/zst-" + level, Command: func(b *testing.B, home string) *exec.Cmd {
		w.markReady(b)
		p := contest.PgBackRest{Server: w.server}
		p.Prepare(b, home)
		args := append(p.Args(home), "--archive-async", "--process-max=2", "--compress-type=zst", "--compress-level="+level,
			"--spool-path="+filepath.Join(home, "spool"), "archive-push", w.dir+"/%f")
		cmd := player(b, "command", w.dir, "exec pgbackrest "+strings.Join(args, " "), "")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: contest.Account(b)}
		return cmd
	}}
}

// benchRamd is the program that PostgreSQL starts: what RAM_BENCH_RAMD says, or built.
func benchRamd(b *testing.B) string {
	b.Helper()
	if path := os.Getenv("RAM_BENCH_RAMD"); path != "" {
		return path
	}
	path := filepath.Join(contest.Place(b), "ramd")
	contest.Must(b, exec.Command("go", "build", "-o", path, "github.com/ramhq/ram/cmd/ramd"))
	return path
}

// player is this test binary as PostgreSQL's archiver.
func player(b *testing.B, args ...string) *exec.Cmd {
	b.Helper()
	return exec.Command(program(b), append([]string{"play"}, args...)...)
}

// play archives all that is ready in a directory, with a command or with what it serves
// itself, and waits for all that this has started.
func play(kind, dir, command, ramd string) error {
	// What leaves the process group, as pgBackRest's asynchronous process, is waited for too.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	if kind == "ram" {
		stop, served, err := serveArchiver(dir, command, ramd)
		if err != nil {
			return err
		}
		defer stop()
		command = served
	}
	if err := playArchiver(dir, command); err != nil {
		return err
	}
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); errors.Is(err, syscall.ECHILD) {
			return nil
		}
	}
}

// serveArchiver serves a repository as ramd does, and returns archive_command.
func serveArchiver(dir, repository, ramd string) (stop func(), command string, err error) {
	home, err := os.MkdirTemp("", "ram")
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a, err := NewArchiver(ArchiverConfig{
		Open: opener(repository), Dir: func() string { return dir }, Standing: func() Standing { return Holder },
		Ahead: filepath.Join(home, "ahead"), Logger: zerolog.Nop(),
	})
	if err != nil {
		cancel()
		return nil, "", err
	}
	service, err := Listen(ServiceConfig{Socket: filepath.Join(home, "s"), UID: -1, Push: a.Push, Logger: zerolog.Nop()})
	if err != nil {
		cancel()
		return nil, "", err
	}
	ended := make(chan struct{}, 2)
	for _, run := range []func(context.Context) error{service.Serve, a.Run} {
		go func() { _ = run(ctx); ended <- struct{}{} }()
	}
	stop = func() {
		cancel()
		<-ended
		<-ended
		os.RemoveAll(home)
	}
	return stop, strings.ReplaceAll(ArchiveCommand(ramd, filepath.Join(home, "s"), filepath.Join(home, "ahead")), "%%", "%"), nil
}

// backlog is WAL that waits to be archived.
type backlog struct {
	server *contest.Server
	dir    string
	id     pg.SystemID
	names  []string
}

// fillBacklog makes segments out of what pgbench has a server write.
func fillBacklog(b *testing.B, count int) backlog {
	b.Helper()
	s := contest.StartServer(b, 20, "wal_keep_size=4GB")
	s.Pgbench(b, "-c", "2", "-t", "15000", "-n")
	s.Stop(b)
	id, err := pg.ParseSystemID(s.SystemID(b))
	if err != nil {
		b.Fatal(err)
	}
	w := backlog{server: s, dir: filepath.Join(s.Data(), "pg_wal"), id: id}
	files, err := filepath.Glob(w.dir + "/0000000100000*")
	if err != nil || len(files) < 2 {
		b.Fatal("no WAL", err)
	}
	slices.Sort(files)
	files = files[:len(files)-1] // the last one is not full
	first, _ := ParseName(filepath.Base(files[0]))
	b.Logf("%d segments, of %d of pgbench", count, len(files))
	for i := range count {
		number := first.number(benchSegment) + uint64(i)
		piece, err := os.ReadFile(files[i%len(files)])
		if err != nil {
			b.Fatal(err)
		}
		// The first page's header is all that names the place.
		binary.NativeEndian.PutUint64(piece[8:], number*benchSegment)
		w.names = append(w.names, segmentName(1, number, benchSegment))
		if err := os.WriteFile(filepath.Join(w.dir, w.names[i]), piece, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	contest.Must(b, exec.Command("chown", "-R", "--reference="+s.Data(), w.dir))
	contest.Must(b, exec.Command("sync"))
	return w
}

func (w backlog) markReady(b *testing.B) {
	b.Helper()
	for _, name := range w.names {
		status := filepath.Join(statusDir(w.dir), name)
		_ = os.Remove(status + ".done")
		if err := os.WriteFile(status+readySuffix, nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

// playArchiver does what PostgreSQL's archiver does for each file: the command, and the
// renaming of the status file.
func playArchiver(dir, command string) error {
	for {
		ready, err := readyFiles(dir)
		if err != nil || len(ready) == 0 {
			return err
		}
		for _, file := range ready {
			if out, err := exec.Command("sh", "-c", strings.ReplaceAll(command, "%f", file)).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", file, err, out)
			}
			status := filepath.Join(statusDir(dir), file)
			if err := os.Rename(status+readySuffix, status+".done"); err != nil {
				return err
			}
		}
	}
}
