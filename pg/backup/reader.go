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

// reader is the plain stream of a sealed object.
type reader struct {
	object  string
	key     keyring
	source  *source
	ext     string // of the compression
	marks   *markReader
	plain   io.Reader
	release func()

	size int64
	crc  hash.Hash32
	err  error // what the end was; io.EOF when all is well
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
func newReader(stored io.ReadCloser, object string, key keyring) (*reader, error) {
	r := &reader{object: object, key: key, source: &source{ReadCloser: stored}, crc: newCRC(), release: func() {}}
	r.ext = strings.TrimPrefix(strings.TrimSuffix(object, ageExt), plainName(object))
	compressed, err := r.unseal(strings.HasSuffix(object, ageExt))
	if err != nil {
		return nil, err
	}
	r.marks = newMarkReader(compressed, r.ext)
	plain, release, err := newDecoder(r.ext, r.marks)
	if err != nil {
		return nil, r.explain(err)
	}
	r.plain, r.release = plain, release
	return r, nil
}

// unseal is the compressed stream.
func (r *reader) unseal(sealed bool) (io.Reader, error) {
	if !sealed {
		return r.source, nil
	}
	if len(r.key.identities) == 0 {
		return nil, fmt.Errorf("object %s: %w: it is encrypted and the repository has no key_file; set encryption { key_file } to the key that it was written with", r.object, ErrKey)
	}
	compressed, err := age.Decrypt(r.source, r.key.identities...)
	if wrong := (*age.NoIdentityMatchError)(nil); r.source.err == nil && errors.As(err, &wrong) {
		return nil, fmt.Errorf("object %s: %w: it was encrypted for another key than those in %s, or its first bytes are damaged; add the key that it was written with to that file", r.object, ErrKey, r.key.file)
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
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.plain.Read(p)
	r.size += int64(n)
	r.crc.Write(p[:n])
	switch {
	case err == io.EOF:
		r.err = r.checkEnd()
	case err != nil:
		r.err = r.explain(err)
	}
	if n > 0 && r.err == io.EOF {
		return n, nil
	}
	return n, r.err
}

// checkEnd is io.EOF when the stream ends as it was written.
func (r *reader) checkEnd() error {
	if !r.marks.end {
		if _, err := io.Copy(io.Discard, r.marks); err != nil {
			return r.explain(err)
		}
	}
	want := endMark{plain: r.size, plainCRC: r.crc.Sum32(), streamCRC: r.marks.crc.Sum32()}
	if !bytes.Equal(r.marks.tail, want.encode(r.ext)) {
		return r.explain(errors.New("it is cut off, or has been changed"))
	}
	return io.EOF
}

// Close ends the reading, at any time.
func (r *reader) Close() error {
	if r.err == nil {
		r.err = fmt.Errorf("object %s: read after Close", r.object)
	}
	r.release()
	r.release = func() {}
	return r.source.Close()
}
