package guard

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// childrenOf lists the children of a process. The kernel's own list is used where
// it is compiled in; otherwise every process is asked for its parent.
func childrenOf(pid int) []int {
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return nil
	}
	var children []int
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + task.Name() + "/children")
		if err != nil {
			return childrenByParent(pid)
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

func childrenByParent(pid int) []int {
	var children []int
	for _, p := range processes() {
		if s, ok := readStat(p); ok && s.parent == pid {
			children = append(children, p)
		}
	}
	return children
}

// processes lists every process of the machine (or container).
func processes() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// procStat is the part of /proc/PID/stat that matters here.
type procStat struct {
	command string
	state   byte // 'Z' for a zombie
	parent  int
}

func readStat(pid int) (procStat, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, false
	}
	// The command stands in parentheses and may hold any character, also ")".
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return procStat{}, false
	}
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 2 {
		return procStat{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return procStat{command: string(text[open+1 : end]), state: fields[0][0], parent: parent}, err == nil
}

// isLogCollector tells by the title that PostgreSQL gives to its logging process:
// "postgres: logger", with cluster_name in between where that is set. Titles of
// sessions have more words.
func isLogCollector(pid int) bool {
	title, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	rest, found := strings.CutPrefix(strings.TrimRight(string(title), "\x00 "), "postgres: ")
	return found && (rest == "logger" || strings.HasSuffix(rest, ": logger"))
}

func killAll(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already
	}
}
