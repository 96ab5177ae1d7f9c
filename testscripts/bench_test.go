package testscripts

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/raftstore"
	"github.com/ramhq/ram/testscripts/cluster"
)

// BenchmarkApplyThreeEmptyNodes compares, in one run, ramctrl apply on three empty
// nodes until the cluster has converged with the same done by hand: initdb,
// start, two pg_basebackup at once, start, until both stream: three pairs, and
// their medians with the ratio of these.
func BenchmarkApplyThreeEmptyNodes(b *testing.B) {
	const pairs = 3
	var applied, byHand []time.Duration
	for i := range pairs {
		// A benchmark of its own, so that what it started has ended before the next.
		b.Run(fmt.Sprintf("pair=%d", i+1), func(b *testing.B) {
			for b.Loop() {
				byHand = append(byHand, threeByHand(b))
				applied = append(applied, threeApplied(b))
				reportPair(b, applied[len(applied)-1], byHand[len(byHand)-1])
			}
		})
	}
	b.Run("median", func(b *testing.B) {
		if len(applied) == 0 {
			b.Skip("no pair was asked for")
		}
		for b.Loop() {
			slices.Sort(applied)
			slices.Sort(byHand)
		}
		reportPair(b, applied[len(applied)/2], byHand[len(byHand)/2])
	})
}

