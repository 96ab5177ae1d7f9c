package devcluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// standIn is a process with a command line of one's own, its first argument a
// file name, that only sleeps.
func standIn(t *testing.T, stderr string, argv ...string) int {
	t.Helper()
	dir := t.TempDir()
	// The shell stays, for it has another command to run after the sleep.
	if err := os.WriteFile(filepath.Join(dir, argv[1]), []byte("sleep 60; :\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: "/bin/sh", Args: argv, Dir: dir, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	if stderr != "" {
		log, err := os.Create(stderr)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stderr = log
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	// For a moment after exec the kernel shows no command line.
	if !waitFor(t.Context(), 5*time.Second, func() bool {
		line, err := os.ReadFile(procPath(cmd.Process.Pid, "cmdline"))
		return err == nil && len(line) > 0
	}) {
		t.Fatal("the stand-in shows no command line")
	}
	return cmd.Process.Pid
}

func ended(pid int) bool {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestOnlyProcessesOfTheDevClusterAreSignalled(t *testing.T) {
	root, err := resolved(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p, err := create(filepath.Join(root, "dev"), memory{})
	if err != nil {
		t.Fatal(err)
	}
	if err := makeAll(p.data("a")); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(p.data("a"), "postgres.ram-new", "data")
	for _, test := range []struct {
		rule   string
		stderr string
		argv   []string
		want   kind // empty: not ours
	}{
		{"a ramd on a node's directory", "", []string{"ramd", "start", "--node", "a", "--data-dir", p.data("a")}, ramd},
		{"a ramd on a directory with a longer name", "", []string{"ramd", "start", "--data-dir", p.dir + "-other/a"}, ""},
		{"a ramd on the dev directory itself", "", []string{"ramd", "start", "--data-dir", p.dir}, ""},
		{"a ramd on a directory further below", "", []string{"ramd", "start", "--data-dir", p.data("a") + "/x"}, ""},
		{"another command about a node's directory", "", []string{"ramd", "status", "--data-dir", p.data("a")}, ""},
		{"a guard that logs to a node's directory", filepath.Join(p.data("a"), "guard.log"), []string{"ramd", "guard"}, guarding},
		{"a guard that logs elsewhere", filepath.Join(root, "guard.log"), []string{"ramd", "guard"}, ""},
		{"a program that builds a data directory there", "", []string{"/usr/bin/initdb", "x", "--pgdata=" + data}, program},
		{"a program that builds a data directory elsewhere", "", []string{"/usr/bin/initdb", "x", "--pgdata=" + root}, ""},
		{"somebody who reads a log there", "", []string{"less", "x", p.log("a")}, ""},
	} {
		t.Run(test.rule, func(t *testing.T) {
			pid := standIn(t, test.stderr, test.argv...)
			q, ok := p.judge(pid)
			if ok != (test.want != "") || ok && (q.kind != test.want || q.node != "a") {
				t.Errorf("judged as %q of node %q (%t), want %q", q.kind, q.node, ok, test.want)
			}
			// As if the number had been that of a process of the cluster a moment ago.
			before := process{pid: pid, kind: test.want, node: "a"}
			if test.want == "" {
				before.kind = ramd
			}
			if err := p.signal(before, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			if test.want == "" {
				time.Sleep(20 * time.Millisecond)
			} else {
				waitFor(t.Context(), 5*time.Second, func() bool { return ended(pid) })
			}
			if got, want := ended(pid), test.want != ""; got != want {
				t.Errorf("it has ended: %t, want %t", got, want)
			}
		})
	}
}
