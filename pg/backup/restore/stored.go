package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// CheckStored is the quick check of a backup: every stored object has the size and the
// SHA-256 that the catalog tells. It needs no key. progress may be nil; it counts
// stored bytes and is never called concurrently. The error names the object: it is
// backup.ErrDamaged when one is missing or changed.
func CheckStored(ctx context.Context, r *backup.Repository, e backup.Entry, progress func(done, total pg.Bytes)) error {
	if e.Damaged != "" {
		return fmt.Errorf("backup %s: %w: %s", e.ID, backup.ErrDamaged, e.Damaged)
	}
	if err := checkNames(e); err != nil {
		return fmt.Errorf("backup %s: %w", e.ID, err)
	}
	objects := []backup.Stored{e.Manifest}
	total := e.Manifest.Size
	for _, p := range e.Parts {
		objects = append(objects, p.Stored)
		total += p.Size
	}
	var done atomic.Int64
	stop := report(Options{Entry: backup.Entry{Size: total}, Progress: progress}, &done)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mostWorkers)
	for _, object := range objects {
		group.Go(func() error { return checkObject(ctx, r, object, &done) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("backup %s: %w", e.ID, err)
	}
	return nil
}

func checkObject(ctx context.Context, r *backup.Repository, want backup.Stored, done *atomic.Int64) error {
	object, err := r.ReadStored(ctx, want.Object)
	if errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	defer object.Close()
	hash := sha256.New()
	size, err := io.CopyBuffer(hash, &counting{from: object, done: done}, make([]byte, copyBuffer))
	if err != nil {
		return fmt.Errorf("object %s: %w", want.Object, err)
	}
	switch sum := hex.EncodeToString(hash.Sum(nil)); {
	case size != want.Size:
		return fmt.Errorf("object %s: %w: it has %d bytes and the catalog says %d", want.Object, backup.ErrDamaged, size, want.Size)
	case sum != want.SHA256:
		return fmt.Errorf("object %s: %w: its SHA-256 is %s and the catalog says %s", want.Object, backup.ErrDamaged, sum, want.SHA256)
	}
	return nil
}
