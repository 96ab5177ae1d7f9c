package backup

import (
	"context"
	"errors"
	"fmt"

	"gocloud.dev/blob"
)

const (
	// uploadPart is how much one request carries. S3 takes 10,000 of them for one
	// object, so that 80 GB fit.
	uploadPart = 8 << 20
	// uploadsAtOnce is how many requests one object has under way. Each holds a part
	// in memory.
	uploadsAtOnce = 2
)

var (
	// errConflict: two are creating the object at this moment; the next attempt tells
	// who was first.
	errConflict = fmt.Errorf("%w: another request creates it at this moment", ErrUnavailable)
	// errNoConditions: the next attempt goes without a condition.
	errNoConditions = fmt.Errorf("%w: the server cannot create an object only if there is none", ErrUnavailable)
)

// blobUpload is an object on its way. The store makes it visible when Close has
// told it that it is complete; with its context cancelled it never does.
type blobUpload struct {
	ctx      context.Context // of the upload: the caller's, watched, and cancelled by abort
	watch    *watch
	b        *bucket
	name     string
	ifAbsent bool
	w        *blob.Writer
	done     bool
}

func (b *bucket) create(ctx context.Context, name string, ifAbsent bool) (upload, error) {
	ctx, watch := watched(ctx, b.patience.upload)
	u := &blobUpload{ctx: ctx, watch: watch, b: b, name: name, ifAbsent: ifAbsent}
	if err := u.checkAbsent(); err != nil {
		watch.cancel(nil)
		return nil, err
	}
	var err error
	u.w, err = b.b.NewWriter(ctx, b.prefix+name, &blob.WriterOptions{
		BufferSize: uploadPart, MaxConcurrency: uploadsAtOnce, IfNotExist: ifAbsent && !b.unconditional.Load(),
		ContentType: "application/octet-stream", DisableContentTypeDetection: true,
	})
	if err != nil {
		defer watch.cancel(nil)
		return nil, b.failure(ctx, name, err)
	}
	return u, nil
}

// checkAbsent stands in for a condition that the server does not know. Between it
// and the upload's end another may create the object: the layout leaves only writers
// of one cluster to race, and only the holder of its term writes.
func (u *blobUpload) checkAbsent() error {
	if !u.ifAbsent || !u.b.unconditional.Load() {
		return nil
	}
	there, err := u.b.exists(u.ctx, u.name)
	if err == nil && there {
		err = fmt.Errorf("object %s: %w in %s", u.name, ErrExists, u.b.place)
	}
	return err
}

func (u *blobUpload) Write(p []byte) (int, error) {
	u.watch.begin()
	n, err := u.w.Write(p)
	u.watch.end()
	if err != nil {
		err = u.failure(err)
	}
	return n, err
}

func (u *blobUpload) failure(err error) error {
	err = u.b.failure(u.ctx, u.name, err)
	if u.ifAbsent && errors.Is(err, errNoConditions) {
		u.b.unconditional.Store(true)
	}
	return err
}

func (u *blobUpload) commit() error {
	if err := u.checkAbsent(); err != nil {
		return err // and abort follows
	}
	u.done = true
	defer u.watch.cancel(nil)
	u.watch.begin()
	err := u.w.Close()
	u.watch.end()
	if err != nil {
		return u.failure(err)
	}
	return nil
}

// abort: with the context cancelled, Close takes back what was sent.
func (u *blobUpload) abort() {
	if u.done {
		return
	}
	u.done = true
	u.watch.cancel(errAborted)
	u.w.Close()
}
