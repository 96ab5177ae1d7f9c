package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/internal/contest"
	"github.com/ramhq/ram/pg/backup/take"
)

// BenchmarkFetch restores a backup of a pgbench database of RAM_BENCH_SCALE (15 MB each;
// 40 by default; 135 are 2 GB) and reports, for ram and beside it for pgBackRest and for
// tar on what pg_basebackup made: rate, CPU time, memory and size. All end with everything
// on disk, and all are compressed with zstd at level 1 or what is like it.
func BenchmarkFetch(b *testing.B) {
	s := contest.StartServer(b, contest.Number("RAM_BENCH_SCALE", 40))
	c := contest.Contest{Plain: s.Size(b), Reference: "pgbackrest/zst-1"}
	contestants := []contest.Contestant{{Name: "ram/zstd", Command: fetching(benchBackup(b, s, "zstd"))}, {Name: "ram/none", Command: fetching(benchBackup(b, s, "none"))}}
	if contest.FindPgBackRest(b) {
		contestants = append(contestants, pgBackRest(b, s, "1"), pgBackRest(b, s, "3"))
	}
	tar := contest.Place(b)
	contest.Must(b, contest.PgBaseBackup(b, s, tar, "client-zstd:level=1,workers=2"))
	contestants = append(contestants, contest.Contestant{Name: "pg_basebackup/zstd+tar", Command: func(b *testing.B, dir string) *exec.Cmd {
		return contest.As(b, "sh", "-c", `zstd -qdc "$1"/base.tar.zst | tar -xf - -C "$2" && sync -f "$2"`, "sh", tar, dir)
	}})
	c.Run(b, contestants)
}

func pgBackRest(b *testing.B, s *contest.Server, level string) contest.Contestant {
	b.Helper()
	p := contest.PgBackRest{Server: s}
	from := contest.Place(b)
	p.Prepare(b, from)
	contest.Must(b, p.Backup(b, from, "--compress-level="+level))
	return contest.Contestant{Name: "pgbackrest/zst-" + level, Command: func(b *testing.B, dir string) *exec.Cmd {
		return p.Restore(b, from, dir)
	}}
}

// benchBackup takes a backup.
func benchBackup(b *testing.B, s *contest.Server, compression string) errand {
	b.Helper()
	id, err := pg.ParseSystemID(s.SystemID(b))
	if err != nil {
		b.Fatal(err)
	}
	e := errand{Repository: backup.Config{URL: "file://" + contest.Place(b), Compression: compression}, UID: -1, GID: -1}
	if account := contest.Account(b); account != nil {
		e.UID, e.GID = int(account.Uid), int(account.Gid)
	}
	r, err := backup.Open(b.Context(), e.Repository)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	e.Entry, err = take.Take(b.Context(), take.Options{
		Repository: r, Conninfo: pg.Conninfo{"host": s.Dir, "port": "5432", "user": "postgres"}, ID: testID, SystemID: id, Logger: zerolog.Nop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// errand is what a process that fetches a backup, and is measured, is asked to do.
type errand struct {
	Repository backup.Config
	Entry      backup.Entry
	Dir        string
	UID, GID   int
}

func fetching(e errand) func(*testing.B, string) *exec.Cmd {
	return func(b *testing.B, dir string) *exec.Cmd {
		e.Dir = filepath.Join(dir, "data")
		text, err := json.Marshal(e)
		if err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), role+"=fetcher")
		cmd.Stdin = bytes.NewReader(text)
		return cmd
	}
}

func (e errand) fetch(ctx context.Context) error {
	r, err := backup.Open(ctx, e.Repository)
	if err != nil {
		return err
	}
	defer r.Close()
	return Fetch(ctx, Options{Repository: r, Entry: e.Entry, Dir: e.Dir, UID: e.UID, GID: e.GID, Logger: zerolog.Nop()})
}

func beFetcher() int {
	var e errand
	err := json.NewDecoder(os.Stdin).Decode(&e)
	if err == nil {
		err = e.fetch(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// BenchmarkFetchInProcess is for profiles: the same in this process.
func BenchmarkFetchInProcess(b *testing.B) {
	e := benchBackup(b, contest.StartServer(b, contest.Number("RAM_BENCH_SCALE", 40)), "zstd")
	parent := contest.Place(b)
	b.SetBytes(e.Entry.Size)
	for b.Loop() {
		e.Dir = filepath.Join(parent, "data")
		if err := e.fetch(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := os.RemoveAll(e.Dir); err != nil {
			b.Fatal(err)
		}
	}
}
