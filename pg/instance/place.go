package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

var (
	// ErrForeign is returned when the place of the data directory is taken by
	// something that is none.
	ErrForeign = errors.New("is not empty and is not a PostgreSQL data directory")
	// ErrExists is returned by Init when there is a data directory already.
	ErrExists = errors.New("already holds a PostgreSQL cluster")
	// ErrWrongSystem is returned when a server or data directory belongs to another
	// cluster. It is not touched.
	ErrWrongSystem = errors.New("belongs to another cluster")
	// ErrRunning is returned when a server runs where none may.
	ErrRunning = errors.New("a server runs on the data directory")
	// ErrPlace is returned when a data directory cannot be replaced where it is.
	ErrPlace = errors.New("cannot hold a data directory that ram replaces as a whole")
)

// The directory beside the data directory in which a new one is built, and its part
// that becomes the data directory. initdb and pg_basebackup want an empty
// directory, so the marker stands beside it.
func (i *Instance) newDir() string  { return i.cfg.DataDir + ".ram-new" }
func (i *Instance) newData() string { return filepath.Join(i.newDir(), "data") }

// prepareBuild checks that a data directory can be built and put in place, and
// makes room for it. The caller holds building.
func (i *Instance) prepareBuild(m marker) error {
	if err := i.settle(); err != nil {
		return err
	}
	if err := i.checkStopped(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(i.cfg.DataDir), 0o755); err != nil {
		return fmt.Errorf("make the parent of the data directory: %w; make it yourself or change data_dir", err)
	}
	if err := i.checkPlace(); err != nil {
		return err
	}
	if err := i.prepareState(); err != nil {
		return err
	}
	err := i.discardNew()
	if err != nil {
		return err
	}
	if err := i.user.makeDir(i.newDir()); err != nil {
		return fmt.Errorf("make room for a new data directory: %w", err)
	}
	if i.buildLock, err = lockDir(i.newDir()); err != nil {
		return err
	}
	i.step("new directory made")
	if err := i.writeMarker(i.newDir(), m); err != nil {
		return err
	}
	i.step("new directory marked")
	return i.user.makeDir(i.newData())
}

// errBuilding is returned when another process builds a data directory here.
var errBuilding = errors.New("another ramd is building a data directory here")

// lockDir locks the directory in which a data directory is built. The lock ends with
// its holder, so who gets it knows that no build is under way.
func lockDir(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("%w; move it away", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (%s); wait for it or stop it", errBuilding, path)
		}
		return nil, err
	}
	return dir, nil
}

// endBuild lets others build.
func (i *Instance) endBuild() {
	if i.buildLock != nil {
		i.buildLock.Close()
		i.buildLock = nil
	}
}

// checkStopped makes sure that no process works on the data directory.
func (i *Instance) checkStopped() error {
	found, err := guard.Processes(i.cfg.DataDir)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%w %s (process %d); stop it first", ErrRunning, i.cfg.DataDir, found[0].PID)
	}
	return nil
}

// checkPlace makes sure that directories can be renamed to and from the place of the
// data directory.
func (i *Instance) checkPlace() error {
	path, parent := i.cfg.DataDir, filepath.Dir(i.cfg.DataDir)
	mounted, err := isMountPoint(path)
	if err != nil {
		return err
	}
	if mounted {
		return fmt.Errorf("%s %w, for it is a mount point; set data_dir to a directory inside, such as %s",
			path, ErrPlace, filepath.Join(path, "data"))
	}
	if err := unix.Access(parent, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%s %w, for its parent cannot be written: %w; make %s writable for system user %s or change data_dir",
			path, ErrPlace, err, parent, i.ownName())
	}
	return i.user.checkReach(parent)
}

// ownName is the user that renames directories: ramd's.
func (i *Instance) ownName() string {
	if i.user.change {
		return "root"
	}
	return i.user.name
}

// isMountPoint looks in the kernel's table, which also knows bind mounts within one
// file system.
func isMountPoint(path string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && unescapeMount(fields[4]) == path {
			return true, nil
		}
	}
	return false, nil
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// place puts the data directory that was built in place. The order is what makes it
// safe to be killed anywhere: see DESIGN.md.
func (i *Instance) place(m marker) error {
	m.Complete = true
	i.step("new directory built")
	if err := i.writeMarker(i.newDir(), m); err != nil {
		return err
	}
	i.step("new directory complete")
	if err := i.checkStopped(); err != nil {
		return err
	}
	empty, err := isEmptyOrAbsent(i.cfg.DataDir)
	if err != nil {
		return err
	}
	if !empty {
		if err := i.moveAside(); err != nil {
			return err
		}
	}
	return i.movePlace()
}

// moveAside keeps the old data directory under another name.
func (i *Instance) moveAside() error {
	aside, err := i.asideName()
	if err != nil {
		return err
	}
	if err := rename(i.cfg.DataDir, aside); err != nil {
		return fmt.Errorf("set the old data directory aside: %w", err)
	}
	if err := syncDir(filepath.Dir(aside)); err != nil {
		return err
	}
	i.logger.Info().Str("path", aside).Msg("old data directory set aside")
	i.step("old directory aside")
	return nil
}

