package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var whenAndWho = cmpopts.IgnoreFields(Exit{}, "At", "PID")

func TestFastStopEndsCleanlyAndIsReported(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := Postmaster(w.cfg.DataDir); status.PID != got || status.State != Running {
		t.Errorf("status says %d %s, the lock file %d", status.PID, status.State, got)
	}
	if err := c.Stop(t.Context(), Fast, time.Minute); err != nil {
		t.Fatal(err)
	}
	waitDone(t, c)
	exit, err := c.Exit()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Exit{Requested: "fast"}, exit, whenAndWho); diff != "" || !exit.Clean() {
		t.Errorf("exit, clean %v: %s", exit.Clean(), diff)
	}
	recorded, err := ReadExit(w.cfg.ExitFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(exit, recorded, cmpopts.EquateApproxTime(time.Millisecond)); diff != "" {
		t.Errorf("the exit record differs: %s", diff)
	}
	if n := w.processes(t); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if _, err := os.Stat(w.cfg.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if _, err := Connect(t.Context(), w.cfg.Socket); !errors.Is(err, ErrNoGuard) {
		t.Errorf("connected to an ended guard: %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("status after the end: %v", err)
	}
}

func TestNextServerStartsRightAfterTheLastWord(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		c := w.spawn(t)
		if err := c.Stop(t.Context(), Immediate, 0); err != nil {
			t.Fatal(err)
		}
		waitDone(t, c)
	}
}

func TestEndOfPostmasterIsToldAndNothingSurvivesIt(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(t *testing.T, c *Client)
		want Exit
	}{
		"postmaster killed": {
			func(t *testing.T, c *Client) { kill(t, c.Last().PID, syscall.SIGKILL) },
			Exit{Signal: "killed"},
		},
		"tree killed": {
			func(t *testing.T, c *Client) {
				if err := c.KillTree(t.Context()); err != nil {
					t.Error(err)
				}
			},
			Exit{Signal: "killed", Requested: "kill"},
		},
		"hung postmaster, tree killed": {
			func(t *testing.T, c *Client) {
				kill(t, c.Last().PID, syscall.SIGSTOP)
				if err := c.KillTree(t.Context()); err != nil {
					t.Error(err)
				}
			},
			Exit{Signal: "killed", Requested: "kill"},
		},
		"immediate stop": {
			func(t *testing.T, c *Client) {
				if err := c.Stop(t.Context(), Immediate, 0); err != nil {
					t.Error(err)
				}
			},
			Exit{Requested: "immediate"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.spawn(t)
			w.keepBusy(t)
			test.end(t, c)
			waitDone(t, c)
			if n := w.processes(t); n != 0 {
				t.Errorf("%d processes survived", n)
			}
			exit, err := c.Exit()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, exit, whenAndWho, cmpopts.IgnoreFields(Exit{}, "Cleared")); diff != "" {
				t.Error(diff)
			}
			if exit.Clean() {
				t.Error("called a clean shutdown")
			}
			if test.want.Requested == "" && exit.Cleared == 0 {
				t.Error("no survivor was cleared, so this test shows nothing")
			}
		})
	}
}

func TestServerOutlivesRamd(t *testing.T) {
	w := newWorld(t)
	ramd := startRamd(t, w)
	waitFor(t, "a guard", func() bool { return reachable(t, w) })
	postmaster := Postmaster(w.cfg.DataDir)
	kill(t, ramd.Process.Pid, syscall.SIGKILL)
	_ = ramd.Wait()

	c, err := Connect(t.Context(), w.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.connect(t)
	if status, err := c.Status(t.Context()); err != nil || status.PID != postmaster {
		t.Errorf("status %+v, %v; want postmaster %d", status, err, postmaster)
	}
}

func TestServerQuitsWhenItsGuardIsKilled(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	w.keepCommitting(t)
	kill(t, c.Last().GuardPID, syscall.SIGKILL)
	waitDone(t, c)
	if _, err := c.Exit(); !errors.Is(err, ErrLost) {
		t.Errorf("Exit: %v, want ErrLost", err)
	}
	waitFor(t, "the end of all processes", func() bool { return w.processes(t) == 0 })
	if _, err := ReadExit(w.cfg.ExitFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is an exit record: %v", err)
	}
}

func TestGuardClearsWhatAnEarlierServerLeftBehind(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	w.keepBusy(t)
	kill(t, c.Last().GuardPID, syscall.SIGSTOP) // lest it clears up itself
	kill(t, c.Last().PID, syscall.SIGKILL)
	kill(t, c.Last().GuardPID, syscall.SIGKILL)
	waitFor(t, "the postmaster's end", func() bool { return Postmaster(w.cfg.DataDir) == 0 })
	if w.processes(t) == 0 {
		t.Fatal("no session survived, so this test shows nothing")
	}
	w.spawn(t)
}

func TestGuardToldToEndStopsTheServerFirst(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	w.connect(t)
	kill(t, c.Last().GuardPID, syscall.SIGTERM)
	waitDone(t, c)
	exit, err := c.Exit()
	if err != nil || !exit.Clean() {
		t.Errorf("exit %+v, %v; want a clean one", exit, err)
	}
}

func TestStopBecomesImmediateAfterItsTimeout(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	w.connect(t) // a smart stop waits for this session
	if err := c.Stop(t.Context(), Smart, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	waitDone(t, c)
	exit, err := c.Exit()
	if err != nil || exit.Requested != string(Immediate) {
		t.Errorf("exit %+v, %v; want an immediate one", exit, err)
	}
}

func TestOneGuardPerDataDirectory(t *testing.T) {
	w := newWorld(t)
	w.spawn(t)
	other := w.cfg
	other.Socket = filepath.Join(w.dir, "other.sock")
	if _, err := Spawn(t.Context(), as("guard"), other); !errors.Is(err, ErrBusy) {
		t.Errorf("second guard: %v, want ErrBusy", err)
	}
}

func TestSocketPaths(t *testing.T) {
	t.Run("a dead guard's socket is replaced", func(t *testing.T) {
		w := newWorld(t)
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: w.cfg.Socket})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		stale.Close()
		w.spawn(t)
		info, err := os.Stat(w.cfg.Socket)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v; want mode 0600", info, err)
		}
	})
	t.Run("another guard's socket is not", func(t *testing.T) {
		first, second := newWorld(t), newWorld(t)
		first.spawn(t)
		second.cfg.Socket = first.cfg.Socket
		refused(t, second, "a guard of another data directory answers")
	})
	t.Run("a file is not a socket", func(t *testing.T) {
		w := newWorld(t)
		if err := os.WriteFile(w.cfg.Socket, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, w, "is not a socket; move it away")
	})
	t.Run("too long", func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Socket = filepath.Join(w.dir, strings.Repeat("x", 100))
		if _, err := Spawn(t.Context(), as("guard"), w.cfg); !errors.Is(err, ErrSocketPath) {
			t.Errorf("%v, want ErrSocketPath", err)
		}
	})
}

