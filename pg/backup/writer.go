package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
)

// CreateOptions says how an object is created.
type CreateOptions struct {
	// IfAbsent makes Create, or else Commit, fail with ErrExists when there is an
	// object of the name, in whatever encoding. Otherwise it is replaced.
	IfAbsent bool
	// Workers is how many chunks are compressed at a time; less than one is one.
	Workers int
}

// Stored is an object as it was written.
type Stored struct {
	Object string `json:"object"` // the full name
	Size   int64  `json:"size"`   // bytes as stored
	Plain  int64  `json:"plain"`  // bytes before compression and encryption
	SHA256 string `json:"sha256"` // of the stored bytes, in hexadecimal
}

// Writer writes one sealed object. It is used by one goroutine; Commit or Abort
// ends it.
type Writer struct {
	r      *Repository
	object string
	others []Object // other encodings of the same name, which go at Commit

	ctx    context.Context // of the upload, from Create to Commit or Abort
	cancel context.CancelCauseFunc
	upload upload
	sealed io.WriteCloser // encrypts into stored, when there is a key
	stored *countingHash

	chunk []byte // plain bytes that are not compressed yet
	mark  endMark
	crc   hash.Hash32 // of the plain bytes

	workers chan struct{}    // a place for each chunk that is being compressed
	queue   chan chan result // frames in order; closed by the goroutine that writes
	written chan struct{}    // closed by the emitter
	stream  hash.Hash32      // of the compressed bytes; the emitter's until written
	done    bool
}

// result is a frame, or why there is none.
type result struct {
	frame *bytes.Buffer
	err   error
}

// countingHash passes on what is stored, counted and hashed.
type countingHash struct {
	w    io.Writer
	hash hash.Hash
	size int64
}

func (c *countingHash) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.hash.Write(p[:n])
	c.size += int64(n)
	return n, err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func newWriter(ctx context.Context, r *Repository, object string, others []Object, o CreateOptions) (*Writer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	upload, err := r.store.create(ctx, object, o.IfAbsent)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	workers := max(o.Workers, 1)
	w := &Writer{
		r: r, object: object, others: others,
		ctx: ctx, cancel: cancel, upload: upload,
		stored: &countingHash{w: upload, hash: sha256.New()},
		crc:    newCRC(), stream: newCRC(),
		workers: make(chan struct{}, workers), queue: make(chan chan result, workers), written: make(chan struct{}),
	}
	if w.sealed, err = w.seal(); err != nil {
		upload.abort()
		cancel(nil)
		return nil, fmt.Errorf("object %s: %w", object, err)
	}
	go w.emit()
	return w, nil
}

func (w *Writer) seal() (io.WriteCloser, error) {
	if w.r.key.recipient == nil {
		return nopCloser{w.stored}, nil
	}
	return age.Encrypt(w.stored, w.r.key.recipient)
}

// Write adds plain bytes. It waits while all workers are busy. After an error only
// Abort makes sense.
func (w *Writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, fmt.Errorf("object %s: written to after its end", w.object)
	}
	var n int
	for n < len(p) {
		if w.chunk == nil {
			w.chunk = *w.r.codec.chunks.Get().(*[]byte)
		}
		take := min(cap(w.chunk)-len(w.chunk), len(p)-n)
		w.chunk = append(w.chunk, p[n:n+take]...)
		n += take
		if len(w.chunk) == cap(w.chunk) {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// flush hands the chunk to a worker, and its place in the order to the emitter.
func (w *Writer) flush() error {
	chunk := w.chunk
	w.chunk = nil
	w.crc.Write(chunk)
	w.mark.plain += int64(len(chunk))
	select {
	case w.workers <- struct{}{}:
	case <-w.ctx.Done():
		return w.failure()
	}
	frame := make(chan result, 1)
	go func() {
		frame <- w.compress(chunk)
		<-w.workers
	}()
	select {
	case w.queue <- frame:
		return nil
	case <-w.ctx.Done():
		<-frame
		return w.failure()
	}
}

func (w *Writer) compress(chunk []byte) result {
	codec := w.r.codec
	frame := codec.frames.Get().(*bytes.Buffer)
	frame.Reset()
	err := codec.compress(codec, frame, chunk)
	if chunk = chunk[:0]; cap(chunk) > 0 {
		codec.chunks.Put(&chunk)
	}
	return result{frame, err}
}

// emit writes frames in order. After an error it goes on taking them, so that
// nobody waits for it, until the queue is closed.
func (w *Writer) emit() {
	defer close(w.written)
	var failed bool
	for next := range w.queue {
		r := <-next
		if !failed && r.err == nil {
			r.err = w.pass(r.frame.Bytes())
		}
		if r.err != nil {
			failed = true
			w.cancel(r.err)
		}
		w.r.codec.frames.Put(r.frame)
	}
}

func (w *Writer) pass(compressed []byte) error {
	w.stream.Write(compressed)
	_, err := w.sealed.Write(compressed)
	return err
}

// failure is why writing cannot go on.
func (w *Writer) failure() error {
	return fmt.Errorf("object %s: %w", w.object, context.Cause(w.ctx))
}

// Commit makes the object durable and visible, or returns an error, after which
// nothing of it is visible unless the store failed in answering.
func (w *Writer) Commit() (Stored, error) {
	if w.done {
		return Stored{}, fmt.Errorf("object %s: committed after its end", w.object)
	}
	if err := w.complete(); err != nil {
		w.Abort()
		return Stored{}, err
	}
	w.done = true
	defer w.cancel(nil)
	if err := w.upload.commit(); err != nil {
		w.upload.abort()
		return Stored{}, err
	}
	for _, other := range w.others {
		if other.Stored == w.object || other.Name == other.Stored {
			continue
		}
		if err := w.r.store.remove(w.ctx, other.Stored); err != nil {
			return Stored{}, err
		}
	}
	return Stored{Object: w.object, Size: w.stored.size, Plain: w.mark.plain, SHA256: hex.EncodeToString(w.stored.hash.Sum(nil))}, nil
}

// complete writes all that belongs to the object.
func (w *Writer) complete() error {
	if len(w.chunk) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	close(w.queue)
	<-w.written
	w.queue = nil
	if w.ctx.Err() != nil {
		return w.failure()
	}
	w.mark.plainCRC, w.mark.streamCRC = w.crc.Sum32(), w.stream.Sum32()
	if _, err := w.sealed.Write(w.mark.encode(w.r.codec.ext)); err != nil {
		return fmt.Errorf("object %s: %w", w.object, err)
	}
	if err := w.sealed.Close(); err != nil {
		return fmt.Errorf("object %s: %w", w.object, err)
	}
	return nil
}

var errAborted = errors.New("aborted")

// Abort ends the writing and leaves nothing visible. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.cancel(errAborted)
	if w.queue != nil {
		close(w.queue)
		<-w.written
	}
	w.upload.abort()
}
