package take

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// BenchmarkTake backs up a pgbench database of RAM_BENCH_SCALE (15 MB each; 20 by
// default) and reports, for ram and beside it for pg_basebackup with compression at
// the client and at the server: rate, CPU time of client and server, and for ram the
// largest resident size of a process of its own. RAM_BENCH_DIR says where; by default
// the usual place for temporary files, since memory would hide what disks cost.
func BenchmarkTake(b *testing.B) {
	s := benchServer(b)
	for _, compression := range []string{"zstd", "lz4", "none"} {
		b.Run("ram/"+compression, func(b *testing.B) { benchRam(b, s, compression) })
	}
	for _, compress := range []string{"client-zstd:level=3,workers=2", "server-zstd:level=3,workers=2", "client-gzip", "none"} {
		b.Run("pg_basebackup/"+compress, func(b *testing.B) {
			measure(b, s, func(b *testing.B, into string) *exec.Cmd {
				cmd := exec.Command(filepath.Join(binaries(b), "pg_basebackup"), "-h", s.dir, "-U", "postgres", "-Ft", "-X", "fetch", "-c", "fast",
					"-D", into, "--compress="+compress)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner(b)}
				return cmd
			})
		})
	}
}

// benchServer has a pgbench database and WAL of one segment.
func benchServer(b *testing.B) *server {
	b.Helper()
	if os.Getenv("RAM_TEST_DIR") == "" {
		b.Setenv("RAM_TEST_DIR", benchDir())
	}
	scale, err := strconv.Atoi(os.Getenv("RAM_BENCH_SCALE"))
	if err != nil {
		scale = 20
	}
	s := startPrimary(b, "max_wal_size=4GB")
	run(b, "pgbench", "-h", s.dir, "-U", "postgres", "-i", "-q", "-s", strconv.Itoa(scale), "postgres")
	s.sql(b, "CHECKPOINT", "SELECT pg_switch_wal()", "CHECKPOINT")
	return s
}

func benchDir() string {
	if dir := os.Getenv("RAM_BENCH_DIR"); dir != "" {
		return dir
	}
	return os.TempDir()
}

// benchRam takes backups in a process of its own, whose memory is that of a backup.
func benchRam(b *testing.B, s *server, compression string) {
	measure(b, s, func(b *testing.B, into string) *exec.Cmd {
		return takerCommand(b, errand{
			Repository: backup.Config{URL: "file://" + into, Compression: compression},
			Options:    plainOptions{Conninfo: s.conninfo("postgres"), ID: testID, SystemID: s.systemID(b)},
		})
	})
}

// measure runs a command for each iteration, into a directory that is removed
// afterwards, and reports the means.
func measure(b *testing.B, s *server, command func(b *testing.B, into string) *exec.Cmd) {
	var plain, stored int64
	var client, backend time.Duration
	var peak int64
	for b.Loop() {
		b.StopTimer()
		into := scratch(b, "ramtakebench")
		cmd := command(b, into)
		var text strings.Builder
		cmd.Stderr = &text
		before := s.cpu(b)
		b.StartTimer()
		err := cmd.Run()
		b.StopTimer()
		if err != nil {
			b.Fatalf("%v\n%s", err, &text)
		}
		backend += s.cpu(b) - before
		usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		client += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		peak = max(peak, usage.Maxrss)
		plain += size(b, s.data())
		stored += size(b, into)
		if err := os.RemoveAll(into); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	n := float64(b.N)
	b.ReportMetric(float64(plain)/1e6/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(client.Seconds()/n, "client-cpu-s/op")
	b.ReportMetric(backend.Seconds()/n, "server-cpu-s/op")
	b.ReportMetric(float64(peak)/1024, "peak-rss-MB")
	b.ReportMetric(float64(stored)/1e6/n, "stored-MB")
	b.ReportMetric(0, "ns/op")
}

// cpu is what the server and its children that have ended have used.
func (s *server) cpu(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks int64
	for _, field := range strings.Fields(rest)[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

func size(b *testing.B, dir string) (bytes int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil // files of a running server come and go
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}

// BenchmarkTakeInProcess is for profiles: the same in this process.
func BenchmarkTakeInProcess(b *testing.B) {
	s := benchServer(b)
	repository, _ := newRepository(b, "zstd", false)
	o := Options{
		Repository: repository, Conninfo: s.conninfo("postgres"), ID: testID, SystemID: s.systemID(b),
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