// rename is os.Rename that also replaces an empty directory, as the kernel does.
func rename(from, to string) error {
	if err := unix.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// movePlace gives the new data directory its name; an empty directory there is
// replaced by the same rename.
func (i *Instance) movePlace() error {
	if err := rename(i.newData(), i.cfg.DataDir); err != nil {
		return fmt.Errorf("put the new data directory in place: %w", err)
	}
	i.step("new directory in place")
	if err := errors.Join(syncDir(filepath.Dir(i.cfg.DataDir)), syncDir(i.newDir())); err != nil {
		return err
	}
	if err := i.dropNote(rewindNoteFile); err != nil { // it was of the old directory
		return err
	}
	return i.discardNew()
}

// settle finishes a placement that was interrupted after the new data directory was
// complete and its place free, and ends the programs of a build that was
// interrupted earlier. The caller holds building.
func (i *Instance) settle() error {
	if _, err := os.Lstat(i.newDir()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := lockDir(i.newDir())
	if err != nil {
		return err
	}
	defer lock.Close()
	m, marked, err := readMarker(i.newDir())
	if err != nil || !marked {
		return err
	}
	if !m.Complete {
		i.endOrphans()
		return nil
	}
	built, err := dirState(i.newData())
	if err != nil {
		return err
	}
	if built != pg.DirCluster { // it is in place already
		return i.discardNew()
	}
	free, err := isEmptyOrAbsent(i.cfg.DataDir)
	if err != nil || !free {
		return err
	}
	i.logger.Info().Uint64("generation", m.Generation).Msg("finishing an interrupted placement of a data directory")
	return i.movePlace()
}

// discardNew removes what an attempt has left behind. The marker goes last, so that
// the rest is never taken for somebody else's. It tries again while a killed
// attempt's program still writes.
func (i *Instance) discardNew() error {
	if err := i.checkOwnNew(); err != nil {
		return err
	}
	i.step("removing leftovers")
	var err error
	for range 20 {
		if err = os.RemoveAll(i.newData()); err == nil {
			if err = os.RemoveAll(i.newDir()); err == nil {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("remove what an earlier attempt left: %w", err)
}

// checkOwnNew makes sure that what is in the place of the new directory is ours: it
// has our marker, or nothing but the beginning of one.
func (i *Instance) checkOwnNew() error {
	entries, err := os.ReadDir(i.newDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m, marked, err := readMarker(i.newDir())
	if err != nil {
		return err
	}
	if marked && m.Cluster == i.cfg.Cluster && m.Node == i.cfg.Name {
		return nil
	}
	for _, entry := range entries {
		if entry.Name() != markerFile+tempSuffix {
			return fmt.Errorf("%s is in the way and was not made for node %s of cluster %s; move it away", i.newDir(), i.cfg.Name, i.cfg.Cluster)
		}
	}
	return nil
}

var asidePattern = regexp.MustCompile(`\.ram-aside-(\d+)$`)

// asides lists the data directories that were set aside for a new one.
func (i *Instance) asides() (paths []string, highest int, err error) {
	parent, base := filepath.Split(i.cfg.DataDir)
	entries, err := os.ReadDir(parent)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	for _, entry := range entries {
		rest, found := strings.CutPrefix(entry.Name(), base)
		match := asidePattern.FindStringSubmatch(rest)
		if !found || match == nil || match[0] != rest {
			continue
		}
		n, err := strconv.Atoi(match[1])
		if err != nil {
			continue
		}
		paths, highest = append(paths, filepath.Join(parent, entry.Name())), max(highest, n)
	}
	return paths, highest, nil
}

func (i *Instance) asideName() (string, error) {
	if i.retain {
		return i.removedName(time.Now())
	}
	_, highest, err := i.asides()
	return fmt.Sprintf("%s.ram-aside-%d", i.cfg.DataDir, highest+1), err
}

// HasAside reports whether there is something for RemoveAside to remove.
func (i *Instance) HasAside() bool {
	paths, _, err := i.asides()
	return err == nil && len(paths) > 0
}

// RemoveAside removes the data directories that Clone has set aside, for when the
// new one is known to stream. Directories that SetAside made are never removed.
func (i *Instance) RemoveAside() error {
	i.building.Lock()
	defer i.building.Unlock()
	paths, _, err := i.asides()
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove a data directory that was set aside: %w", err)
		}
		i.logger.Info().Str("path", path).Msg("data directory set aside was removed")
	}
	return nil
}

// SetAside retires the data directory: it is renamed and never removed by ram. It is
// an error while a server runs on it. Without a data directory nothing happens and
// the path is empty.
func (i *Instance) SetAside(ctx context.Context, at time.Time, reason string) (string, error) {
	i.building.Lock()
	defer i.building.Unlock()
	state, err := dirState(i.cfg.DataDir)
	if err != nil || state == pg.DirAbsent {
		return "", err
	}
	if state == pg.DirForeign {
		return "", fmt.Errorf("%s %w; move it away yourself", i.cfg.DataDir, ErrForeign)
	}
	if err := errors.Join(i.checkStopped(), i.checkPlace()); err != nil {
		return "", err
	}
	m, _, err := readMarker(i.cfg.DataDir)
	if err != nil {
		return "", err
	}
	m.Removed = at.UTC().Format(time.RFC3339) + ": " + reason
	if err := i.writeMarker(i.cfg.DataDir, m); err != nil {
		return "", err
	}
	path, err := i.removedName(at)
	if err != nil {
		return "", err
	}
	if err := rename(i.cfg.DataDir, path); err != nil {
		return "", fmt.Errorf("set the data directory aside: %w", err)
	}
	i.logger.Info().Str("path", path).Str("reason", reason).Msg("data directory retired")
	return path, errors.Join(syncDir(filepath.Dir(path)), i.dropNote(rewindNoteFile))
}

// removedName is where a data directory goes that ram never removes.
func (i *Instance) removedName(at time.Time) (string, error) {
	base := i.cfg.DataDir + ".ram-removed-" + at.UTC().Format("20060102T150405Z")
	path := base
	for n := 2; ; n++ {
		empty, err := isEmptyOrAbsent(path)
		if empty || err != nil {
			return path, err
		}
		path = fmt.Sprintf("%s-%d", base, n)
	}
}
