package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg/backup/ident"
)

// recordsAtOnce is how many records of a catalog are read at a time.
const recordsAtOnce = 8

// Backups is the catalog, sorted by Started and ID, the oldest first. An entry that
// cannot be read is there with Damaged set, and with the start that its ID tells.
func (r *Repository) Backups(ctx context.Context) ([]Entry, error) {
	files, err := r.files(ctx, "")
	if err != nil {
		return nil, err
	}
	var ids []string
	for id, names := range files {
		if slices.Contains(names, entryFile) {
			ids = append(ids, id)
		}
	}
	entries := make([]Entry, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(recordsAtOnce)
	for i, id := range ids {
		group.Go(func() (err error) {
			entries[i], err = r.entry(ctx, id, slices.Contains(files[id], proofFile))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	// One may have been deleted since it was listed.
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.ID == "" })
	slices.SortFunc(entries, func(a, b Entry) int {
		if order := a.Started.Compare(b.Started); order != 0 {
			return order
		}
		return strings.Compare(a.ID, b.ID)
	})
	return entries, nil
}

// files lists what is stored for each backup, or for one: file names by ID.
func (r *Repository) files(ctx context.Context, id string) (map[string][]string, error) {
	prefix := backupsPrefix
	if id != "" {
		prefix += id + "/"
	}
	objects, err := r.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	files := map[string][]string{}
	for _, o := range objects {
		id, file, found := strings.Cut(strings.TrimPrefix(o.Stored, backupsPrefix), "/")
		if found && ident.ValidID(id) == nil {
			files[id] = append(files[id], file)
		}
	}
	return files, nil
}

// entry reads a backup's records. One that is damaged is an Entry too; the zero
// Entry is one that is not there.
func (r *Repository) entry(ctx context.Context, id string, proven bool) (Entry, error) {
	var e Entry
	err := r.readRecord(ctx, entryName(id), &e)
	if err == nil && e.ID != id {
		err = fmt.Errorf("object %s: %w: it is the entry of backup %q", entryName(id), ErrDamaged, e.ID)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return Entry{}, nil
	case unreadable(err):
		e = damagedEntry(id, err)
	case err != nil:
		return Entry{}, err
	}
	if proven {
		e.Proof, err = r.proof(ctx, id)
	}
	return e, err
}

func (r *Repository) proof(ctx context.Context, id string) (*Proof, error) {
	p := &Proof{}
	err := r.readRecord(ctx, proofName(id), p)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case unreadable(err):
		return &Proof{Error: err.Error()}, nil
	case err != nil:
		return nil, err
	}
	return p, nil
}

// Backup is one entry of the catalog: ErrNotFound when there is none, ErrDamaged or
// ErrFormat when it cannot be read.
func (r *Repository) Backup(ctx context.Context, id string) (Entry, error) {
	if err := ident.ValidID(id); err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := r.readRecord(ctx, entryName(id), &e); err != nil {
		return Entry{}, fmt.Errorf("backup %s: %w", id, err)
	}
	var err error
	e.Proof, err = r.proof(ctx, id)
	return e, err
}

// Publish makes a backup visible, when all its objects are stored: ErrExists when
// there is one of its ID.
func (r *Repository) Publish(ctx context.Context, e Entry) error {
	if err := ident.ValidID(e.ID); err != nil {
		return err
	}
	e.Format, e.Proof, e.Damaged = formatVersion, nil, ""
	return r.writeRecord(ctx, entryName(e.ID), true, e)
}

// Prove replaces what is known of a backup's last verification: ErrNotFound when
// there is no such backup.
func (r *Repository) Prove(ctx context.Context, id string, p Proof) error {
	if _, err := r.Backup(ctx, id); err != nil && !unreadable(err) {
		return err
	}
	p.Format = formatVersion
	return r.writeRecord(ctx, proofName(id), false, p)
}

// DeleteBackup removes a backup, first from the catalog and then its objects. It
// goes on with a deletion that was interrupted, and removes the remains of a backup that
// was never published. ErrNotFound when nothing of it is there.
func (r *Repository) DeleteBackup(ctx context.Context, id string) error {
	if err := ident.ValidID(id); err != nil {
		return err
	}
	files, err := r.files(ctx, id)
	if err != nil {
		return err
	}
	if len(files[id]) == 0 {
		return fmt.Errorf("backup %s: %w", id, ErrNotFound)
	}
	if err := r.Delete(ctx, entryName(id)); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(recordsAtOnce)
	for _, file := range files[id] {
		group.Go(func() error { return r.Delete(ctx, backupsPrefix+id+"/"+file) })
	}
	return group.Wait()
}

// Remains lists, sorted, the backups that have objects but no entry: interrupted
// ones, and those that are being taken right now.
func (r *Repository) Remains(ctx context.Context) ([]string, error) {
	files, err := r.files(ctx, "")
	if err != nil {
		return nil, err
	}
	var ids []string
	for id, names := range files {
		if !slices.Contains(names, entryFile) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// damagedEntry is what is known of a backup whose record cannot be read.
func damagedEntry(id string, why error) Entry {
	_, name, _ := strings.Cut(id, "-")
	return Entry{ID: id, Name: name, Started: ident.Started(id), Damaged: why.Error()}
}
