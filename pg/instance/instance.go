package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg/guard"
)

// Config says which server an Instance is about.
type Config struct {
	// Cluster and Name (of the node) mark the data directory.
	Cluster string
	Name    string
	// Major is PostgreSQL's major version. BinDir may name the directory of its
	// programs; when empty it is searched for, see Find.
	Major  int
	BinDir string
	// User is the system user that PostgreSQL runs as when ramd runs as root;
	// empty means "postgres". A ramd that is not root runs PostgreSQL as itself.
	User string
	// DataDir is PostgreSQL's data directory.
	DataDir string
	// StateDir is ramd's own directory. Sockets, logs and password files are below.
	StateDir string
	// Host and Port are where clients and other nodes reach the server.
	Host string
	Port int
	// SuperuserPassword is that of the role postgres.
	SuperuserPassword string
	// GuardCommand starts a guard: a program and arguments that end up in guard.Main.
	GuardCommand []string
	// Env are further variables, of the form name=value, of all programs that are
	// started: commands of ramd that PostgreSQL runs inherit them.
	Env []string
	// Version is ramd's, for the guard's status.
	Version string
	Logger  zerolog.Logger
}

// Instance is one local server. Its methods may be called concurrently; those that
// make or move the data directory exclude each other.
type Instance struct {
	cfg      Config
	binaries Binaries
	user     systemUser
	logger   zerolog.Logger

	// building is held while the data directory is made, moved or put in place.
	building  sync.Mutex
	buildLock *os.File // keeps other processes from building; nil while there is no build

	// verifying is held while a backup is tried out.
	verifying sync.Mutex

	mu      sync.Mutex
	server  *guard.Client // nil while no guard is known
	control controlCache
	frozen  frozenMark
	retain  bool // what is replaced is kept for good; guarded by building

	prober prober

	// step is called with the name of each step that puts a data directory in place,
	// before it is taken. Tests end the process there.
	step func(name string)
}

// Superuser is the role that ramd uses for itself.
const Superuser = "postgres"

// Open resolves the programs and the system user and checks what can be checked
// without a change. It touches nothing.
func Open(cfg Config) (*Instance, error) {
	if cfg.Port <= 0 || cfg.Port > 65535 {
		return nil, fmt.Errorf("port %d of PostgreSQL is not between 1 and 65535", cfg.Port)
	}
	var err error
	if cfg.StateDir, err = filepath.Abs(cfg.StateDir); err != nil {
		return nil, err
	}
	if cfg.DataDir, err = resolve(cfg.DataDir); err != nil {
		return nil, err
	}
	i := &Instance{cfg: cfg, logger: cfg.Logger, step: func(string) {}}
	i.prober.busy = make(chan struct{}, 1)
	if err := CheckStateDir(cfg.StateDir, cfg.Port); err != nil {
		return nil, err
	}
	if i.user, err = lookUpUser(cfg.User); err != nil {
		return nil, err
	}
	if i.binaries, err = Find(cfg.BinDir, cfg.Major); err != nil {
		return nil, err
	}
	return i, nil
}

// resolve follows symbolic links, as far as the path exists: what is renamed later
// must be the directory, not a link to it.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("no data directory is given; set data_dir")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("data directory %s: %w; see what is on the way to it, or change data_dir", path, err)
	}
	if err == nil {
		return real, nil
	}
	if parent := filepath.Dir(path); parent != path {
		if parent, err = resolve(parent); err != nil {
			return "", err
		}
		return filepath.Join(parent, filepath.Base(path)), nil
	}
	return path, nil
}

// maxSocketPath is the room in sockaddr_un; PostgreSQL has the same limit.
const maxSocketPath = 107

// CheckStateDir refuses a directory of ramd's whose path leaves no room for the unix
// sockets in it.
func CheckStateDir(dir string, port int) error {
	i := Instance{cfg: Config{StateDir: dir, Port: port}}
	longest := max(len(i.serverSocket()), len(i.guardSocket()))
	if longest <= maxSocketPath {
		return nil
	}
	return fmt.Errorf("ramd's directory %s is %d bytes too long for the unix sockets in it; choose a shorter one (--data-dir)",
		dir, longest-maxSocketPath)
}

// Binaries is the installation that the instance uses.
func (i *Instance) Binaries() Binaries { return i.binaries }

// User is the system user that PostgreSQL runs as.
func (i *Instance) User() string { return i.user.name }

// DataDir is the data directory with symbolic links resolved.
func (i *Instance) DataDir() string { return i.cfg.DataDir }

// SocketDir is the directory of the server's unix socket, which only ramd and
// PostgreSQL's own user may enter.
func (i *Instance) SocketDir() string { return filepath.Join(i.cfg.StateDir, "run") }

// LogFile is where the postmaster's output is appended to.
func (i *Instance) LogFile() string { return filepath.Join(i.cfg.StateDir, "postgresql.log") }

func (i *Instance) serverSocket() string {
	return filepath.Join(i.SocketDir(), ".s.PGSQL."+strconv.Itoa(i.cfg.Port))
}
func (i *Instance) guardSocket() string { return filepath.Join(i.cfg.StateDir, "guard.sock") }
func (i *Instance) exitFile() string    { return filepath.Join(i.cfg.StateDir, "guard.exit") }
func (i *Instance) guardLog() string    { return filepath.Join(i.cfg.StateDir, "guard.log") }

// prepareState makes the directories below StateDir. PostgreSQL's user gets one of
// its own, and the right to pass through StateDir to it, no more.
func (i *Instance) prepareState() error {
	if err := os.MkdirAll(i.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("make ramd's directory: %w", err)
	}
	if i.user.change {
		if err := i.letThrough(i.cfg.StateDir); err != nil {
			return fmt.Errorf("let system user %s through ramd's directory: %w", i.user.name, err)
		}
	}
	if err := i.user.makeDir(i.SocketDir()); err != nil {
		return fmt.Errorf("make the directory of PostgreSQL's socket: %w", err)
	}
	return i.user.checkReach(i.SocketDir())
}

// letThrough lets the user's group search a directory of ours, unless all may.
func (i *Instance) letThrough(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil || i.user.mayEnter(info) {
		return err
	}
	if err := dir.Chown(-1, int(i.user.gid)); err != nil {
		return err
	}
	// The group may have had more rights than its new members should get.
	return dir.Chmod(info.Mode().Perm()&^0o070 | 0o010)
}
