package guard

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg"
)

// Process is a PostgreSQL process that was found by its working directory.
type Process struct {
	PID    int
	Parent int
}

// Processes lists the PostgreSQL processes that work in a data directory,
// whoever started them. PostgreSQL keeps the data directory as working directory
// in all its processes, also in those that have lost their postmaster. It reads
// all of /proc: some milliseconds.
func Processes(dataDir string) ([]Process, error) {
	dir, err := os.Stat(dataDir)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var found []Process
	for _, pid := range processes() {
		if p, ok := worksIn(pid, dir); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

func worksIn(pid int, dir os.FileInfo) (Process, bool) {
	stat, ok := readStat(pid)
	if !ok || stat.state == 'Z' || (stat.command != "postgres" && stat.command != "postmaster") {
		return Process{}, false
	}
	cwd, err := workingDir(pid)
	if err != nil || !os.SameFile(cwd, dir) {
		return Process{}, false
	}
	return Process{PID: pid, Parent: stat.parent}, true
}

// workingDir looks at the working directory of a process. Root in a container
// commonly lacks CAP_SYS_PTRACE and may not look at that of another user; that user
// may, so it then looks with that user's file system identity.
func workingDir(pid int) (os.FileInfo, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/cwd"
	info, err := os.Stat(path)
	if !os.IsPermission(err) || os.Geteuid() != 0 {
		return info, err
	}
	owner, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return nil, err
	}
	user := owner.Sys().(*syscall.Stat_t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, and its identity with it.
		runtime.LockOSThread()
		if err = unix.Setfsgid(int(user.Gid)); err != nil {
			return
		}
		if err = unix.Setfsuid(int(user.Uid)); err != nil {
			return
		}
		info, err = os.Stat(path)
	}()
	<-done
	return info, err
}

// Postmaster is the postmaster that runs on a data directory, whoever started
// it, or zero. Processes that have lost their postmaster do not count.
func Postmaster(dataDir string) int {
	dir, err := os.Stat(dataDir)
	if err != nil {
		return 0
	}
	pid := readLock(filepath.Join(dataDir, "postmaster.pid")).PID
	if pid == 0 {
		return 0
	}
	if _, ok := worksIn(pid, dir); !ok {
		return 0
	}
	return pid
}

// readLock reads one of PostgreSQL's lock files, postmaster.pid or that of a socket,
// which have the same first lines. It is the zero value when there is none.
func readLock(path string) pg.PostmasterPID {
	text, err := os.ReadFile(path)
	if err != nil {
		return pg.PostmasterPID{}
	}
	lock, err := pg.ParsePostmasterPID(string(text))
	if err != nil {
		return pg.PostmasterPID{}
	}
	return lock
}

// removeStaleLocks removes lock files that PostgreSQL would believe though their
// postmaster is gone: PostgreSQL only asks whether the number is taken, and that may
// be by a zombie that nobody has reaped yet, or by a stranger after a restart of the
// machine or container. The caller holds the lock of the data directory and has
// seen that no process works in it.
func removeStaleLocks(dataDir string) error {
	path := filepath.Join(dataDir, "postmaster.pid")
	lock := readLock(path)
	if lock.PID == 0 || !lingers(lock.PID) {
		return nil
	}
	// The socket's lock goes first: where it is stands in the other.
	socket := filepath.Join(lock.SocketDir, ".s.PGSQL."+strconv.Itoa(lock.Port)+".lock")
	if lock.SocketDir != "" && readLock(socket).PID == lock.PID {
		if err := os.Remove(socket); err != nil {
			return err
		}
	}
	return os.Remove(path)
}

// lingers reports whether a process number is taken, after giving a zombie a moment
// to be reaped.
func lingers(pid int) bool {
	for range 50 {
		if syscall.Kill(pid, 0) != nil {
			return false
		}
		if stat, ok := readStat(pid); ok && stat.state != 'Z' {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// KillLeftovers kills every PostgreSQL process that works in a data directory and
// has no guard: the remains of a dead postmaster, or one that somebody started by
// hand. It returns when none is left, or when ctx ends.
func KillLeftovers(ctx context.Context, dataDir string) error {
	for {
		found, err := Processes(dataDir)
		if err != nil {
			return fmt.Errorf("look for processes of %s: %w", dataDir, err)
		}
		if len(found) == 0 {
			return nil
		}
		killTrees(dataDir, found)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes of %s are still there, for example %d: %w; they may hang in the kernel on a broken disk",
				len(found), dataDir, found[0].PID, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// killTrees stops the processes at the top, so that they start no more, and
// kills from below.
func killTrees(dataDir string, found []Process) {
	member := make(map[int]bool, len(found))
	for _, p := range found {
		member[p.PID] = true
	}
	var tops []int
	for _, p := range found {
		if !member[p.Parent] {
			tops = append(tops, p.PID)
			signalIn(dataDir, p.PID, unix.SIGSTOP)
		}
	}
	for _, p := range found {
		if member[p.Parent] {
			signalIn(dataDir, p.PID, unix.SIGKILL)
		}
	}
	for _, pid := range tops {
		signalIn(dataDir, pid, unix.SIGKILL)
	}
}

// signalIn signals a process that is not our child, after making sure through a
// pidfd that the number still belongs to a process of this data directory.
// Kernels before 5.3 have no pidfds: there the check alone has to do.
func signalIn(dataDir string, pid int, sig syscall.Signal) {
	fd, openErr := unix.PidfdOpen(pid, 0)
	if openErr == nil {
		defer unix.Close(fd)
	}
	dir, err := os.Stat(dataDir)
	if err != nil {
		return
	}
	if _, ok := worksIn(pid, dir); !ok {
		return
	}
	if openErr == nil {
		_ = unix.PidfdSendSignal(fd, sig, nil, 0)
		return
	}
	_ = syscall.Kill(pid, sig)
}

// Signal sends a signal to a PostgreSQL process that works in a data directory, such
// as its walreceiver. A process that is not there any more is no error, and neither
// a number that belongs to another by now: nobody else is signalled.
func Signal(dataDir string, pid int, sig syscall.Signal) { signalIn(dataDir, pid, sig) }
