package backup

import (
	"context"
	"io"
	"time"
)

// A store keeps objects under names, as they are: a directory or a bucket. Names
// have passed validObject. Errors wrap ErrNotFound, ErrExists or ErrUnavailable
// where these say what happened, and name the object. Safe for concurrent use.
type store interface {
	// create begins an object, which is not visible before the upload's commit. With
	// ifAbsent, commit fails with ErrExists when the name is taken by then. The
	// context governs the upload to its end.
	create(ctx context.Context, name string, ifAbsent bool) (upload, error)
	open(ctx context.Context, name string) (io.ReadCloser, error)
	// list returns the objects whose names begin with the prefix, in no order.
	list(ctx context.Context, prefix string) ([]storedObject, error)
	// remove is no error when the object is not there.
	remove(ctx context.Context, name string) error
	close() error
}

// An upload is an object that is being written, by one goroutine.
type upload interface {
	io.Writer
	// commit makes the object durable and visible, or returns an error.
	commit() error
	// abort leaves nothing visible; after commit it does nothing.
	abort()
}

type storedObject struct {
	name string
	size int64
	at   time.Time
}
