package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkRoom makes sure that what comes fits, as far as that can be known: others may
// write to the same file systems.
func (p *places) checkRoom() error {
	type fileSystem struct {
		path  string
		needs int64
	}
	found := make(map[uint64]*fileSystem)
	for _, a := range p.of {
		path, device, err := existing(a.path)
		if err != nil {
			return err
		}
		if found[device] == nil {
			found[device] = &fileSystem{path: path}
		}
		found[device].needs += a.needs
	}
	for _, f := range found {
		if free, err := available(f.path); err == nil && f.needs > free {
			return noRoom(f.path, f.needs, free)
		}
	}
	return nil
}

// existing is the nearest directory on the way to a path that is there, and the device
// that it is on.
func existing(path string) (string, uint64, error) {
	for {
		var stat unix.Stat_t
		err := unix.Stat(path, &stat)
		if err == nil {
			return path, stat.Dev, nil
		}
		if !errors.Is(err, unix.ENOENT) || path == filepath.Dir(path) {
			return "", 0, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		path = filepath.Dir(path)
	}
}

// available is the room for who is not root: the files will belong to such a one.
func available(path string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return 0, err
	}
	return int64(stat.Bavail) * stat.Bsize, nil
}

func noRoom(path string, needs, free int64) error {
	return fmt.Errorf("%w on the file system of %s: %d bytes are needed and %d are available; free some or choose another place", ErrNoSpace, path, needs, free)
}

// explain adds to an error of writing what room there is, when that was the reason.
func (p *places) explain(err error) error {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	for _, a := range p.of {
		if free, statErr := available(a.path); statErr == nil && free < 1<<20 {
			return fmt.Errorf("%w: %w", noRoom(a.path, a.needs, free), err)
		}
	}
	return fmt.Errorf("%w: %w", ErrNoSpace, err)
}
