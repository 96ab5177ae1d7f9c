package guard

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// server is the postmaster and everything that descends from it.
//
// Invariant: a signal is only sent while mu is held and pid is not zero, and pid
// becomes zero, under mu, before the kernel may give the number to another
// process. So a signal never reaches a stranger.
type server struct {
	// gone is closed by run when no process of the server is left.
	gone chan struct{}

	mu      sync.Mutex
	pid     int // zero once the postmaster has been reaped
	status  syscall.WaitStatus
	endedAt time.Time
	cleared int
}

// started is how the attempt to start the postmaster went.
type started struct {
	pid int
	err error
}

func newServer() *server { return &server{gone: make(chan struct{})} }

// run starts the postmaster, tells started how that went, and then waits for
// every process of the server. It returns when none is left.
//
// The kernel sends the parent-death signal when the thread that forked ends, so
// run keeps its thread for itself until the last child is gone.
func (s *server) run(cfg Config, tell chan<- started) {
	runtime.LockOSThread()
	defer close(s.gone)
	pid, err := s.start(cfg)
	tell <- started{pid, err}
	if err != nil {
		return
	}
	for {
		// Look without reaping: the number must stay taken until mu is held.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // ECHILD: no child is left, and all orphans are our children
			return
		}
		s.reap()
	}
}

// start forks the postmaster in a session of its own.
func (s *server) start(cfg Config) (pid int, err error) {
	log, err := os.OpenFile(cfg.ServerLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return 0, fmt.Errorf("open the server log: %w", err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	attributes := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT}
	if c := cfg.Credential; c != nil {
		attributes.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	pid, err = syscall.ForkExec(cfg.Binary, append([]string{cfg.Binary}, cfg.Args...), &syscall.ProcAttr{
		Dir:   cfg.DataDir,
		Env:   cfg.Env,
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   attributes,
	})
	if err != nil {
		return 0, fmt.Errorf("execute %s in %s: %w", cfg.Binary, cfg.DataDir, err)
	}
	s.mu.Lock()
	s.pid = pid
	s.mu.Unlock()
	return pid, nil
}

// logGrace is how long PostgreSQL's log collector may go on to write what is in
// its pipe. It ends by itself when the last writer is gone, and touches no data.
const logGrace = 500 * time.Millisecond

// reap collects the children that have ended. Once the postmaster is among them,
// it kills those that it left behind; they have become children of the guard,
// which is a subreaper. A child may fork while it is being killed; its child
// then becomes ours as well, and the next call finds it.
func (s *server) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			break
		}
		switch {
		case pid == s.pid:
			s.pid, s.status, s.endedAt = 0, status, time.Now()
			time.AfterFunc(logGrace, s.killRest)
		case s.pid == 0:
			s.cleared++
		}
	}
	if s.pid == 0 {
		killAll(slices.DeleteFunc(childrenOf(os.Getpid()), isLogCollector))
	}
}

// killRest kills what is left once the log collector has had its time too.
func (s *server) killRest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	killAll(childrenOf(os.Getpid()))
}

// signal sends one signal to the postmaster.
func (s *server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return os.ErrProcessDone
	}
	return syscall.Kill(s.pid, sig)
}

// kill ends the whole tree at once: the postmaster is stopped first so that it
// neither forks nor reaps, then its children, then itself. What they have forked
// in turn is reap's.
func (s *server) kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
		return err
	}
	killAll(childrenOf(s.pid))
	return syscall.Kill(s.pid, syscall.SIGKILL)
}

// exit is how the postmaster ended; nil while it is there.
func (s *server) exit() *Exit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endedAt.IsZero() {
		return nil
	}
	e := &Exit{At: s.endedAt, Cleared: s.cleared}
	if s.status.Signaled() {
		e.Signal, e.Core = s.status.Signal().String(), s.status.CoreDump()
	} else {
		e.Code = s.status.ExitStatus()
	}
	return e
}
