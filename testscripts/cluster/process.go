package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg/guard"
)

// Process is one process of a cluster.
type Process struct {
	PID, Parent int
	Command     string
}

// String is the process for messages.
func (p Process) String() string {
	return fmt.Sprintf("%d (child of %d) %s", p.PID, p.Parent, p.Command)
}

// processesBelow finds every process that belongs to a directory: its program or
// an argument is below it, it works in a data directory below it, or it descends
// from one of those.
func processesBelow(dir string) []Process {
	all := processTable()
	ours := map[int]bool{}
	for _, p := range all {
		if strings.Contains(p.Command, dir+"/") {
			ours[p.PID] = true
		}
	}
	for _, data := range dataDirs(dir) {
		found, _ := guard.Processes(data)
		for _, p := range found {
			ours[p.PID] = true
		}
	}
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if ours[p.Parent] && !ours[p.PID] {
				ours[p.PID], grew = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(p Process) bool { return !ours[p.PID] || p.PID == os.Getpid() })
}

// dataDirs are the data directories below dir, those that are being built included.
func dataDirs(dir string) []string {
	var found []string
	for depth := range 4 {
		pattern := filepath.Join(dir, strings.Repeat("*/", depth), "PG_VERSION")
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			found = append(found, filepath.Dir(file))
		}
	}
	return found
}

// processTable is all processes but zombies, by number.
func processTable() []Process {
	entries, _ := os.ReadDir("/proc")
	var all []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		// pid (command) state parent ...; the command may hold anything.
		_, rest, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		all = append(all, Process{pid, parent, strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))})
	}
	return all
}

// killBelow kills the processes of directories at one moment: they are all
// stopped first, so that none reacts to the death of another.
func killBelow(dirs ...string) {
	for range 200 {
		var found []Process
		for _, dir := range dirs {
			found = append(found, processesBelow(dir)...)
		}
		if len(found) == 0 {
			return
		}
		for _, sig := range []syscall.Signal{unix.SIGSTOP, unix.SIGKILL} {
			for _, p := range found {
				_ = syscall.Kill(p.PID, sig)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// dirPrefix begins the names of all directories that this package makes. It is
// short, for the paths of sockets are.
const dirPrefix = "ramt-"

// claim locks a directory until release is called or this process ends, and lets
// PostgreSQL's user through.
func claim(dir string) (release func(), err error) {
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, err
	}
	return func() { lock.Close() }, nil
}

// clearLeftovers ends what test runs that were killed have left, and removes
// their directories.
func clearLeftovers() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue // somebody else's, or just being made
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && !kept(dir) {
			killBelow(dir)
			os.RemoveAll(dir)
		}
		lock.Close()
	}
}

// Directories that are kept for somebody to look at have a file of this name.
const keptFile = "kept"

func kept(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, keptFile))
	return err == nil
}

// Processes are those of one node.
func (c *Cluster) Processes(node string) []Process { return processesBelow(c.Dir(node)) }

// FindProcess waits for a process of a node whose command line has all the parts.
func (c *Cluster) FindProcess(node string, parts ...string) Process {
	c.t.Helper()
	var found Process
	c.Until(fmt.Sprintf("a process of node %s with %q", node, parts), Patience, func() bool {
		for _, p := range c.Processes(node) {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(p.Command, part) }) {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// CheckNoProcess fails the test when a node still has processes after a while.
func (c *Cluster) CheckNoProcess(nodes ...string) {
	c.t.Helper()
	for _, node := range nodes {
		c.Until("no process of node "+node+" is left", Patience, func() bool { return len(c.Processes(node)) == 0 })
	}
}

func describeProcesses(found []Process) string {
	var b strings.Builder
	for _, p := range found {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	return b.String()
}
