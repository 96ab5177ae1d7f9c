package wal

import (
	"context"
	"fmt"
	"path"

	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// Expired is what was removed.
type Expired struct {
	Objects int
	Bytes   pg.Bytes // as stored
}

// deletions is how many objects are deleted at once.
const deletions = 8

// Expire removes the WAL that no kept backup needs, oldest first, so that an interrupted
// one leaves no gap. History files stay. Without a kept backup nothing is removed. An
// error comes with what was removed before it.
func Expire(ctx context.Context, r *backup.Repository, kept []backup.Entry) (Expired, error) {
	if len(kept) == 0 {
		return Expired{}, nil
	}
	needs, err := readNeeds(ctx, r, kept)
	if err != nil {
		return Expired{}, fmt.Errorf("expire WAL: %w", err)
	}
	objects, err := r.List(ctx, "wal/")
	if err != nil {
		return Expired{}, fmt.Errorf("expire WAL: %w", err)
	}
	var old []backup.Object
	for _, o := range objects {
		if !needs.Has(path.Base(o.Name)) {
			old = append(old, o)
		}
	}
	gone, err := deleteAll(ctx, r, old)
	if err != nil {
		return gone, fmt.Errorf("expire WAL: %w", err)
	}
	return gone, nil
}

// deleteAll deletes in batches: what is deleted at the same time is adjacent.
func deleteAll(ctx context.Context, r *backup.Repository, objects []backup.Object) (Expired, error) {
	var gone Expired
	for len(objects) > 0 {
		batch := objects[:min(deletions, len(objects))]
		objects = objects[len(batch):]
		g, ctx := errgroup.WithContext(ctx)
		for _, o := range batch {
			g.Go(func() error { return r.Delete(ctx, o.Stored) })
		}
		if err := g.Wait(); err != nil {
			return gone, err
		}
		for _, o := range batch {
			gone.Objects++
			gone.Bytes += pg.Bytes(o.Size)
		}
	}
	return gone, nil
}
