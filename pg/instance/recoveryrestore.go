package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/ramhq/ram/pg"
)

// RestoreOptions say what a data directory is made of and where its recovery ends.
type RestoreOptions struct {
	// Generation marks the data directory. When the one in place has it already,
	// Restore has nothing to do.
	Generation uint64
	// SystemID is that of the cluster; zero takes what the backup has. A backup, and a
	// data directory to be replaced, that has another one is refused with ErrWrongSystem.
	SystemID pg.SystemID
	// Fetch fills the empty directory dir with the files of a base backup, backup_label
	// among them. Everything must belong to uid and gid; both are -1 when it need not be
	// given away.
	Fetch func(ctx context.Context, dir string, uid, gid int) error `json:"-"`
	RecoveryOptions
	// Standby leaves the recovery to the start of the server, which then follows a
	// primary as Files say: RecoveryOptions other than Progress do not count.
	Standby bool
	// Retain keeps the data directory that is replaced for good, as SetAside does.
	Retain bool
	// Files replace those of the backup.
	Files pg.ConfigFiles
}

// Restore replaces the data directory by one that is made of a base backup. Without
// Standby it is recovered to the target first, so what is put in place is a primary's
// directory on a new timeline, cleanly stopped, whose superuser has this instance's password; how far it came is returned, also
// when an earlier call has done it. What was there is kept aside until RemoveAside, or for good.
//
// The system identifier is checked before anything is replaced. The error is a
// *TargetError when the target is not in the WAL that there is.
func (i *Instance) Restore(ctx context.Context, o RestoreOptions) (Recovered, error) {
	if o.Standby {
		progress := o.Progress
		o.RecoveryOptions = RecoveryOptions{Progress: progress}
	}
	if err := o.check(); err != nil {
		return Recovered{}, err
	}
	i.building.Lock()
	defer i.building.Unlock()
	if err := i.settle(); err != nil {
		return Recovered{}, err
	}
	there, done, err := i.checkRestorable(ctx, o)
	if done || err != nil {
		return there.recovered, err
	}
	defer i.endBuild()
	if err := i.clearTablespaces(); err != nil {
		return Recovered{}, err
	}
	m := marker{Cluster: i.cfg.Cluster, Node: i.cfg.Name, Generation: o.Generation, Restored: &Recovered{}}
	if err := i.prepareBuild(m); err != nil {
		return Recovered{}, err
	}
	i.step("building")
	if err := i.restore(ctx, o, there.system, m.Restored); err != nil {
		// A new attempt begins anew, and the room may be needed before.
		err = fmt.Errorf("restore: %w", err)
		return Recovered{}, errors.Join(err, i.clearTablespaces(), i.discardNew())
	}
	i.retain = o.Retain
	defer func() { i.retain = false }()
	return *m.Restored, i.finish(m, o.Files)
}

// inPlace is what Restore finds in its place.
type inPlace struct {
	system    pg.SystemID // zero when there is none
	recovered Recovered
}

// checkRestorable reports whether the wanted directory is in place already, and refuses
// to replace what may not be.
func (i *Instance) checkRestorable(ctx context.Context, o RestoreOptions) (found inPlace, done bool, err error) {
	state, err := dirState(i.cfg.DataDir)
	if err != nil || state == pg.DirAbsent {
		return found, false, err
	}
	if state == pg.DirCluster {
		there, err := i.describe(ctx, i.cfg.DataDir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return found, false, err
		}
		found.system = there.SystemID
		found.recovered = Recovered{LSN: there.Checkpoint, Timeline: there.Timeline}
	}
	want := o.SystemID
	if want == 0 {
		want = found.system
	}
	done, err = i.checkReplaceable(ctx, CloneOptions{Generation: o.Generation, SystemID: want})
	if !done || err != nil {
		return found, done, err
	}
	m, _, err := readMarker(i.cfg.DataDir)
	if err == nil && m.Restored != nil {
		found.recovered = *m.Restored
	}
	return found, true, err
}

