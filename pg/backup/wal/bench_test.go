package wal

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
)

// BenchmarkPush1000 archives a backlog of 1,000 segments of pgbench's WAL through the
// command that PostgreSQL runs, one after the other as its archiver does, into a
// directory. The segments have 1 MB, or RAM_BENCH_SEGMENT_MB. Reported are segments and
// MB per second and the CPU seconds of all processes for the whole backlog.
func BenchmarkPush1000(b *testing.B) {
	megabytes := 1
	if text := os.Getenv("RAM_BENCH_SEGMENT_MB"); text != "" {
		megabytes, _ = strconv.Atoi(text)
	}
	const segments = 1000
	dir := filepath.Join(place(b), "pg_wal")
	fillBacklog(b, dir, segments, int64(megabytes)<<20)
	var seconds, cpu float64
	for b.Loop() {
		b.StopTimer()
		drain := newDrain(b, dir)
		markReady(b, dir)
		began, used := time.Now(), cpuTime(b)
		b.StartTimer()
		drain(b)
		seconds += time.Since(began).Seconds()
		cpu += cpuTime(b) - used
	}
	n := float64(b.N)
	b.ReportMetric(segments*n/seconds, "segments/s")
	b.ReportMetric(float64(segments*megabytes)*n/seconds, "MB/s")
	b.ReportMetric(cpu/n, "cpu-s")
	b.ReportMetric(float64(peakMemory(b))/1024, "peak-MB")
}

// fillBacklog makes segments out of what pgbench has a server write.
func fillBacklog(b *testing.B, dir string, count int, size int64) {
	b.Helper()
	s := newServer(b).start(b, "wal_keep_size=1GB", "max_wal_senders=2")
	for _, args := range [][]string{{"-i", "-q", "-s", "10"}, {"-c", "2", "-t", "10000", "-n"}} {
		s.run(b, "pgbench", append(args, "-h", s.dir, "-U", "postgres", "postgres")...)
	}
	id := s.systemID(b)
	s.signal(b, syscall.SIGINT)
	files, err := filepath.Glob(s.wal() + "/0000000100000*")
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(files)
	var content []byte
	for _, file := range files[:len(files)-1] {
		part, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		content = append(content, part...)
	}
	if err := os.MkdirAll(statusDir(dir), 0o755); err != nil {
		b.Fatal(err)
	}
	pieces := int64(len(content)) / size
	for i := range int64(count) {
		piece := slices.Clone(content[i%pieces*size:][:size])
		name := segmentName(1, uint64(i+1), size)
		n, _ := ParseName(name)
		// The first page's header is all that names the place.
		copy(piece, segment(b, nth(0), id, 0)[:headerSize])
		binary.NativeEndian.PutUint64(piece[8:], uint64(n.start(size)))
		binary.NativeEndian.PutUint32(piece[32:], uint32(size))
		if err := os.WriteFile(filepath.Join(dir, name), piece, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("%d segments of %d MB, of %d MB of WAL of system %s", count, size>>20, len(content)>>20, id)
	if err := os.WriteFile(filepath.Join(dir, "system"), []byte(id.String()), 0o644); err != nil {
		b.Fatal(err)
	}
}

func markReady(b *testing.B, dir string) {
	b.Helper()
	files, err := filepath.Glob(dir + "/0000*")
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(statusDir(dir), filepath.Base(file)+readySuffix), nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

// newDrain serves an empty repository, and returns what plays PostgreSQL's archiver.
func newDrain(b *testing.B, dir string) func(*testing.B) {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "system"))
	if err != nil {
		b.Fatal(err)
	}
	var id uint64
	if _, err := fmt.Sscan(string(text), &id); err != nil {
		b.Fatal(err)
	}
	home := place(b)
	a, err := NewArchiver(ArchiverConfig{
		Open: opener(newRepository(b, pg.SystemID(id))), Dir: func() string { return dir }, Standing: func() Standing { return Holder },
		Ahead: filepath.Join(home, "ahead"), Logger: zerolog.Nop(),
	})
	if err != nil {
		b.Fatal(err)
	}
	service, err := Listen(ServiceConfig{Socket: filepath.Join(home, "s"), UID: -1, Push: a.Push, Logger: zerolog.Nop()})
	if err != nil {
		b.Fatal(err)
	}
	run(b, service.Serve)
	run(b, a.Run)
	ramd := program(b)
	if path := os.Getenv("RAM_BENCH_RAMD"); path != "" {
		ramd = path
	}
	command := strings.ReplaceAll(ArchiveCommand(ramd, filepath.Join(home, "s"), filepath.Join(home, "ahead")), "%%", "%")
	return func(b *testing.B) { playArchiver(b, dir, command) }
}

// playArchiver does what PostgreSQL's archiver does for each file: the command, and the
// renaming of the status file.
func playArchiver(b *testing.B, dir, command string) {
	for {
		ready, err := readyFiles(dir)
		if err != nil {
			b.Fatal(err)
		}
		if len(ready) == 0 {
			return
		}
		for _, file := range ready {
			if out, err := exec.Command("sh", "-c", strings.ReplaceAll(command, "%f", file)).CombinedOutput(); err != nil {
				b.Fatalf("%s: %v: %s", file, err, out)
			}
			status := filepath.Join(statusDir(dir), file)
			if err := os.Rename(status+readySuffix, status+".done"); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// cpuTime is what this process and its ended children have used, in seconds.
func cpuTime(b *testing.B) float64 {
	var total float64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			b.Fatal(err)
		}
		total += float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
	}
	return total
}

// peakMemory is the largest resident size of this process, in kB.
func peakMemory(b *testing.B) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Maxrss
}
