package restore

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/ramhq/ram/pg/backup"
)

// unpacker puts the files of one part into their place.
type unpacker struct {
	repository *backup.Repository
	part       backup.Part
	name       string // of the object, without the extensions of its encoding
	into       *place
	files      *ledger
	done       *atomic.Int64 // bytes of all parts so far
}

// copyBuffer is large enough that the calls cost little, and small enough to stay in
// the processor's cache.
const copyBuffer = 256 << 10

func (u *unpacker) run(ctx context.Context) error {
	object, err := u.repository.Read(ctx, u.name)
	if errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("%w: a part is missing: %w", backup.ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	defer object.Close()
	from := &watched{from: object}
	archive := tar.NewReader(&counting{from: from, done: u.done})
	buffer := make([]byte, copyBuffer)
	count := 0
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = u.entry(header, archive, buffer)
		}
		if wrong := (*writeError)(nil); errors.As(err, &wrong) || ctx.Err() != nil && err != nil {
			return err
		}
		if err != nil {
			return from.blame(u.part.Object, err)
		}
		if header.Typeflag == tar.TypeReg {
			count++
		}
	}
	if count != u.part.Files {
		return from.blame(u.part.Object, fmt.Errorf("it has %d files instead of %d", count, u.part.Files))
	}
	// Only the end of the object tells that all of it was right.
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{from}, buffer); err != nil {
		return from.blame(u.part.Object, err)
	}
	return nil
}

// entry unpacks one entry. PostgreSQL's backups have directories, files, and links
// for tablespaces; nothing else is accepted.
func (u *unpacker) entry(h *tar.Header, content io.Reader, buffer []byte) error {
	name, err := localName(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.into.makeDir(name)
	case tar.TypeReg:
		return u.file(name, h.Size, content, buffer)
	case tar.TypeSymlink:
		return u.link(name)
	}
	return fmt.Errorf("%q is of kind %q, which no base backup has", h.Name, h.Typeflag)
}

// link accepts the links to tablespaces, which are made elsewhere: they lead to where
// the tablespaces go now.
func (u *unpacker) link(name string) error {
	dir, base := path.Split(name)
	oid, err := strconv.ParseUint(base, 10, 32)
	if u.part.Tablespace != 0 || dir != "pg_tblspc/" || err != nil || !u.into.tablespaces[uint32(oid)] {
		return fmt.Errorf("%q is a link, and not to a tablespace of the backup", name)
	}
	return nil
}

// castagnoli is read only.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// file writes one, and compares it with the manifest on the way.
func (u *unpacker) file(name string, size int64, content io.Reader, buffer []byte) error {
	listed := name
	if u.part.Tablespace != 0 {
		listed = path.Join("pg_tblspc", strconv.FormatUint(uint64(u.part.Tablespace), 10), name)
	}
	due, err := u.files.begin(listed, size, u.into.segmentSize)
	if err != nil {
		return err
	}
	to, err := u.into.create(name, size)
	if err != nil {
		return &writeError{err}
	}
	defer to.Close()
	sum := uint32(0)
	for {
		n, readErr := content.Read(buffer)
		if n > 0 {
			sum = crc32.Update(sum, castagnoli, buffer[:n])
			if _, err := to.Write(buffer[:n]); err != nil {
				return &writeError{err}
			}
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return readErr
		}
	}
	if due != nil && sum != due.crc32c {
		return fmt.Errorf("file %q has CRC32C %08x, the manifest says %08x", listed, sum, due.crc32c)
	}
	if err := to.Close(); err != nil {
		return &writeError{err}
	}
	return nil
}

// writeError is an error of the directory and not of the repository.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// counting counts what is read.
type counting struct {
	from io.Reader
	done *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.done.Add(int64(n))
	return n, err
}

// isHeld reports whether a file of the data directory is written last.
func isHeld(name string) bool {
	return name == "PG_VERSION" || name == "global/pg_control"
}

// isDropped reports whether a file is checked and not kept. With tablespace_map,
// PostgreSQL would make the links to tablespaces anew, to where they once were.
func isDropped(name string) bool { return strings.EqualFold(name, "tablespace_map") }
