package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
)

// controlCache keeps what pg_controldata said about a pg_control file that has not
// changed since.
type controlCache struct {
	size    int64
	changed time.Time
	text    string
}

// Inspect looks at the data directory, without changing it, but for one thing: a
// new data directory that was complete and had lost its place when ramd was
// killed is put in place first. While another method makes or moves the data
// directory, Inspect reports what is there at the moment.
func (i *Instance) Inspect(ctx context.Context) (pg.DataDirectory, error) {
	if i.building.TryLock() {
		err := i.settle()
		i.building.Unlock()
		if err != nil && !errors.Is(err, errBuilding) {
			return pg.DataDirectory{}, err
		}
	}
	return i.inspect(ctx)
}

func (i *Instance) inspect(ctx context.Context) (pg.DataDirectory, error) {
	state, err := dirState(i.cfg.DataDir)
	if err != nil {
		return pg.DataDirectory{}, fmt.Errorf("look at the data directory: %w", err)
	}
	if state != pg.DirCluster {
		return pg.DataDirectory{State: state}, nil
	}
	return i.describe(ctx, i.cfg.DataDir)
}

// dirState tells a data directory from other things. initdb and pg_basebackup work
// elsewhere, so one that has PG_VERSION is complete.
func dirState(path string) (pg.DirState, error) {
	empty, err := isEmptyOrAbsent(path)
	if err != nil {
		return "", err
	}
	if empty {
		return pg.DirAbsent, nil
	}
	_, err = os.Lstat(filepath.Join(path, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) || isNotDirectory(path) {
		return pg.DirForeign, nil
	}
	if err != nil {
		return "", err
	}
	return pg.DirCluster, nil
}

func isNotDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// describe reads a data directory.
func (i *Instance) describe(ctx context.Context, dir string) (pg.DataDirectory, error) {
	version, _, err := readFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return pg.DataDirectory{}, err
	}
	found := pg.DataDirectory{State: pg.DirCluster}
	if found.Version, err = strconv.Atoi(strings.TrimSpace(string(version))); err != nil {
		return pg.DataDirectory{}, fmt.Errorf("%s/PG_VERSION holds %q, which is no version", dir, version)
	}
	if found.Version != i.cfg.Major {
		// The programs of another major version cannot read it. This much is enough to say so.
		return found, nil
	}
	mark, _, err := readMarker(dir)
	if err != nil {
		return pg.DataDirectory{}, err
	}
	found.Generation, found.Follows = mark.Generation, mark.Follows
	if dir == i.cfg.DataDir {
		note, is, err := i.rewinding(mark)
		if err != nil {
			return pg.DataDirectory{}, err
		}
		if is { // what it says of itself may be another node's
			found.Rewinding, found.Generation, found.Follows = true, note.Before, 0
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, standbyFile)); err == nil {
		found.Standby = true
	}
	// Before the control file, which a server writes before it removes the label.
	if _, err := os.Lstat(filepath.Join(dir, "backup_label")); err == nil {
		found.BackupLabel = true
	}
	text, err := i.controlData(ctx, dir)
	if err != nil {
		return pg.DataDirectory{}, err
	}
	control, err := pg.ParseControlData(text)
	if err != nil {
		return pg.DataDirectory{}, fmt.Errorf("%s: %w", dir, err)
	}
	found.SystemID, found.Timeline = control.SystemID, control.Timeline
	found.Checkpoint, found.ControlState = control.Checkpoint, control.State
	found.Least = control.StandbyLeast()
	if found.WasPrimary() && (control.State != mark.FollowsState || control.Checkpoint != mark.FollowsCheckpoint) {
		found.Follows = 0 // it has run as a primary since it was rewound
	}
	return found, nil
}

// controlData runs pg_controldata, unless the file is as it was.
func (i *Instance) controlData(ctx context.Context, dir string) (string, error) {
	info, err := os.Stat(filepath.Join(dir, "global", "pg_control"))
	if err != nil {
		return "", fmt.Errorf("%w; the data directory is damaged, move it away to have it made anew", err)
	}
	i.mu.Lock()
	cached := i.control
	i.mu.Unlock()
	if cached.text != "" && cached.size == info.Size() && cached.changed.Equal(info.ModTime()) {
		return cached.text, nil
	}
	text, err := i.output(ctx, "pg_controldata", "-D", dir)
	if err != nil {
		return "", err
	}
	i.mu.Lock()
	i.control = controlCache{size: info.Size(), changed: info.ModTime(), text: text}
	i.mu.Unlock()
	return text, nil
}
