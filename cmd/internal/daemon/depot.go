package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// depot opens the repositories of the spec in force.
type depot struct {
	record func() *reconcile.Record
	// notes is a directory of this host in which it is noted which repositories the
	// cluster has written to.
	notes string
}

// find is a repository's block; the only one when name is empty.
func (d depot) find(name string) (spec.Repository, error) {
	c := d.record().Spec
	if c == nil || len(c.Repositories) == 0 {
		return spec.Repository{}, fmt.Errorf("the spec has no repository: add repository \"main\" { url = \"...\" } and apply it")
	}
	if name == "" && len(c.Repositories) == 1 {
		return c.Repositories[0], nil
	}
	names := make([]string, len(c.Repositories))
	for i, r := range c.Repositories {
		names[i] = r.Name
		if r.Name == name {
			return r, nil
		}
	}
	if name == "" {
		return spec.Repository{}, fmt.Errorf("there are several repositories: name one of %q with --repository", names)
	}
	return spec.Repository{}, fmt.Errorf("there is no repository %q in the spec: name one of %q", name, names)
}

// open is a repository for reading. Whoever asks closes it.
func (d depot) open(ctx context.Context, name string) (*backup.Repository, error) {
	r, err := d.find(name)
	if err != nil {
		return nil, err
	}
	config := backup.Config{URL: r.URL, Compression: r.Compression}
	if r.Encryption != nil {
		config.KeyFile = r.Encryption.KeyFile
	}
	repository, err := backup.Open(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", r.Name, err)
	}
	return repository, nil
}

// own is a repository for writing: one that nobody has, or that is this cluster's. One
// that has been written to is never begun anew: a directory that is empty then is one
// whose file system is not mounted.
func (d depot) own(ctx context.Context, name string) (*backup.Repository, error) {
	owner := d.owner()
	if owner.SystemID == 0 {
		return nil, fmt.Errorf("the cluster has no data yet")
	}
	repository, err := d.open(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := d.claim(ctx, name, repository, owner); err != nil {
		repository.Close()
		return nil, err
	}
	return repository, nil
}

func (d depot) claim(ctx context.Context, name string, repository *backup.Repository, owner backup.Owner) error {
	block, err := d.find(name)
	if err != nil {
		return err
	}
	note := filepath.Join(d.notes, fmt.Sprintf("claimed-%x", sha256.Sum256([]byte(block.URL)))[:24])
	noted, err := os.ReadFile(note)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	written := string(noted) == owner.ClusterID || len(d.record().Catalogs[block.Name].Backups) > 0
	if _, err := repository.Owner(ctx); written && errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("repository %s (%s) was this cluster's and is empty: is its file system mounted? If it was emptied on purpose: ramctrl backup takeover", block.Name, block.URL)
	}
	if err := repository.Claim(ctx, owner); err != nil {
		return err
	}
	if string(noted) == owner.ClusterID {
		return nil
	}
	return renameio.WriteFile(note, []byte(owner.ClusterID), 0o600)
}

func (d depot) owner() backup.Owner {
	rec := d.record()
	return backup.Owner{Cluster: rec.Cluster, ClusterID: rec.ClusterID, SystemID: rec.SystemID, At: time.Now().UTC()}
}

// choose is the backup to begin from: the one that is named, or the newest from which
// the target can be reached.
func choose(entries []backup.Entry, id string, target reconcile.RestoreTarget) (backup.Entry, error) {
	if id != "" && id != reconcile.BackupLatest {
		i := slices.IndexFunc(entries, func(e backup.Entry) bool { return e.ID == id })
		if i < 0 {
			return backup.Entry{}, fmt.Errorf("there is no backup %q: see ramctrl backup list", id)
		}
		if why := precludes(entries[i], target); why != "" {
			return backup.Entry{}, fmt.Errorf("backup %s %s", id, why)
		}
		return entries[i], nil
	}
	why := "there is none: ramctrl backup create makes one"
	for _, e := range slices.Backward(entries) {
		reason := precludes(e, target)
		if reason == "" {
			return e, nil
		}
		why = fmt.Sprintf("the oldest, %s, %s", e.ID, reason)
	}
	return backup.Entry{}, fmt.Errorf("no backup leads to %s: %s", target, why)
}

// precludes is why recovery from a backup cannot end at the target; empty when it may.
func precludes(e backup.Entry, t reconcile.RestoreTarget) string {
	switch {
	case e.Damaged != "":
		return "is damaged: " + e.Damaged
	case e.Proof != nil && !e.Proof.OK:
		return "did not restore when it was verified: " + e.Proof.Error
	case !t.Time.IsZero() && e.Finished.After(t.Time):
		return fmt.Sprintf("ended at %s, after that", e.Finished.UTC().Format(time.RFC3339))
	case t.LSN != 0 && e.StopLSN > t.LSN:
		return fmt.Sprintf("ended at LSN %s, after that", e.StopLSN)
	}
	return ""
}

// catalogOf is what decisions need of a repository's backups.
func catalogOf(ctx context.Context, r *backup.Repository) (*reconcile.Catalog, error) {
	entries, err := r.Backups(ctx)
	if err != nil {
		return nil, err
	}
	c := &reconcile.Catalog{At: time.Now().UTC(), Backups: []reconcile.CatalogBackup{}}
	for _, e := range entries {
		c.Backups = append(c.Backups, catalogBackup(e))
	}
	return c, nil
}
