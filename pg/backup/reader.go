package backup

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"filippo.io/age"
)

// reader is the plain stream of a sealed object. It hands on what has been checked.
type reader struct {
	r      *Repository
	object string
	source *source
	ext    string // of the compression

	compressed io.Reader
	decoder    decoder
	frame      *bytes.Buffer // head and body of the frame that was read last
	chunk      []byte        // what is in it
	rest       []byte        // of chunk, which is to be handed on
	err        error         // what the end was; io.EOF when all is well

	size               int64
	plainCRC, frameCRC hash.Hash32
}

// source is a stored object; it keeps the error that reading met, so that it is not
// taken for damage.
type source struct {
	io.ReadCloser
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// newReader closes stored only through the reader that it returns.
func newReader(r *Repository, stored io.ReadCloser, object string) (_ *reader, err error) {
	reader := &reader{r: r, object: object, source: &source{ReadCloser: stored}, plainCRC: newCRC(), frameCRC: newCRC()}
	reader.ext = strings.TrimPrefix(strings.TrimSuffix(object, ageExt), plainName(object))
	if reader.compressed, err = reader.unseal(strings.HasSuffix(object, ageExt)); err != nil {
		return nil, err
	}
	if reader.decoder, err = r.decoders.get(reader.ext); err != nil {
		return nil, fmt.Errorf("object %s: %w", object, err)
	}
	reader.frame = r.codec.frames.Get().(*bytes.Buffer)
	reader.chunk = *r.codec.chunks.Get().(*[]byte)
	return reader, nil
}

// unseal is the compressed stream.
func (r *reader) unseal(sealed bool) (io.Reader, error) {
	if !sealed {
		return r.source, nil
	}
	if len(r.r.key.identities) == 0 {
		return nil, fmt.Errorf("object %s: %w: it is encrypted and the repository has no key_file; set encryption { key_file } to the key that it was written with", r.object, ErrKey)
	}
	compressed, err := age.Decrypt(r.source, r.r.key.identities...)
	if wrong := (*age.NoIdentityMatchError)(nil); r.source.err == nil && errors.As(err, &wrong) {
		return nil, fmt.Errorf("object %s: %w: it was encrypted for another key than those in %s, or its first bytes are damaged; add the key that it was written with to that file", r.object, ErrKey, r.r.key.file)
	}
	if err != nil {
		return nil, r.explain(err)
	}
	return compressed, nil
}

// explain tells damage from a repository that stopped answering.
func (r *reader) explain(err error) error {
	if r.source.err != nil {
		return r.source.err
	}
	return fmt.Errorf("object %s: %w: %w", r.object, ErrDamaged, err)
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.rest) == 0 && r.err == nil {
		r.err = r.next()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next reads a frame and checks it. After the last one it is io.EOF.
func (r *reader) next() error {
	r.frame.Reset()
	if err := r.take(headSize(r.ext)); err != nil {
		return err
	}
	size, mark, err := parseHead(r.ext, r.frame.Bytes())
	if err != nil {
		return r.explain(err)
	}
	if err := r.take(size); err != nil {
		return err
	}
	if mark {
		return r.checkEnd()
	}
	r.chunk, err = r.decoder.decode(r.chunk[:0], r.frame.Bytes())
	if err != nil {
		return r.explain(err)
	}
	r.frameCRC.Write(r.frame.Bytes())
	r.plainCRC.Write(r.chunk)
	r.size += int64(len(r.chunk))
	r.rest = r.chunk
	return nil
}

// take adds so many bytes to the frame.
func (r *reader) take(n int) error {
	_, err := io.CopyN(r.frame, r.compressed, int64(n))
	if err == io.EOF {
		err = errors.New("it is cut off")
	}
	if err != nil {
		return r.explain(err)
	}
	return nil
}

// checkEnd is io.EOF when the mark says what was read, and nothing follows it.
func (r *reader) checkEnd() error {
	want := endMark{plain: r.size, plainCRC: r.plainCRC.Sum32(), streamCRC: r.frameCRC.Sum32()}
	if !bytes.Equal(r.frame.Bytes(), want.encode(r.ext)) {
		return r.explain(errors.New("its end does not match what is before it"))
	}
	var more [1]byte
	switch n, err := io.ReadFull(r.compressed, more[:]); {
	case n > 0:
		return r.explain(errors.New("something follows its end"))
	case err != io.EOF:
		return r.explain(err)
	}
	return io.EOF
}

// Close ends the reading, at any time.
func (r *reader) Close() error {
	if r.decoder != nil {
		r.r.decoders.put(r.ext, r.decoder)
		r.r.codec.frames.Put(r.frame)
		r.chunk = r.chunk[:0]
		r.r.codec.chunks.Put(&r.chunk)
		r.decoder, r.rest, r.err = nil, nil, fmt.Errorf("object %s: read after Close", r.object)
	}
	return r.source.Close()
}
