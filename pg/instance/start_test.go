package instance

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	for name, test := range map[string]struct {
		settings  []string
		args      map[string]string
		prepare   func(t *testing.T, n *node)
		reason    error
		parameter string
		says      string
	}{
		"unknown parameter in a file":      {settings: []string{"nonsense = 1"}, reason: ErrConfiguration, parameter: "nonsense", says: "ram.conf"},
		"invalid value in a file":          {settings: []string{"work_mem = 'much'"}, reason: ErrConfiguration, parameter: "work_mem", says: "much"},
		"value out of range":               {settings: []string{"max_connections = 99999999"}, reason: ErrConfiguration, parameter: "max_connections"},
		"unknown parameter on the line":    {args: map[string]string{"nonsense": "1"}, reason: ErrConfiguration, parameter: "nonsense"},
		"settings that do not go together": {settings: []string{"wal_level = minimal", "max_wal_senders = 5"}, reason: ErrConfiguration, says: "WAL streaming"},
		"broken hba": {prepare: func(t *testing.T, n *node) {
			f := files()
			f.HBA = "local all nonsense\n"
			if err := n.WriteConfig(f); err != nil {
				t.Fatal(err)
			}
		}, reason: ErrConfiguration, says: "pg_hba.conf"},
		"syntax error":        {settings: []string{"this is not it"}, reason: ErrConfiguration, says: "syntax error"},
		"address of nobody":   {settings: []string{"listen_addresses = '192.0.2.1'"}, reason: ErrPortInUse, says: "could not"},
		"too much memory":     {settings: []string{"shared_buffers = '8000GB'"}, reason: ErrMemory},
		"open data directory": {prepare: func(t *testing.T, n *node) { chmod(t, n.DataDir(), 0o777) }, reason: ErrPermissions, says: "0750"},
		"lock file of another postmaster": {prepare: func(t *testing.T, n *node) {
			// A socket lock of a process that lives: this one.
			lock := n.serverSocket() + ".lock"
			if err := n.prepareState(); err != nil {
				t.Fatal(err)
			}
			pid := ordinaryProcess(t, n)
			if err := os.WriteFile(lock, []byte(strconv.Itoa(pid)+"\n/x\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, reason: ErrLockFile, says: "lock file"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newPrimary(t, test.settings...)
			if test.prepare != nil {
				test.prepare(t, n)
			}
			err := n.Start(t.Context(), StartOptions{Args: test.args})
			wantError(t, err, test.reason, test.says, n.LogFile())
			var failure *StartError
			if !errors.As(err, &failure) || failure.Parameter != test.parameter {
				t.Errorf("%+v; want parameter %q", failure, test.parameter)
			}
			if got := probe(t, n).State; got != pg.ServerStopped {
				t.Errorf("afterwards it is %s", got)
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// ordinaryProcess is a living process of PostgreSQL's user.
func ordinaryProcess(t *testing.T, n *node) int {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: n.user.credential()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestErrorOfAnOldStartIsNotShownAgain(t *testing.T) {
	n := newPrimary(t, "nonsense = 1")
	if err := n.Start(t.Context(), StartOptions{}); err == nil {
		t.Fatal("it started")
	}
	if err := n.WriteConfig(files("work_mem = 'much'")); err != nil {
		t.Fatal(err)
	}
	err := n.Start(t.Context(), StartOptions{})
	wantError(t, err, ErrConfiguration, "work_mem")
	if strings.Contains(err.Error(), "nonsense") {
		t.Errorf("%v", err)
	}
}

func TestOccupiedPortIsFoundBeforeTheStart(t *testing.T) {
	n := newPrimary(t)
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(n.cfg.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = n.Start(t.Context(), StartOptions{})
	wantError(t, err, ErrPortInUse, l.Addr().String(), "process "+strconv.Itoa(os.Getpid())+", ", "ports.postgres")
}

func TestPlaceWithoutAServerToStart(t *testing.T) {
	wantError(t, newNode(t, "a").Start(t.Context(), StartOptions{}), nil, "there is no data directory")
}

func TestServerThatTakesLongIsLeftToStart(t *testing.T) {
	a := startPrimary(t)
	b := newNode(t, "b").clone(t, a)
	a.stop(t)
	// Without a source, and told to wait for more WAL than it has, a standby does not
	// become consistent: an unreadable backup_label end is simulated by removing WAL.
	segments, _ := filepath.Glob(filepath.Join(b.DataDir(), "pg_wal", "0000*"))
	for _, segment := range segments {
		if err := os.Remove(segment); err != nil {
			t.Fatal(err)
		}
	}
	err := b.Start(t.Context(), StartOptions{Timeout: time.Second})
	wantError(t, err, ErrStillStarting, b.LogFile())
	if got := probe(t, b); got.State != pg.ServerStarting || !got.Guarded {
		t.Errorf("it is %s, guarded %v", got.State, got.Guarded)
	}
	b.stop(t)
}

func TestStoppingAndWhatIsKnownAfterwards(t *testing.T) {
	n := newPrimary(t).start(t)
	exited := n.Exited()
	wantError(t, n.Start(t.Context(), StartOptions{}), ErrRunning)
	n.stop(t)
	waitClosed(t, "the event", exited)
	if exit, err := n.Exit(); err != nil || !exit.Clean() {
		t.Errorf("%+v, %v", exit, err)
	}
	if got := inspect(t, n).ControlState; got != "shut down" {
		t.Errorf("control data says %q", got)
	}
	t.Run("what is stopped can be stopped", func(t *testing.T) {
		n.stop(t)
		if err := n.KillTree(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("another ramd reads how it ended", func(t *testing.T) {
		if exit, err := open(t, n.cfg).Exit(); err != nil || !exit.Clean() {
			t.Errorf("%+v, %v", exit, err)
		}
	})
	t.Run("killed", func(t *testing.T) {
		n.start(t)
		probe(t, n)
		if err := n.KillTree(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := processes(t, n); left != 0 {
			t.Errorf("%d processes are left", left)
		}
		if got := probe(t, n).State; got != pg.ServerStopped {
			t.Errorf("it is %s", got)
		}
		if got := inspect(t, n).ControlState; got != "in production" {
			t.Errorf("control data says %q", got)
		}
	})
}

func TestPostmasterThatDiesIsAnEvent(t *testing.T) {
	n := newPrimary(t).start(t)
	kill(t, probe(t, n).PID, syscall.SIGKILL)
	waitClosed(t, "the event", n.Exited())
	if exit, err := n.Exit(); err != nil || exit.Signal != "killed" || exit.Requested != "" {
		t.Errorf("%+v, %v", exit, err)
	}
	n.start(t)
	if got := probe(t, n).State; got != pg.ServerRunning {
		t.Errorf("it is %s", got)
	}
}

func TestServerOutlivesRamdAndIsFoundAgain(t *testing.T) {
	n := newPrimary(t)
	cmd := ramd(t, errand{Config: n.plain(), Start: true})
	waitFor(t, "a server", func() bool { return probe(t, n).State == pg.ServerRunning })
	pid := probe(t, n).PID
	kill(t, cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait()

	next := &node{Instance: open(t, n.cfg), dir: n.dir}
	if err := next.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := probe(t, next); got.State != pg.ServerRunning || got.PID != pid || !got.Guarded {
		t.Errorf("%s, process %d, guarded %v; want process %d", got.State, got.PID, got.Guarded, pid)
	}
	next.stop(t)
	waitClosed(t, "the event at the first instance", n.Exited())
}

func TestLostGuard(t *testing.T) {
	n := newPrimary(t).start(t)
	kill(t, n.guarded().Last().GuardPID, syscall.SIGKILL)
	waitClosed(t, "the event", n.Exited())
	if _, err := n.Exit(); !errors.Is(err, guard.ErrLost) {
		t.Errorf("%v, want ErrLost", err)
	}
	waitFor(t, "the end of the server", func() bool { return probe(t, n).State == pg.ServerStopped })
	n.start(t)
}

func TestRemainsOfADeadPostmasterAreCleared(t *testing.T) {
	n := newPrimary(t).start(t)
	n.sql(t, "CREATE TABLE public.marks (n int)")
	busy := make(chan struct{})
	go func() {
		defer close(busy)
		conn, err := n.connect(context.Background())
		if err == nil {
			_, _ = conn.Exec(context.Background(), "DO $$ BEGIN LOOP INSERT INTO public.marks VALUES (1); COMMIT; END LOOP; END $$")
		}
	}()
	waitFor(t, "a busy session", func() bool { return n.sql(t, "SELECT count(*) > 10 FROM public.marks") == "true" })
	status := n.guarded().Last()
	kill(t, status.GuardPID, syscall.SIGSTOP) // lest it does it
	kill(t, status.PID, syscall.SIGKILL)
	kill(t, status.GuardPID, syscall.SIGKILL)
	waitClosed(t, "the guard's end", n.Exited())
	if processes(t, n) == 0 {
		t.Fatal("nothing is left, so this test shows nothing")
	}
	waitFor(t, "a stopped server", func() bool { return probe(t, n).State == pg.ServerStopped })
	if left := processes(t, n); left != 0 {
		t.Errorf("%d processes are left", left)
	}
	waitClosed(t, "the busy session's end", busy)
}

func TestServerWithoutAGuard(t *testing.T) {
	n := newPrimary(t)
	if err := n.prepareState(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(n.binaries.path("postgres"), "-D", n.DataDir(),
		"-c", "unix_socket_directories="+n.SocketDir(), "-c", "port="+strconv.Itoa(n.cfg.Port))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: n.user.credential()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	waitFor(t, "the server", func() bool { return probe(t, n).State == pg.ServerRunning })
	if got := probe(t, n); got.Guarded || got.PID != cmd.Process.Pid {
		t.Errorf("guarded %v, process %d; want %d", got.Guarded, got.PID, cmd.Process.Pid)
	}
	if n.Exited() != nil {
		t.Error("there is an event to wait for")
	}
	wantError(t, n.Start(t.Context(), StartOptions{}), ErrRunning, strconv.Itoa(cmd.Process.Pid))
	if err := n.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	n.stop(t)
	waitClosed(t, "its end", ended)
	if !cmd.ProcessState.Success() {
		t.Errorf("it ended with %s", cmd.ProcessState)
	}
}

func TestStopEscalates(t *testing.T) {
	n := newPrimary(t).start(t)
	conn, err := n.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := n.Stop(t.Context(), guard.Smart, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if exit, err := n.Exit(); err != nil || exit.Requested != string(guard.Immediate) {
		t.Errorf("%+v, %v", exit, err)
	}
}
