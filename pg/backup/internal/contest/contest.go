// Package contest has benchmarks run programs that do the same work by turns, and tells
// what each took: as whole processes, with all that they start. It is for tests only.
package contest

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Contestant is one way to do the work.
type Contestant struct {
	Name string
	// Command is what is measured, in a process group of its own. It is made, with all that
	// it needs, in an empty directory, before the clock runs. What is there afterwards
	// counts as stored.
	Command func(b *testing.B, dir string) *exec.Cmd
}

// Contest is the work.
type Contest struct {
	// Plain is how many bytes of it there are.
	Plain int64
	// Reference is the name of the contestant that the others' rates are divided by. It may
	// be missing.
	Reference string
	// Elsewhere is the CPU time so far of a server that also works; nil means none.
	Elsewhere func(b *testing.B) time.Duration
}

// Rounds is how often each contestant runs, unless RAM_BENCH_ROUNDS says otherwise.
const Rounds = 3

// lap is one run.
type lap struct {
	seconds, cpu, elsewhere float64
	peak, stored            float64 // MB
}

// Run has all run once in each round, every time beginning with another, and reports the
// medians. Rates are compared within their round, for others use the machine too.
// RAM_BENCH_ONLY is a regular expression for the names of those that take part.
func (c Contest) Run(b *testing.B, contestants []Contestant) {
	b.Helper()
	only, err := regexp.Compile(os.Getenv("RAM_BENCH_ONLY"))
	if err != nil {
		b.Fatal(err)
	}
	contestants = slices.DeleteFunc(contestants, func(c Contestant) bool { return !only.MatchString(c.Name) })
	laps := make(map[string][]lap)
	for round := range Number("RAM_BENCH_ROUNDS", Rounds) {
		for n := range contestants {
			next := contestants[(round+n)%len(contestants)]
			laps[next.Name] = append(laps[next.Name], c.lap(b, next))
		}
	}
	for _, contestant := range contestants {
		b.Run(contestant.Name, func(b *testing.B) { c.report(b, laps[contestant.Name], laps[c.Reference]) })
	}
}

func (c Contest) report(b *testing.B, laps, reference []lap) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(c.Plain)/1e6/median(laps, func(_ int, l lap) float64 { return l.seconds }), "MB/s")
	b.ReportMetric(median(laps, func(_ int, l lap) float64 { return l.cpu }), "cpu-s")
	if c.Elsewhere != nil {
		b.ReportMetric(median(laps, func(_ int, l lap) float64 { return l.elsewhere }), "server-cpu-s")
	}
	b.ReportMetric(median(laps, func(_ int, l lap) float64 { return l.peak }), "peak-MB")
	b.ReportMetric(median(laps, func(_ int, l lap) float64 { return l.stored }), "stored-MB")
	if len(reference) == len(laps) {
		b.ReportMetric(median(laps, func(n int, l lap) float64 { return reference[n].seconds / l.seconds }), "times-"+c.Reference)
	}
}

func median(laps []lap, value func(n int, l lap) float64) float64 {
	values := make([]float64, len(laps))
	for n, l := range laps {
		values[n] = value(n, l)
	}
	slices.SortFunc(values, cmp.Compare[float64])
	return values[len(values)/2]
}

func (c Contest) lap(b *testing.B, contestant Contestant) lap {
	b.Helper()
	dir := Place(b)
	defer os.RemoveAll(dir)
	cmd := contestant.Command(b, dir)
	before := size(b, dir)
	var said bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &said
	}
	cmd.Stderr = &said
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	var elsewhere time.Duration
	if c.Elsewhere != nil {
		elsewhere = -c.Elsewhere(b)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	peak := watchMemory(cmd.Process.Pid)
	err := cmd.Wait()
	took := time.Since(began)
	sampled := peak()
	if err != nil {
		b.Fatalf("%s: %v\n%s", contestant.Name, err, &said)
	}
	if c.Elsewhere != nil {
		elsewhere += c.Elsewhere(b)
	}
	return lap{
		seconds: took.Seconds(), elsewhere: elsewhere.Seconds(),
		cpu:  (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(),
		peak: float64(sampled) / 1024, stored: float64(size(b, dir)-before) / 1e6,
	}
}

// Number is a whole number above zero from the environment.
func Number(variable string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// Place is a new directory that PostgreSQL's user owns. It is below RAM_BENCH_DIR, or
// where temporary files are, since memory would hide what disks cost. It goes with the
// benchmark.
func Place(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("RAM_BENCH_DIR"), "rambench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if account := Account(b); account != nil {
		if err := os.Chown(dir, int(account.Uid), int(account.Gid)); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// size is that of all files below a directory. Those of a running server come and go.
func size(b *testing.B, dir string) (bytes int64) {
	b.Helper()
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
