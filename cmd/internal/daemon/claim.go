package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// running is what a ramd leaves in its data directory for the commands that
// look for it.
type running struct {
	PID     int    `json:"pid"`
	Address string `json:"address"`
	Node    string `json:"node"`
	Cluster string `json:"cluster"`
}

func runningPath(dataDir string) string { return filepath.Join(dataDir, "ramd.json") }

// claim makes the data directory this process's own until release is called.
func claim(dataDir string, s start) (release func(), err error) {
	// PostgreSQL's user must be able to pass through to what is its own.
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return nil, fmt.Errorf("ramd's data directory: %w: choose another with --data-dir", err)
	}
	lock, err := os.OpenFile(filepath.Join(dataDir, "ramd.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ramd's data directory is not writable: %w: choose another with --data-dir", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		who := "another ramd"
		if r, err := findRunning(dataDir); err == nil {
			who = fmt.Sprintf("ramd of node %s (pid %d)", r.Node, r.PID)
		}
		return nil, fmt.Errorf("%s already runs on %s: stop it, or give this one its own --data-dir", who, dataDir)
	}
	b, err := json.Marshal(running{PID: os.Getpid(), Address: address(s.node.Host, s.node.Ports.API), Node: s.node.Name, Cluster: s.spec.Name})
	if err == nil {
		err = renameio.WriteFile(runningPath(dataDir), b, 0o644)
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("ramd's data directory: %w", err)
	}
	return func() {
		os.Remove(runningPath(dataDir))
		lock.Close()
	}, nil
}

// findRunning is the ramd that was started last on a data directory and has not
// been stopped in good order. It may be dead.
func findRunning(dataDir string) (running, error) {
	var r running
	b, err := os.ReadFile(runningPath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("no ramd runs on %s", dataDir)
	}
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(b, &r)
}
