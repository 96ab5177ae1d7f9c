package instance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
)

// VerifyOptions say what a backup is tried out with.
type VerifyOptions struct {
	// Dir is the scratch directory, made and removed by Verify; empty means beside the
	// data directory.
	Dir string
	// SystemID is that of the cluster; zero takes what the backup has.
	SystemID pg.SystemID
	// Fetch is as in RestoreOptions. Tablespaces must go below the parent of dir, which
	// is the scratch directory: others are refused before a server is started.
	Fetch func(ctx context.Context, dir string, uid, gid int) error `json:"-"`
	// RecoveryOptions say where recovery ends. Unlike in Restore, an empty Target is the
	// end of the backup.
	RecoveryOptions
	// SkipIndexes leaves out the check of indexes.
	SkipIndexes bool
}

// Checked is what a verification has found in order.
type Checked struct {
	Recovered
	// Checksums is false when this cluster's pages have none: then no page was checked.
	Checksums bool `json:"checksums"`
	// Pages and Files are those whose checksums were right.
	Pages int64 `json:"pages"`
	Files int64 `json:"files"`
	// Indexes is how many were compared with their tables, in Databases databases.
	Indexes   int64 `json:"indexes"`
	Databases int   `json:"databases"`
	// Skipped are the databases for which amcheck is not installed on this host.
	Skipped []string `json:"skipped,omitempty"`
}

// ErrCorrupt is returned when a page or an index of the backup is damaged. Its text
// names the files, or the database and the indexes.
var ErrCorrupt = errors.New("the backup has damaged data")

// Verify tries a backup out in a scratch directory: it is fetched, recovered, every
// page checksum is looked at and every B-tree index is compared with its table. The
// instance's own server may run meanwhile; it is not touched. The scratch directory
// and its processes are gone when Verify returns; if ramd is killed, at the next Verify
// or RemoveScratch.
//
// What is found to be damaged is an ErrCorrupt, a target that is not in the WAL a
// *TargetError. The result says how far it came even when there is an error.
func (i *Instance) Verify(ctx context.Context, o VerifyOptions) (checked Checked, err error) {
	if o.Target.Kind == "" {
		o.Target.Kind = TargetImmediate
	}
	if err := o.check(); err != nil {
		return Checked{}, err
	}
	if !i.verifying.TryLock() { // there is one socket, wherever the directory is
		return Checked{}, fmt.Errorf("%w; wait for it or cancel it", ErrScratchBusy)
	}
	defer i.verifying.Unlock()
	path, err := i.scratchDir(o.Dir)
	if err != nil {
		return Checked{}, err
	}
	s, err := i.openScratch(ctx, path)
	if err != nil {
		return Checked{}, err
	}
	defer func() {
		if removeErr := s.remove(ctx); removeErr != nil {
			err = errors.Join(err, removeErr)
		}
	}()
	i.step("verifying")
	err = i.verify(ctx, s, o, &checked)
	return checked, err
}

func (i *Instance) verify(ctx context.Context, s *scratchPlace, o VerifyOptions, checked *Checked) error {
	tell(o.Progress, PhaseFetch)
	uid, gid := i.fileOwner()
	if err := o.Fetch(ctx, s.data(), uid, gid); err != nil {
		return err
	}
	i.step("fetched")
	if err := i.checkFetched(ctx, s.data(), o.SystemID); err != nil {
		return err
	}
	if err := s.checkTablespaces(); err != nil {
		return err
	}
	tell(o.Progress, PhaseRecover)
	server := &privateServer{i: i, dir: s.data(), aux: s.path, name: "verify", port: i.privatePort(verifyPort), progress: o.Progress}
	var err error
	if checked.Recovered, err = i.recoverAt(ctx, server, o.RecoveryOptions); err != nil {
		return i.explainTablespaces(err, s.data())
	}
	i.step("recovered")
	if err := i.checkPages(ctx, s.data(), o.Progress, checked); err != nil || o.SkipIndexes {
		return err
	}
	return i.checkIndexes(ctx, server, o.Progress, checked)
}

// checkTablespaces makes sure that the server will write nowhere else.
func (s *scratchPlace) checkTablespaces() error {
	links, err := tablespaceLinks(s.data())
	if err != nil {
		return err
	}
	for name, place := range links {
		real, err := filepath.EvalSymlinks(place)
		if err != nil {
			return fmt.Errorf("tablespace %s: %w", name, err)
		}
		if !strings.HasPrefix(real, s.path+string(filepath.Separator)) {
			return fmt.Errorf("tablespace %s of the scratch directory is at %s, outside %s; nothing was started on it", name, place, s.path)
		}
	}
	return openTablespaces(s.data(), false)
}

// checkIndexes starts the recovered server once more and looks at all indexes.
func (i *Instance) checkIndexes(ctx context.Context, s *privateServer, progress func(RecoveryProgress), checked *Checked) error {
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("start the recovered server: %w", err)
	}
	err := s.checkAllIndexes(ctx, progress, checked)
	if err != nil {
		s.kill() // there is nothing to keep
		return err
	}
	stopping, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	return s.stop(stopping)
}
