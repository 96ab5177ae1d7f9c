package backup

import (
	"context"
	"errors"

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

// blobUpload is an object on its way. The store makes it visible when Close has
// told it that it is complete; with its context cancelled it never does.
type blobUpload struct {
	ctx    context.Context // of the upload: the caller's, and cancelled by abort
	cancel context.CancelCauseFunc
	b      *bucket
	name   string
	w      *blob.Writer
	done   bool
}

func (b *bucket) create(ctx context.Context, name string, ifAbsent bool) (upload, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	w, err := b.b.NewWriter(ctx, b.prefix+name, &blob.WriterOptions{
		BufferSize: uploadPart, MaxConcurrency: uploadsAtOnce, IfNotExist: ifAbsent,
		ContentType: "application/octet-stream", DisableContentTypeDetection: true,
	})
	if err != nil {
		cancel(nil)
		return nil, b.failure(ctx, name, err)
	}
	return &blobUpload{ctx: ctx, cancel: cancel, b: b, name: name, w: w}, nil
}

func (u *blobUpload) Write(p []byte) (int, error) {
	n, err := u.w.Write(p)
	if err != nil {
		err = u.b.failure(u.ctx, u.name, err)
	}
	return n, err
}

func (u *blobUpload) commit() error {
	u.done = true
	defer u.cancel(nil)
	if err := u.w.Close(); err != nil {
		return u.b.failure(u.ctx, u.name, err)
	}
	return nil
}

var errUploadAborted = errors.New("upload aborted")

func (u *blobUpload) abort() {
	if u.done {
		return
	}
	u.done = true
	u.cancel(errUploadAborted)
	u.w.Close()
}
