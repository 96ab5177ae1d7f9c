package faults

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace without a name. It ends when close was called
// and no process is left in it.
type namespace struct {
	file *os.File
	// id is what /proc/PID/ns/net of the processes in it reads.
	id string
}

// newNamespace makes a namespace with nothing in it but the loopback device.
func newNamespace() (*namespace, error) {
	var n *namespace
	err := visit(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		id, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			file.Close()
			return err
		}
		n = &namespace{file, id}
		return bringUp("lo")
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return n, nil
}

// do calls f on a thread that is in the namespace: sockets that f opens and processes
// that it starts are there, goroutines that it starts are not.
func (n *namespace) do(f func() error) error {
	return visit(func() error { return unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET) }, f)
}

func (n *namespace) close() { n.file.Close() }

// visit enters another namespace with this thread, calls f and comes back.
func visit(enter, f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := enter(); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		// A thread that cannot come back stays locked, so that it serves nobody else.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}
