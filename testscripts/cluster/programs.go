package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
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

// shared is what all clusters of a test binary have in common, made when the
// first one asks for it.
var shared struct {
	once    sync.Once
	err     error
	dir     string // holds ramd and ramctrl; empty before they are built
	release func() // gives up the lock on dir
	turn    chan struct{}
}

func prepare() error {
	shared.once.Do(func() {
		most, err := strconv.Atoi(os.Getenv("RAM_TEST_CLUSTERS"))
		if err != nil || most < 1 {
			most = 3
		}
		shared.turn = make(chan struct{}, most)
		clearLeftovers()
		shared.err = build()
	})
	return shared.err
}

// build makes ramd and ramctrl with the go command of the tests, or takes those that
// somebody has made.
func build() error {
	dir, err := os.MkdirTemp("", dirPrefix+"bin-")
	if err != nil {
		return err
	}
	if shared.release, err = claim(dir); err != nil {
		return err
	}
	shared.dir = dir
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

// postgres finds the newest PostgreSQL that is installed.
func postgres() (major int, err error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	var majors []int
	for _, dir := range dirs {
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil {
			majors = append(majors, n)
		}
	}
	if len(majors) > 0 {
		return slices.Max(majors), nil
	}
	out, err := exec.Command("postgres", "--version").Output()
	if err != nil {
		return 0, errors.New("these tests need PostgreSQL: apt-get install postgresql-15")
	}
	fields := strings.Fields(string(out)) // postgres (PostgreSQL) 15.8
	if len(fields) < 3 {
		return 0, fmt.Errorf("postgres --version says %q", out)
	}
	version, _, _ := strings.Cut(fields[2], ".")
	return strconv.Atoi(version)
}
