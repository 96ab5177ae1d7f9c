package take

import (
	"os/exec"
	"runtime"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/internal/contest"
)

// BenchmarkTake backs up a pgbench database of RAM_BENCH_SCALE (15 MB each; 40 by default;
// 135 are 2 GB) and reports, for ram and beside it for pgBackRest and pg_basebackup: rate,
// CPU time of client and server, memory of all processes but the server, and size. zstd is
// at level 1 for all, since ram's is of that kind, and at the others' own level 3.
func BenchmarkTake(b *testing.B) {
	s := benchServer(b)
	c := contest.Contest{Plain: s.Size(b), Reference: "pgbackrest/zst-1", Elsewhere: s.CPU}
	contestants := []contest.Contestant{ram(s, "zstd"), ram(s, "none")}
	if contest.FindPgBackRest(b) {
		contestants = append(contestants, pgBackRest(s, "pgbackrest/zst-1", "--compress-level=1"), pgBackRest(s, "pgbackrest/zst-3"))
	}
	for _, compress := range []string{"client-zstd:level=1,workers=2", "server-zstd:level=1,workers=2", "none"} {
		contestants = append(contestants, contest.Contestant{Name: "pg_basebackup/" + compress, Command: func(b *testing.B, dir string) *exec.Cmd {
			return contest.PgBaseBackup(b, s, dir, compress)
		}})
	}
	c.Run(b, contestants)
}

// benchServer has a pgbench database.
func benchServer(b *testing.B) *contest.Server {
	b.Helper()
	return contest.StartServer(b, contest.Number("RAM_BENCH_SCALE", 40))
}

// ram takes backups in a process of its own, whose memory is that of a backup.
func ram(s *contest.Server, compression string) contest.Contestant {
	return contest.Contestant{Name: "ram/" + compression, Command: func(b *testing.B, dir string) *exec.Cmd {
		return takerCommand(b, errand{
			Repository: backup.Config{URL: "file://" + dir, Compression: compression},
			Options:    plainOptions{Conninfo: benchConninfo(s), ID: testID, SystemID: benchSystemID(b, s)},
		})
	}}
}

func pgBackRest(s *contest.Server, name string, args ...string) contest.Contestant {
	return contest.Contestant{Name: name, Command: func(b *testing.B, dir string) *exec.Cmd {
		p := contest.PgBackRest{Server: s}
		p.Prepare(b, dir)
		return p.Backup(b, dir, args...)
	}}
}

func benchConninfo(s *contest.Server) pg.Conninfo {
	return pg.Conninfo{"host": s.Dir, "port": "5432", "user": "postgres"}
}

func benchSystemID(b *testing.B, s *contest.Server) pg.SystemID {
	b.Helper()
	id, err := pg.ParseSystemID(s.SystemID(b))
	if err != nil {
		b.Fatal(err)
	}
	return id
}

// BenchmarkTakeInProcess is for profiles: the same in this process.
func BenchmarkTakeInProcess(b *testing.B) {
	s := benchServer(b)
	repository, err := backup.Open(b.Context(), backup.Config{URL: "file://" + contest.Place(b)})
	if err != nil {
		b.Fatal(err)
	}
	defer repository.Close()
	o := Options{
		Repository: repository, Conninfo: benchConninfo(s), ID: testID, SystemID: benchSystemID(b, s),
		Workers: runtime.GOMAXPROCS(0), Logger: zerolog.Nop(),
	}
	var plain pg.Bytes
	for b.Loop() {
		entry, err := Take(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		plain += pg.Bytes(entry.Size)
		if err := repository.DeleteBackup(b.Context(), o.ID); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(plain)/1e6/b.Elapsed().Seconds(), "MB/s")
}
