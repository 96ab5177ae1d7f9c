package s3server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	module  = "github.com/versity/versitygw"
	version = "v1.8.0"
	// sum is the module's checksum, which the program carries.
	sum = "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc="

	buildTimeout = 15 * time.Minute
)

// program is the path of the server's program, which it builds when it is not there.
func program(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "ram-test", "versitygw-"+version)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// Several packages' tests may come here at once: one builds, the others wait.
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(dir, "versitygw")
	if check(ctx, path) == nil {
		return path, nil
	}
	if err := build(ctx, dir); err != nil {
		return "", err
	}
	return path, check(ctx, path)
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// build installs the program into a directory, as a whole or not at all.
func build(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	temp, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	install := exec.CommandContext(ctx, "go", "install", module+"/cmd/versitygw@"+version)
	install.Dir = temp
	install.Env = append(os.Environ(), "GOBIN="+temp, "CGO_ENABLED=0", "GOFLAGS=", "GOOS=", "GOARCH=")
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("go install %s@%s: %w\n%s", module, version, err, out)
	}
	return os.Rename(filepath.Join(temp, "versitygw"), filepath.Join(dir, "versitygw"))
}

// check makes sure that a program is the module at its version.
func check(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, "go", "version", "-m", path).Output()
	if err != nil {
		return fmt.Errorf("go version -m %s: %w", path, err)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0] == "mod" {
			if fields[1] == module && fields[2] == version && fields[3] == sum {
				return nil
			}
			return fmt.Errorf("%s is %s", path, strings.Join(fields[1:], " "))
		}
	}
	return fmt.Errorf("%s says no version", path)
}