func reportPair(b *testing.B, applied, byHand time.Duration) {
	b.ReportMetric(applied.Seconds(), "s-apply")
	b.ReportMetric(byHand.Seconds(), "s-by-hand")
	b.ReportMetric(applied.Seconds()/byHand.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

func threeApplied(b *testing.B) time.Duration {
	c := cluster.New(b, cluster.Spec{Nodes: []string{"a", "b", "c"}, Swift: true}.String())
	c.Start("a", "b", "c")
	c.AwaitFormed()
	begun := time.Now()
	c.Apply("")
	c.AwaitConverged()
	return time.Since(begun)
}

// byHand is a server that somebody sets up with PostgreSQL's own programs.
type byHand struct {
	b        *testing.B
	bin, dir string
	attr     *syscall.SysProcAttr
}

func (h byHand) run(program string, args ...string) {
	cmd := exec.Command(filepath.Join(h.bin, program), args...)
	cmd.SysProcAttr, cmd.Dir = h.attr, h.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		h.b.Errorf("%s: %s\n%s", program, err, out)
	}
}

func (h byHand) start(name string) {
	h.run("pg_ctl", "-D", filepath.Join(h.dir, name), "-w", "-s", "-l", filepath.Join(h.dir, name+".log"), "start")
}

func (h byHand) configure(name, text string) {
	f, err := os.OpenFile(filepath.Join(h.dir, name, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		h.b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		h.b.Fatal(err)
	}
}

// threeByHand is the floor: what it takes when somebody types it as fast as the
// programs end.
func threeByHand(b *testing.B) time.Duration {
	h := newByHand(b)
	ports := freePorts(b, 3)
	settings := func(port int) string {
		return fmt.Sprintf("listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = ''\n", port)
	}
	conninfo := func(name string) string {
		return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres application_name=%s", ports[0], name)
	}
	defer func() {
		for _, name := range []string{"b", "c", "a"} {
			h.run("pg_ctl", "-D", filepath.Join(h.dir, name), "-m", "immediate", "-w", "-s", "stop")
		}
	}()
	begun := time.Now()
	h.run("initdb", "-D", filepath.Join(h.dir, "a"), "--data-checksums", "-A", "trust", "-U", "postgres", "--no-instructions")
	h.configure("a", settings(ports[0]))
	h.start("a")
	var group errgroup.Group
	for i, name := range []string{"b", "c"} {
		group.Go(func() error {
			h.run("pg_basebackup", "-D", filepath.Join(h.dir, name), "-X", "stream", "-c", "fast", "-R", "-d", conninfo(name), "-C", "-S", "slot_"+name)
			h.configure(name, settings(ports[i+1]))
			h.start(name)
			return nil
		})
	}
	_ = group.Wait()
	for {
		out, err := exec.Command(filepath.Join(h.bin, "psql"), "-XAtd", conninfo("bench"), "-c", "select count(*) from pg_stat_replication where state = 'streaming'").Output()
		if err == nil && strings.TrimSpace(string(out)) == "2" {
			return time.Since(begun)
		}
		if time.Since(begun) > cluster.Patience {
			b.Fatal("the standbys do not stream")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func newByHand(b *testing.B) byHand {
	dir, err := os.MkdirTemp("", "ram-by-hand-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	h := byHand{b: b, dir: dir}
	for major := 18; major >= 13 && h.bin == ""; major-- {
		if found, err := instance.Find("", major); err == nil {
			h.bin = found.Dir
		}
	}
	if h.bin == "" {
		b.Fatal("PostgreSQL was not found")
	}
	if os.Geteuid() != 0 {
		return h
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		b.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	h.attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if err := os.Chown(dir, uid, gid); err != nil {
		b.Fatal(err)
	}
	return h
}

func freePorts(b *testing.B, n int) []int {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// BenchmarkIdle measures what a converged cluster of three costs while nothing
// happens: CPU (in percent of a core, over half a minute) and resident memory of
// the leading ramd, of a following one and of a guard, and beside them a bare
// Raft store, which is the part of a ramd that never rests.
func BenchmarkIdle(b *testing.B) {
	const rest = 30 * time.Second
	for b.Loop() {
		c := cluster.New(b, cluster.Spec{Nodes: []string{"a", "b", "c"}, Swift: true}.String())
		c.Start("a", "b", "c")
		c.Apply("")
		c.AwaitConverged()
		time.Sleep(10 * time.Second)
		leader := c.Leader()
		follower := "a"
		if leader == "a" {
			follower = "b"
		}
		pids := map[string]int{
			"ramd-leader":   c.FindProcess(leader, "ramd", "start").PID,
			"ramd-follower": c.FindProcess(follower, "ramd", "start").PID,
			"guard":         c.FindProcess(leader, "ramd", "guard").PID,
		}
		before := map[string]time.Duration{}
		for name, pid := range pids {
			before[name] = cpuOf(b, pid)
		}
		raftBefore := bareRaft(b)
		time.Sleep(rest)
		for name, pid := range pids {
			b.ReportMetric((cpuOf(b, pid)-before[name]).Seconds()/rest.Seconds()*100, "%cpu-"+name)
			b.ReportMetric(residentMB(b, pid), "MB-"+name)
		}
		b.ReportMetric(raftBefore().Seconds()/rest.Seconds()*100/3, "%cpu-raft-alone")
		b.ReportMetric(0, "ns/op")
	}
}

// cpuOf is the processor time that a process has used.
func cpuOf(b *testing.B, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The name in parentheses may hold spaces; utime and stime are the 12th and
	// 13th fields after it, in hundredths of a second.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	user, _ := strconv.Atoi(string(fields[11]))
	system, _ := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * 10 * time.Millisecond
}

func residentMB(b *testing.B, pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kb, _ := strconv.Atoi(strings.Fields(after)[0])
	return float64(kb) / 1024
}

// silent is a machine that nothing is proposed to.
type silent struct{}

func (silent) Apply(uint64, []byte) (any, error) { return nil, nil }
func (silent) Snapshot() ([]byte, error)         { return []byte("{}"), nil }
func (silent) Restore([]byte) error              { return nil }

// bareRaft runs three Raft stores in this process; the returned function is the
// processor time that the process has used since.
func bareRaft(b *testing.B) func() time.Duration {
	var members []raftstore.Member
	var stores []*raftstore.Store
	for _, name := range []string{"x", "y", "z"} {
		s, err := raftstore.Open(context.Background(), raftstore.Config{
			Dir: filepath.Join(b.TempDir(), name), Cluster: "bench", Name: name, Bind: "127.0.0.1:0",
			Machine: silent{}, Secret: func() []byte { return []byte("0123456789abcdef0123456789abcdef") },
			Logger: zerolog.Nop(),
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Close() })
		m := s.Self()
		m.Voter = true
		members, stores = append(members, m), append(stores, s)
	}
	if err := stores[0].Bootstrap(b.Context(), members); err != nil {
		b.Fatal(err)
	}
	for {
		if _, _, known := stores[2].Leader(); known {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	before := cpuOf(b, os.Getpid())
	return func() time.Duration { return cpuOf(b, os.Getpid()) - before }
}
