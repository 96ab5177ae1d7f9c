package faults

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is one process of a host.
type Process struct {
	PID, Parent int
	// State is the letter that /proc has for it.
	State   string
	Command string
}

// String is the process for messages.
func (p Process) String() string {
	return fmt.Sprintf("%d (child of %d, %s) %s", p.PID, p.Parent, p.State, p.Command)
}

// describe is a process by its number; false when it is gone.
func describe(pid int) (Process, bool) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return Process{}, false
	}
	// pid (command) state parent ...; the command may hold anything.
	_, rest, _ := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return Process{}, false
	}
	parent, _ := strconv.Atoi(fields[1])
	command, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
	return Process{pid, parent, fields[0], strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))}, true
}

// Processes are those on the host.
func (h *Host) Processes() []Process {
	var all []Process
	for _, pid := range h.PIDs() {
		if p, ok := describe(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

// leftIn are the processes of test runs whose files are in dir: those that run a
// program of it or work in it, and whoever shares a namespace with one of them.
func leftIn(dir string) []int {
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil
	}
	spaces := map[string]bool{}
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		for _, link := range []string{"exe", "cwd"} {
			target, _ := os.Readlink(filepath.Join(proc, link))
			id, err := os.Readlink(filepath.Join(proc, "ns/net"))
			if strings.HasPrefix(target, dir+"/") && err == nil && id != home {
				spaces[id] = true
			}
		}
	}
	return pidsIn(spaces)
}
