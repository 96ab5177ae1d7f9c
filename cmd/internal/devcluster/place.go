package devcluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// memory is what dev up leaves in the directory: the mark that ramctrl made it,
// and what later commands need to know.
type memory struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
	// Dir is the directory itself: a mark that was copied elsewhere marks nothing.
	Dir      string   `json:"dir"`
	Spec     string   `json:"spec"`
	Vars     []string `json:"vars,omitempty"`
	VarFiles []string `json:"var_files,omitempty"`
	Watch    bool     `json:"watch,omitempty"`
	Nodes    []member `json:"nodes"`
}

// member is a node for which dev up has started a ramd.
type member struct {
	Name    string `json:"name"`
	Address string `json:"address"` // of its API
}

const memoryFormat = 1

// place is the directory of one dev cluster: below it is a directory for each
// ramd, and nothing outside belongs to the cluster.
type place struct {
	dir string // absolute, without symbolic links
	memory
}

var errNone = errors.New("no dev cluster")

func memoryPath(dir string) string     { return filepath.Join(dir, "dev.json") }
func (p *place) data(n string) string  { return filepath.Join(p.dir, n) }
func (p *place) log(n string) string   { return filepath.Join(p.dir, n, "ramd.log") }
func (p *place) tokenFile() string     { return filepath.Join(p.dir, "admin.token") }
func (p *place) token(n string) string { return filepath.Join(p.dir, n, "admin.token") }
func (p *place) guard(n string) string { return filepath.Join(p.dir, n, "guard.sock") }

// base is where dev clusters are kept by name.
func (d *dev) base() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/ram-dev", nil
	}
	state := d.getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("where to keep the dev cluster? Use --dir: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "ram-dev"), nil
}

// directory is where the dev cluster of that name is, or would be.
func (d *dev) directory(cluster string) (string, error) {
	dir := d.dir
	if dir == "" {
		base, err := d.base()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(base, cluster)
	}
	return resolved(dir)
}

// resolved follows symbolic links as far as the path exists.
func resolved(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
		return real, err
	}
	parent, err := resolved(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// open finds the dev cluster in a directory. The error is errNone when the
// directory is not there or is empty, and another when it is somebody else's.
func open(dir string) (*place, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil, fmt.Errorf("%w in %s: ramctrl dev up SPEC makes one", errNone, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("look into the dev directory: %w", err)
	}
	text, err := os.ReadFile(memoryPath(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: run ramctrl as the user who made this dev cluster", err)
	}
	p := &place{dir: dir}
	if err != nil || json.Unmarshal(text, &p.memory) != nil || p.Dir != dir {
		return nil, fmt.Errorf("%s was not made by ramctrl dev, nothing in it is touched: choose another directory with --dir", dir)
	}
	if p.Format > memoryFormat {
		return nil, fmt.Errorf("the dev cluster in %s was made by a newer ramctrl: use that one", dir)
	}
	return p, nil
}

// create makes the directory of a new dev cluster, so that PostgreSQL's user can
// pass through to what is its own.
func create(dir string, m memory) (*place, error) {
	if err := makeAll(dir); err != nil {
		return nil, fmt.Errorf("make the dev directory: %w: choose another with --dir", err)
	}
	p := &place{dir: dir, memory: m}
	p.Format, p.Dir = memoryFormat, dir
	return p, p.remember()
}

// makeAll is os.MkdirAll with mode 0755 whatever the umask says.
func makeAll(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := makeAll(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func (p *place) remember() error {
	text, err := json.MarshalIndent(p.memory, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(memoryPath(p.dir), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("remember the dev cluster: %w", err)
	}
	return nil
}

// claim makes sure that one dev up or dev down at a time works on the directory.
func (p *place) claim() (release func(), err error) {
	dir, err := os.Open(p.dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		return nil, fmt.Errorf("another ramctrl dev is at work on %s: try again when it has ended", p.dir)
	}
	return func() { dir.Close() }, nil
}

// nodeDirs are the names of the directories of all ramds that were ever started,
// of removed nodes too.
func (p *place) nodeDirs() ([]string, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// checkReach makes sure that PostgreSQL's user, when it is another than ours, can
// pass through every directory on the way to one of ours.
func checkReach(dir, systemUser string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner, err := user.Lookup(systemUser)
	if err != nil {
		return nil // said better when PostgreSQL's installation is looked for
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && info.Mode()&0o001 == 0 && owner.Uid != fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid) {
			return fmt.Errorf("PostgreSQL runs as system user %s, who cannot pass through %s (%s): choose another directory with --dir, or chmod o+x %s",
				systemUser, dir, info.Mode(), dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// maxSocketPath is the room for the path of a unix socket.
const maxSocketPath = 107

// checkLength makes sure that the sockets below a ramd's directory have room.
func checkLength(dir string, node string, port int) error {
	longest := len(filepath.Join(dir, node, "run", fmt.Sprintf(".s.PGSQL.%d", port)))
	if longest <= maxSocketPath {
		return nil
	}
	return fmt.Errorf("%s is %d characters too long for the unix sockets below it: choose a shorter directory with --dir", dir, longest-maxSocketPath)
}

// find is the one dev cluster that arguments and --dir mean.
func (d *dev) find(args []string) (*place, error) {
	if d.dir != "" {
		dir, err := resolved(d.dir)
		if err != nil {
			return nil, err
		}
		return open(dir)
	}
	places, err := d.all(args)
	switch {
	case err != nil:
		return nil, err
	case len(places) == 1:
		return places[0], nil
	case len(places) > 1:
		var specs []string
		for _, p := range places {
			specs = append(specs, near(p.Spec))
		}
		return nil, fmt.Errorf("there are %d dev clusters: name the spec of the one that is meant (%s)", len(places), strings.Join(specs, ", "))
	case len(args) > 0:
		return nil, fmt.Errorf("%w was started from %s: start it with %s, or name its directory with --dir", errNone, args[0], d.command("dev", "up", args[0]))
	}
	return nil, fmt.Errorf("%w was started: start one with ramctrl dev up SPEC, or name its directory with --dir", errNone)
}

// all are the dev clusters in the usual place that were started from the spec
// that is named (the cluster's name does too), or all of them.
func (d *dev) all(args []string) ([]*place, error) {
	base, err := d.base()
	if err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob(filepath.Join(base, "*", "dev.json"))
	if err != nil {
		return nil, err
	}
	var found []*place
	for _, path := range dirs {
		dir, err := resolved(filepath.Dir(path))
		if err != nil {
			continue
		}
		p, err := open(dir)
		if err != nil {
			return nil, err
		}
		if len(args) == 0 || args[0] == p.Cluster || sameFile(args[0], p.Spec) {
			found = append(found, p)
		}
	}
	return found, nil
}

// sameFile compares by what the paths lead to, and by name when one is gone.
func sameFile(a, b string) bool {
	first, errA := os.Stat(a)
	second, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(first, second)
	}
	path, err := filepath.Abs(a)
	return err == nil && path == b
}