func TestServerThatCannotStart(t *testing.T) {
	t.Run("no program", func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Binary = "/nonexistent/postgres"
		refused(t, w, "no such file")
	})
	t.Run("no data directory", func(t *testing.T) {
		w := newWorld(t)
		w.cfg.DataDir = filepath.Join(w.dir, "none")
		refused(t, w, "open the data directory")
	})
	t.Run("bad setting", func(t *testing.T) {
		w := newWorld(t, "-c", "nonsense=1")
		c, err := Spawn(t.Context(), as("guard"), w.cfg)
		if err != nil {
			if exit, _ := ReadExit(w.cfg.ExitFile); exit.Code == 0 {
				t.Errorf("%v, and the exit record says %+v", err, exit)
			}
			return
		}
		waitDone(t, c)
		if exit, err := c.Exit(); err != nil || exit.Code == 0 || exit.Clean() {
			t.Errorf("exit %+v, %v", exit, err)
		}
	})
}

func TestReloadIsPassedOn(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	session := w.connect(t)
	conf := filepath.Join(w.cfg.DataDir, "postgresql.auto.conf")
	if err := os.WriteFile(conf, []byte("work_mem = '77MB'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the new setting", func() bool {
		var value string
		err := session.QueryRow(t.Context(), "SHOW work_mem").Scan(&value)
		return err == nil && value == "77MB"
	})
}

func TestLogCollectorWritesTheLastLines(t *testing.T) {
	w := newWorld(t, "-c", "logging_collector=on", "-c", "log_directory=log", "-c", "log_filename=x.log", "-c", "cluster_name=some")
	c := w.spawn(t)
	if err := c.Stop(t.Context(), Fast, 0); err != nil {
		t.Fatal(err)
	}
	waitDone(t, c)
	text, err := os.ReadFile(filepath.Join(w.cfg.DataDir, "log", "x.log"))
	if err != nil || !strings.Contains(string(text), "database system is shut down") {
		t.Errorf("%v, the collected log is:\n%s", err, text)
	}
}

func TestGuardAnswersLanguagesItDoesNotFullyKnow(t *testing.T) {
	w := newWorld(t)
	w.spawn(t)
	conn, err := net.Dial("unix", w.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	next := func() message {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if !lines.Scan() {
			t.Fatal("the guard hung up")
		}
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := next(); m.Event != eventHello || m.Version != Protocol {
		t.Errorf("greeted with %+v", m)
	}
	fmt.Fprintln(conn, `{"v":9,"id":1,"op":"sing","term":4}`)
	if m := next(); m.ID != 1 || m.Error == nil || m.Error.Code != CodeUnknownOp {
		t.Errorf("unknown operation: %+v", m)
	}
	fmt.Fprintln(conn, `{"v":9,"id":2,"op":"stop","mode":"sideways"}`)
	if m := next(); m.ID != 2 || m.Error == nil || m.Error.Code != CodeBadMode {
		t.Errorf("unknown mode: %+v", m)
	}
	fmt.Fprintln(conn, `{"v":9,"id":3,"op":"status","new_field":true}`)
	if m := next(); m.ID != 3 || m.Error != nil || m.Status.State != Running {
		t.Errorf("unknown field: %+v", m)
	}
}

func refused(t *testing.T, w *world, reason string) {
	t.Helper()
	_, err := Spawn(t.Context(), as("guard"), w.cfg)
	if err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("%v, want an error with %q", err, reason)
	}
}

func reachable(t *testing.T, w *world) bool {
	c, err := Connect(t.Context(), w.cfg.Socket)
	if err != nil {
		return false
	}
	c.Close()
	return Postmaster(w.cfg.DataDir) != 0
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("no process to signal: %d", pid)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// startRamd starts a process that spawns a guard and then just lives.
func startRamd(t *testing.T, w *world) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	command := as("ramd")
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(string(text))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// beRamd is what startRamd starts.
func beRamd() int {
	cfg, err := readConfig(os.Stdin)
	if err != nil {
		return 1
	}
	if _, err := Spawn(context.Background(), as("guard"), cfg); err != nil {
		return 1
	}
	time.Sleep(time.Minute)
	return 0
}
