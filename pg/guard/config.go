package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// maxSocketPath is how long the path of a unix socket may be: sun_path without
// its terminating zero.
const maxSocketPath = 107

// Config is everything that a guard needs to start a postmaster. It travels over
// the guard's standard input, so it never shows in the process list.
type Config struct {
	// Version is that of the ramd that starts the guard, for status only.
	Version string `json:"version,omitempty"`
	// Binary is the absolute path of the postgres program; Args follow it.
	Binary string   `json:"binary"`
	Args   []string `json:"args,omitempty"`
	// Env is the postmaster's whole environment.
	Env []string `json:"env,omitempty"`
	// DataDir is the data directory: working directory of the postmaster, and
	// what the guard locks.
	DataDir string `json:"data_dir"`
	// Credential is whom the postmaster runs as; nil is the guard's own user.
	Credential *Credential `json:"credential,omitempty"`
	// Socket is where the guard listens, ExitFile where it leaves the last word
	// about the postmaster, ServerLog what the postmaster's output is appended to.
	Socket    string `json:"socket"`
	ExitFile  string `json:"exit_file"`
	ServerLog string `json:"server_log"`
	// GuardLog is what the guard's own few lines are appended to.
	GuardLog string `json:"guard_log"`
	// StopTimeout is how long a fast stop may take, when the guard itself is told
	// to end, before it becomes an immediate one. Zero means a minute.
	StopTimeout time.Duration `json:"stop_timeout,omitempty"`
	// Lease is how long the server may run, from the call of Spawn on, before the
	// first renewal; Term is the primaryship that it is for. Zero is no lease until
	// the first renewal: a standby has none.
	Lease time.Duration `json:"lease,omitempty"`
	Term  uint64        `json:"term,omitempty"`
	// Watchdog is the path of a kernel watchdog, such as /dev/watchdog, that resets
	// the machine when the guard of a leased server does not run; empty for none. One
	// that cannot be opened is only warned of.
	Watchdog string `json:"watchdog,omitempty"`
	// SpawnedNS is set by Spawn: when it was called, on CLOCK_BOOTTIME.
	SpawnedNS int64 `json:"spawned_ns,omitempty"`
}

// Credential is a system user with its groups.
type Credential struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

const defaultStopTimeout = time.Minute

func readConfig(r io.Reader) (Config, error) {
	var cfg Config
	if err := json.NewDecoder(r).Decode(&cfg); err != nil {
		return Config{}, fmt.Errorf("read the guard's configuration from standard input: %w; a guard is started by ramd, not by hand", err)
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = defaultStopTimeout
	}
	return cfg, cfg.check()
}

func (cfg Config) check() error {
	for name, path := range map[string]string{
		"binary": cfg.Binary, "data directory": cfg.DataDir, "socket": cfg.Socket,
		"exit file": cfg.ExitFile, "server log": cfg.ServerLog, "guard log": cfg.GuardLog,
	} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("guard: the %s %q is not an absolute path", name, path)
		}
	}
	return checkSocketPath(cfg.Socket)
}

// ErrSocketPath is returned for a socket path that the kernel cannot hold.
var ErrSocketPath = errors.New("path is too long for a unix socket")

func checkSocketPath(path string) error {
	if len(path) <= maxSocketPath {
		return nil
	}
	return fmt.Errorf("guard: %w: %s has %d bytes and %d are possible; choose a shorter directory for ramd's state (--data-dir)",
		ErrSocketPath, path, len(path), maxSocketPath)
}
