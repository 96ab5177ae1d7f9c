package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
)

// Binaries is one installation of PostgreSQL's server programs.
type Binaries struct {
	Dir string
	// Version is the full version, such as 15.18.
	Version string
	Major   int
}

// ErrNoBinaries is returned when no usable installation was found.
var ErrNoBinaries = errors.New("PostgreSQL's server programs were not found")

// programs are those that ram runs. All belong to the server package of every
// distribution.
var programs = []string{"postgres", "initdb", "pg_basebackup", "pg_controldata", "pg_rewind"}

// Find looks for PostgreSQL's server programs of a major version: in binDir alone
// when it is given, otherwise where distributions put them, then on PATH. The
// error names every place, what is wrong with it, and what to install.
func Find(binDir string, major int) (Binaries, error) {
	return find(searchPath(binDir, major), major)
}

func searchPath(binDir string, major int) []string {
	if binDir != "" {
		return []string{binDir}
	}
	n := strconv.Itoa(major)
	dirs := []string{
		"/usr/lib/postgresql/" + n + "/bin",
		"/usr/pgsql-" + n + "/bin",
		"/usr/local/pgsql/bin",
		"/opt/homebrew/opt/postgresql@" + n + "/bin",
		"/usr/local/opt/postgresql@" + n + "/bin",
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

func find(dirs []string, major int) (Binaries, error) {
	var looked []string
	for _, dir := range dirs {
		found, err := look(dir, major)
		if err == nil {
			return found, nil
		}
		looked = append(looked, fmt.Sprintf("%s (%v)", dir, err))
	}
	return Binaries{}, fmt.Errorf("%w, version %d; looked in %s; install them (apt-get install postgresql-%d, or dnf install postgresql%d-server) or set bin_dir",
		ErrNoBinaries, major, strings.Join(looked, ", "), major, major)
}

// look checks one directory.
func look(dir string, major int) (Binaries, error) {
	if _, err := os.Stat(dir); err != nil {
		return Binaries{}, errors.New("not there")
	}
	for _, name := range programs {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return Binaries{}, fmt.Errorf("no %s", name)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("postgres --version: %w", err)
	}
	version, err := pg.ParseVersion(string(out))
	if err != nil {
		return Binaries{}, err
	}
	if version.Major != major {
		return Binaries{}, fmt.Errorf("version %s", version)
	}
	return Binaries{Dir: dir, Version: version.String(), Major: major}, nil
}

// path is the absolute path of one of the programs.
func (b Binaries) path(program string) string { return filepath.Join(b.Dir, program) }
