package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// A decoder makes a frame, head included, the plain bytes that it appends to dst,
// and has checked them. It is used by one goroutine at a time.
type decoder interface {
	decode(dst, frame []byte) ([]byte, error)
}

// decoders keeps the decoders that are not in use: what they hold is costly to make.
// Safe for concurrent use.
type decoders struct{ zstd, lz4, gzip sync.Pool }

func (d *decoders) pool(ext string) *sync.Pool {
	switch ext {
	case zstdExt:
		return &d.zstd
	case lz4Ext:
		return &d.lz4
	case gzipExt:
		return &d.gzip
	}
	return nil
}

// get is a decoder for the compression with an extension.
func (d *decoders) get(ext string) (decoder, error) {
	pool := d.pool(ext)
	if pool == nil {
		return nil, errors.New("its name ends in no extension of a compression")
	}
	if pooled, ok := pool.Get().(decoder); ok {
		return pooled, nil
	}
	switch ext {
	case zstdExt:
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrame))
		return zstdDecoder{z}, err
	case lz4Ext:
		z := lz4.NewReader(nil)
		return lz4Decoder{z}, z.Apply(lz4.ConcurrencyOption(1))
	}
	return gzipDecoder{new(gzip.Reader)}, nil
}

func (d *decoders) put(ext string, used decoder) { d.pool(ext).Put(used) }

type zstdDecoder struct{ z *zstd.Decoder }

func (d zstdDecoder) decode(dst, frame []byte) ([]byte, error) {
	return d.z.DecodeAll(frame[skippableHead:], dst)
}

type lz4Decoder struct{ z *lz4.Reader }

func (d lz4Decoder) decode(dst, frame []byte) ([]byte, error) {
	d.z.Reset(bytes.NewReader(frame[skippableHead:]))
	return appendAll(dst, d.z)
}

type gzipDecoder struct{ z *gzip.Reader }

func (d gzipDecoder) decode(dst, frame []byte) ([]byte, error) {
	if err := d.z.Reset(bytes.NewReader(frame)); err != nil {
		return dst, err
	}
	return appendAll(dst, d.z)
}

// appendAll reads a frame's content to its end, within bounds.
func appendAll(dst []byte, r io.Reader) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		case len(dst) > maxFrame:
			return dst, fmt.Errorf("a frame holds more than %d bytes", maxFrame)
		}
	}
}
