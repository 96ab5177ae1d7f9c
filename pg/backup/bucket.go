package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/aws/smithy-go"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// bucket is a store in an object store.
type bucket struct {
	place    string
	prefix   string // ends in a slash, or is empty
	b        *blob.Bucket
	patience patience
	// unconditional is set when the server has shown that it cannot create an object
	// on condition that there is none; then the object is looked for instead.
	unconditional atomic.Bool
}

func openBucket(ctx context.Context, l location) (*bucket, error) {
	b, err := dialBucket(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", l, err)
	}
	prefix := l.path
	if prefix != "" {
		prefix += "/"
	}
	return &bucket{place: l.String(), prefix: prefix, b: b, patience: defaultPatience()}, nil
}

func (b *bucket) close() error { return b.b.Close() }

// failure says what an error of the object store means to callers.
func (b *bucket) failure(ctx context.Context, name string, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errNoAnswer) {
		return fmt.Errorf("object %s in %s: %w", name, b.place, cause)
	} else if cause != nil {
		return fmt.Errorf("object %s in %s: %w: %w", name, b.place, ErrUnavailable, cause)
	}
	if api := smithy.APIError(nil); errors.As(err, &api) {
		switch api.ErrorCode() {
		case "NoSuchBucket":
			return b.noBucket()
		case "ConditionalRequestConflict":
			return fmt.Errorf("object %s in %s: %w", name, b.place, errConflict)
		case "NotImplemented":
			return fmt.Errorf("object %s in %s: %w: %w", name, b.place, errNoConditions, err)
		}
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return fmt.Errorf("object %s: %w in %s", name, ErrNotFound, b.place)
	case gcerrors.FailedPrecondition, gcerrors.AlreadyExists:
		return fmt.Errorf("object %s: %w in %s", name, ErrExists, b.place)
	case gcerrors.PermissionDenied:
		return fmt.Errorf("object %s in %s: %w: the credentials that ramd finds do not allow it: %w", name, b.place, ErrUnavailable, err)
	}
	return fmt.Errorf("object %s in %s: %w: %w", name, b.place, ErrUnavailable, err)
}

func (b *bucket) noBucket() error {
	return fmt.Errorf("repository %s: %w: there is no such bucket; create it, or correct the URL", b.place, ErrUnavailable)
}

func (b *bucket) open(ctx context.Context, name string) (io.ReadCloser, error) {
	ctx, watch := watched(ctx, b.patience.request)
	watch.begin()
	r, err := b.b.NewReader(ctx, b.prefix+name, nil)
	watch.end()
	if err != nil {
		defer watch.cancel(nil)
		return nil, b.failure(ctx, name, err)
	}
	return &blobReader{ctx: ctx, watch: watch, b: b, name: name, r: r}, nil
}

type blobReader struct {
	ctx   context.Context // of the call that opened it, watched
	watch *watch
	b     *bucket
	name  string
	r     *blob.Reader
}

func (r *blobReader) Read(p []byte) (int, error) {
	r.watch.begin()
	n, err := r.r.Read(p)
	r.watch.end()
	if err != nil && err != io.EOF {
		err = r.b.failure(r.ctx, r.name, err)
	}
	return n, err
}

func (r *blobReader) Close() error {
	r.watch.cancel(nil)
	return r.r.Close()
}

func (b *bucket) list(ctx context.Context, prefix string) ([]storedObject, error) {
	ctx, watch := watched(ctx, b.patience.request)
	defer watch.cancel(nil)
	var objects []storedObject
	for pages := b.b.List(&blob.ListOptions{Prefix: b.prefix + prefix}); ; {
		watch.begin()
		o, err := pages.Next(ctx)
		watch.end()
		if err == io.EOF {
			return objects, nil
		}
		if err != nil {
			if err = b.failure(ctx, prefix+"*", err); errors.Is(err, ErrNotFound) {
				return nil, b.noBucket()
			}
			return nil, err
		}
		if name, found := strings.CutPrefix(o.Key, b.prefix); found && !o.IsDir {
			objects = append(objects, storedObject{name: name, size: o.Size, at: o.ModTime})
		}
	}
}

func (b *bucket) remove(ctx context.Context, name string) error {
	ctx, watch := watched(ctx, b.patience.request)
	defer watch.cancel(nil)
	watch.begin()
	err := b.b.Delete(ctx, b.prefix+name)
	watch.end()
	if err == nil {
		return nil
	}
	if err = b.failure(ctx, name, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// exists looks for an object, for servers without conditional requests.
func (b *bucket) exists(ctx context.Context, name string) (bool, error) {
	ctx, watch := watched(ctx, b.patience.request)
	defer watch.cancel(nil)
	watch.begin()
	there, err := b.b.Exists(ctx, b.prefix+name)
	watch.end()
	if err != nil {
		return false, b.failure(ctx, name, err)
	}
	return there, nil
}
