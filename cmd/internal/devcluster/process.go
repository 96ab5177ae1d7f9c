package devcluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kind is what a process is to a dev cluster.
type kind string

const (
	ramd     kind = "ramd"
	guarding kind = "guard"
	// program is one of PostgreSQL's that builds a data directory.
	program kind = "program"
)

// process is one that belongs to a dev cluster by what the kernel tells of it: a
// ramd was told its data directory, a guard writes its log there, a program of
// PostgreSQL writes to a data directory there.
type process struct {
	pid  int
	kind kind
	node string
	// args are the command line.
	args []string
}

// processes lists those of this dev cluster; servers are found by package guard.
// Zombies have ended.
func (p *place) processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []process
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if q, ok := p.judge(pid); ok {
				found = append(found, q)
			}
		}
	}
	return found
}

// judge says whether a process belongs to the dev cluster, and as what.
func (p *place) judge(pid int) (process, bool) {
	text, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil || len(text) == 0 {
		return process{}, false
	}
	args := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
	q := process{pid: pid, args: args}
	switch {
	case len(args) > 1 && args[1] == "start":
		q.kind, q.node = ramd, p.nodeOf(after(args, "--data-dir"))
		return q, q.node != "" && p.data(q.node) == after(args, "--data-dir")
	case len(args) == 2 && args[1] == "guard":
		log, err := os.Readlink(procPath(pid, "fd/2"))
		q.kind, q.node = guarding, p.nodeOf(log)
		return q, err == nil && q.node != "" && filepath.Base(log) == "guard.log"
	case slices.Contains(builders, filepath.Base(args[0])):
		for _, arg := range args {
			if i := strings.IndexByte(arg, '/'); i >= 0 {
				if q.kind, q.node = program, p.nodeOf(arg[i:]); q.node != "" {
					return q, true
				}
			}
		}
	}
	return process{}, false
}

// builders are the programs that build data directories, and may outlive a ramd
// that was killed for a moment.
var builders = []string{"initdb", "pg_basebackup", "pg_rewind"}

// nodeOf is the node in whose directory a path is, or empty.
func (p *place) nodeOf(path string) string {
	rest, below := strings.CutPrefix(filepath.Clean(path), p.dir+"/")
	if !below {
		return ""
	}
	node, _, _ := strings.Cut(rest, "/")
	return node
}

func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// signal reaches the process only while it still is what it was judged to be: the
// handle is taken first, so that a number that is used again is not hit.
func (p *place) signal(q process, sig syscall.Signal) error {
	handle, err := os.FindProcess(q.pid)
	if err != nil {
		return err
	}
	defer handle.Release()
	if now, ok := p.judge(q.pid); !ok || now.kind != q.kind || now.node != q.node {
		return nil
	}
	if err := handle.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// age is for how long a process has been there; zero when the kernel does not say.
func age(pid int) time.Duration {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return 0
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0
	}
	// The command stands in parentheses and may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const startTime, ticks = 19, 100 // the 22nd field of all, in hundredths of a second
	if len(fields) <= startTime {
		return 0
	}
	start, err := strconv.ParseFloat(fields[startTime], 64)
	if err != nil {
		return 0
	}
	now, _, _ := strings.Cut(string(uptime), " ")
	up, err := strconv.ParseFloat(now, 64)
	if err != nil {
		return 0
	}
	return max(0, time.Duration((up-start/ticks)*float64(time.Second)))
}

// ramds are the running ramds by node.
func (p *place) ramds() map[string]process {
	running := map[string]process{}
	for _, q := range p.processes() {
		if q.kind == ramd {
			running[q.node] = q
		}
	}
	return running
}