// restore fills the new directory, checks whose it is, and recovers it. system is that
// of the directory to be replaced, or zero.
func (i *Instance) restore(ctx context.Context, o RestoreOptions, system pg.SystemID, done *Recovered) error {
	dir := i.newData()
	tell(o.Progress, PhaseFetch)
	uid, gid := i.fileOwner()
	if err := o.Fetch(ctx, dir, uid, gid); err != nil {
		return err
	}
	i.step("fetched")
	if err := i.checkFetched(ctx, dir, o.SystemID, system); err != nil {
		return err
	}
	if o.Standby {
		return nil // Fetch has flushed it
	}
	used, err := i.tablespacesInUse()
	if err != nil {
		return err
	}
	if len(used) > 0 {
		if err := openTablespaces(dir, false); err != nil {
			return err
		}
	}
	tell(o.Progress, PhaseRecover)
	server := &privateServer{i: i, dir: dir, aux: i.newDir(), name: "restore", port: i.privatePort(restorePort), progress: o.Progress, adopt: true}
	if *done, err = i.recoverAt(ctx, server, o.RecoveryOptions); err != nil {
		if len(used) > 0 {
			err = i.explainTablespaces(err, dir)
		}
		return err
	}
	i.step("recovered")
	if err := openTablespaces(dir, true); err != nil {
		return err
	}
	tell(o.Progress, PhaseFlush)
	i.logger.Info().Stringer("target", o.Target).Stringer("lsn", done.LSN).Uint32("timeline", uint32(done.Timeline)).
		Time("last_commit", done.Time).Msg("recovered a backup")
	return flushTree(dir)
}

func tell(progress func(RecoveryProgress), phase string) {
	if progress != nil {
		progress(RecoveryProgress{Phase: phase})
	}
}

// fileOwner is whom files are given to: -1 for as they are.
func (i *Instance) fileOwner() (uid, gid int) {
	if !i.user.change {
		return -1, -1
	}
	return int(i.user.uid), int(i.user.gid)
}

// privatePort avoids the instance's own number.
func (i *Instance) privatePort(port int) int {
	if port == i.cfg.Port {
		return port + 10
	}
	return port
}

// checkFetched makes sure that a backup is one of this cluster and version, and whole
// enough to be recovered. Zero identifiers ask for nothing.
func (i *Instance) checkFetched(ctx context.Context, dir string, wanted ...pg.SystemID) error {
	copied, err := i.describe(ctx, dir)
	if err != nil {
		return err
	}
	if copied.Version != i.cfg.Major {
		return fmt.Errorf("the backup is of PostgreSQL %d and this node has %d; restore it on a node with version %d", copied.Version, i.cfg.Major, copied.Version)
	}
	for _, want := range wanted {
		if want != 0 && copied.SystemID != want {
			return wrongSystem("the backup", copied.SystemID, want)
		}
	}
	if !copied.BackupLabel {
		return errors.New("the backup has no backup_label: it is not a base backup, and recovering it could go wrong unseen; take another")
	}
	return nil
}

// tablespacesInUse are the places of tablespaces of the directories that are in place
// or kept aside.
func (i *Instance) tablespacesInUse() (map[string]bool, error) {
	dirs, err := filepath.Glob(globEscape(i.cfg.DataDir) + ".ram-*")
	if err != nil {
		return nil, err
	}
	used := make(map[string]bool)
	for _, dir := range append(dirs, i.cfg.DataDir) {
		if dir == i.newDir() {
			continue
		}
		links, err := tablespaceLinks(dir)
		if err != nil {
			return nil, err
		}
		for _, target := range links {
			used[target] = true
		}
	}
	return used, nil
}

var globSpecial = regexp.MustCompile(`[\\*?\[]`)

func globEscape(path string) string { return globSpecial.ReplaceAllString(path, `\$0`) }

// versionDir is what PostgreSQL makes in the place of a tablespace.
var versionDir = regexp.MustCompile(`^PG_\d+_\d+$`)

// clearTablespaces removes the tablespaces of an attempt that was cut short: Restore
// had found their places empty. Those that another directory uses stay.
func (i *Instance) clearTablespaces() error {
	m, marked, err := readMarker(i.newDir())
	if err != nil || !marked || m.Restored == nil || m.Cluster != i.cfg.Cluster || m.Node != i.cfg.Name {
		return err
	}
	_ = openTablespaces(i.newData(), true) // or it cannot be removed
	links, err := tablespaceLinks(i.newData())
	if err != nil {
		return err
	}
	used, err := i.tablespacesInUse()
	if err != nil {
		return err
	}
	for _, place := range links {
		if used[place] {
			continue
		}
		if err := clearTablespace(place); err != nil {
			return fmt.Errorf("remove what an earlier attempt left: %w", err)
		}
	}
	return nil
}

func clearTablespace(place string) error {
	entries, err := os.ReadDir(place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if versionDir.MatchString(entry.Name()) {
			if err := os.RemoveAll(filepath.Join(place, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// tablespaceRefused is what PostgreSQL says in a directory that openTablespaces has
// closed.
var tablespaceRefused = regexp.MustCompile(`could not (?:create|remove) symbolic link "pg_tblspc/`)

func (i *Instance) explainTablespaces(err error, dir string) error {
	if !tablespaceRefused.MatchString(err.Error()) {
		return err
	}
	return fmt.Errorf("%w; a tablespace was made after the backup began, and its place may be in use by another data directory beside %s; "+
		"take a backup after it was made, or move the old data directories and their tablespaces away", err, filepath.Dir(dir))
}
