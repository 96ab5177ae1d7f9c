package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Main runs a package's tests and removes what they shared. TestMain exits with
// what it returns.
func Main(m *testing.M) int {
	defer func() {
		if shared.dir != "" {
			os.RemoveAll(shared.dir)
			shared.release()
		}
	}()
	return m.Run()
}

// shared is what all clusters of a test binary have in common, made when the first
// one asks for it.
var shared struct {
	once    sync.Once
	err     error
	dir     string // holds ramd and ramctrl; empty before they are built
	release func() // gives up the lock on dir
}

func prepare() error {
	shared.once.Do(func() {
		clearLeftovers()
		shared.err = build()
	})
	return shared.err
}

// build makes ramd and ramctrl with the go command of the tests, or takes those that
// somebody has made.
func build() error {
	dir, release, err := makeDir("bin-")
	if err != nil {
		return err
	}
	shared.dir, shared.release = dir, release
	if made := os.Getenv("RAM_TEST_PROGRAMS"); made != "" {
		return os.CopyFS(dir, os.DirFS(made))
	}
	args := []string{"build", "-o", dir + "/"}
	if raceEnabled {
		args = append(args, "-race")
	}
	args = append(args, modulePath+"/cmd/ramd", modulePath+"/cmd/ramctrl")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

const modulePath = "github.com/ramhq/ram"

// dirPrefix begins the names of all directories that this package makes. It is
// short, for the paths of sockets are.
const dirPrefix = "ramf-"

// makeDir makes a directory that is locked until release is called or this process
// ends, and that PostgreSQL's user can pass through.
func makeDir(kind string) (dir string, release func(), err error) {
	if dir, err = os.MkdirTemp("", dirPrefix+kind); err != nil {
		return "", nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return "", nil, err
	}
	return dir, func() { lock.Close() }, nil
}

// keptFile marks directories that are kept for somebody to look at.
const keptFile = "kept"

// clearLeftovers ends what test runs that were killed have left, and removes their
// directories.
func clearLeftovers() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue // somebody else's, or just being made
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			clearLeftover(dir)
		}
		lock.Close()
	}
}

func clearLeftover(dir string) {
	if _, err := os.Stat(filepath.Join(dir, keptFile)); err == nil {
		return
	}
	if killIn(func() []int { return leftIn(dir) }) == nil {
		unmountBelow(dir)
		os.RemoveAll(dir)
	}
}
