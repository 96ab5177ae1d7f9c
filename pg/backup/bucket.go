package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// bucket is a store in an object store.
type bucket struct {
	place  string
	prefix string // ends in a slash, or is empty
	b      *blob.Bucket
}

func openBucket(ctx context.Context, l location) (store, error) {
	b, err := dialBucket(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", l, err)
	}
	prefix := l.path
	if prefix != "" {
		prefix += "/"
	}
	return &bucket{place: l.String(), prefix: prefix, b: b}, nil
}

func (b *bucket) close() error { return b.b.Close() }

func (b *bucket) failure(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("object %s in %s: %w", name, b.place, context.Cause(ctx))
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return fmt.Errorf("object %s: %w in %s", name, ErrNotFound, b.place)
	case gcerrors.FailedPrecondition, gcerrors.AlreadyExists:
		return fmt.Errorf("object %s: %w in %s", name, ErrExists, b.place)
	}
	return fmt.Errorf("object %s in %s: %w: %w", name, b.place, ErrUnavailable, err)
}

func (b *bucket) open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := b.b.NewReader(ctx, b.prefix+name, nil)
	if err != nil {
		return nil, b.failure(ctx, name, err)
	}
	return &blobReader{ctx: ctx, b: b, name: name, r: r}, nil
}

type blobReader struct {
	ctx  context.Context // of the call that opened it
	b    *bucket
	name string
	r    *blob.Reader
}

func (r *blobReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = r.b.failure(r.ctx, r.name, err)
	}
	return n, err
}

func (r *blobReader) Close() error { return r.r.Close() }

func (b *bucket) list(ctx context.Context, prefix string) ([]storedObject, error) {
	var objects []storedObject
	for pages := b.b.List(&blob.ListOptions{Prefix: b.prefix + prefix}); ; {
		o, err := pages.Next(ctx)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if gcerrors.Code(err) == gcerrors.NotFound {
			return nil, fmt.Errorf("repository %s: %w: the bucket does not exist; create it", b.place, ErrUnavailable)
		}
		if err != nil {
			return nil, b.failure(ctx, prefix+"*", err)
		}
		if name, found := strings.CutPrefix(o.Key, b.prefix); found && !o.IsDir {
			objects = append(objects, storedObject{name: name, size: o.Size, at: o.ModTime})
		}
	}
}

func (b *bucket) remove(ctx context.Context, name string) error {
	err := b.b.Delete(ctx, b.prefix+name)
	if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return b.failure(ctx, name, err)
	}
	return nil
}
