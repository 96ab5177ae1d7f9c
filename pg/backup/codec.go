package backup

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The extensions of encoded objects.
const (
	zstdExt = ".zst"
	lz4Ext  = ".lz4"
	gzipExt = ".gz"
	ageExt  = ".age"
)

// defaultChunk is how much of a stream becomes one frame, in plain bytes. Memory goes
// with it: a Writer holds some two chunks more than it has workers.
const defaultChunk = 1 << 20

// plainName is an object's name without the extensions of its encoding.
func plainName(object string) string {
	name := strings.TrimSuffix(object, ageExt)
	for _, ext := range []string{zstdExt, lz4Ext, gzipExt} {
		if plain, found := strings.CutSuffix(name, ext); found {
			return plain
		}
	}
	return object
}

// codec compresses chunks into frames that standard tools read, one after the other,
// as one stream. Every frame carries a checksum of what is in it. Safe for concurrent
// use: what is costly to make is kept for the next chunk.
type codec struct {
	ext      string
	chunk    int // plain bytes in a frame
	compress func(c *codec, frame *bytes.Buffer, chunk []byte) error
	encoders sync.Pool // of *zstd.Encoder, *lz4.Writer or *gzip.Writer
	chunks   sync.Pool // of *[]byte, empty
	frames   sync.Pool // of *bytes.Buffer
}

// newCodec is the codec of a compression's name; empty is zstd.
func newCodec(compression string) (*codec, error) {
	c := &codec{chunk: defaultChunk}
	switch compression {
	case "", "zstd":
		c.ext, c.compress, c.encoders.New = zstdExt, (*codec).zstdFrame, newZstdEncoder
	case "lz4":
		c.ext, c.compress, c.encoders.New = lz4Ext, (*codec).lz4Frame, newLZ4Encoder
	case "gzip":
		c.ext, c.compress, c.encoders.New = gzipExt, (*codec).gzipMember, gzipEncoders(gzip.DefaultCompression)
	case "none":
		// Stored blocks in gzip's framing, so that there is a checksum all the same.
		c.ext, c.compress, c.encoders.New = gzipExt, (*codec).gzipMember, gzipEncoders(gzip.NoCompression)
	default:
		return nil, fmt.Errorf(`unknown compression %q; write "zstd", "lz4", "gzip" or "none"`, compression)
	}
	c.chunks.New = func() any { chunk := make([]byte, 0, c.chunk); return &chunk }
	c.frames.New = func() any { return new(bytes.Buffer) }
	return c, nil
}

// newZstdEncoder: on PostgreSQL's pages and WAL the next level takes twice the CPU for
// a few percent of space (DESIGN.md).
func newZstdEncoder() any {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return err
	}
	return encoder
}

func newLZ4Encoder() any {
	encoder := lz4.NewWriter(nil)
	if err := encoder.Apply(lz4.ConcurrencyOption(1), lz4.ChecksumOption(true), lz4.BlockSizeOption(lz4.Block1Mb)); err != nil {
		return err
	}
	return encoder
}

func gzipEncoders(level int) func() any {
	return func() any {
		encoder, err := gzip.NewWriterLevel(nil, level)
		if err != nil {
			return err
		}
		return encoder
	}
}

// encoder takes an encoder from the pool, or the error of making one.
func encoder[E any](c *codec) (E, error) {
	v := c.encoders.Get()
	if e, ok := v.(E); ok {
		return e, nil
	}
	var none E
	return none, fmt.Errorf("compression: %v", v)
}

func (c *codec) zstdFrame(frame *bytes.Buffer, chunk []byte) error {
	e, err := encoder[*zstd.Encoder](c)
	if err != nil {
		return err
	}
	frame.Write(e.EncodeAll(chunk, appendSkippableHead(frame.AvailableBuffer())))
	c.encoders.Put(e)
	setSkippableSize(frame.Bytes())
	return nil
}

func (c *codec) lz4Frame(frame *bytes.Buffer, chunk []byte) error {
	e, err := encoder[*lz4.Writer](c)
	if err != nil {
		return err
	}
	frame.Write(appendSkippableHead(nil))
	e.Reset(frame)
	if err := c.finish(e, e, chunk); err != nil {
		return err
	}
	setSkippableSize(frame.Bytes())
	return nil
}

func (c *codec) gzipMember(frame *bytes.Buffer, chunk []byte) error {
	e, err := encoder[*gzip.Writer](c)
	if err != nil {
		return err
	}
	e.Reset(frame)
	e.Extra = []byte(memberExtra + "\x00\x00\x00\x00")
	if err := c.finish(e, e, chunk); err != nil {
		return err
	}
	setMemberSize(frame.Bytes())
	return nil
}

func (c *codec) finish(pooled any, e io.WriteCloser, chunk []byte) error {
	if _, err := e.Write(chunk); err != nil {
		return err
	}
	if err := e.Close(); err != nil {
		return err
	}
	c.encoders.Put(pooled)
	return nil
}
