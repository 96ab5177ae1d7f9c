// Package socket opens the Unix sockets through which processes of a host speak with
// each other.
package socket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrInUse says that a process listens on a path already.
var ErrInUse = errors.New("another process answers")

// Listen opens a socket that only the user uid may use; a negative uid stands for this
// process's. A socket that nobody answers is a dead process's and is replaced; one that is
// answered is an ErrInUse. The listener removes the path when it is closed.
func Listen(path string, uid int) (*net.UnixListener, error) {
	listener, err := listen(path, uid)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return listener, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	return listen(path, uid)
}

func listen(path string, uid int) (*net.UnixListener, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	err = os.Chmod(path, 0o600)
	if err == nil && uid >= 0 && uid != os.Geteuid() {
		err = os.Lchown(path, uid, -1)
	}
	if err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// answerTime is how long a process that listens may take to accept.
const answerTime = time.Second

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is not a socket; move it away", path)
	}
	conn, err := net.DialTimeout("unix", path, answerTime)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%w on %s", ErrInUse, path)
	}
	return os.Remove(path)
}
