package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// store makes one file of pg_wal durable in the repository, after making sure that it is
// what its name says.
func (a *Archiver) store(ctx context.Context, file string, workers int) error {
	n, err := ParseName(file)
	if err != nil {
		return err
	}
	object, err := backup.WALName(file)
	if err != nil {
		return err
	}
	f, err := openRegular(filepath.Join(a.cfg.Dir(), file))
	if err != nil {
		return err
	}
	defer f.Close()
	return a.repository.use(ctx, func(h *handle) error {
		if err := checkFile(f, n, h.owner.SystemID); err != nil {
			return errHere{fmt.Errorf("%s is not archived, for it is not what its name says: %w; look at what wrote it", file, err)}
		}
		// Before, for storing makes the directory of a repository; after, for only then is it
		// known where the file has gone.
		if err := h.confirm(ctx); err != nil {
			return err
		}
		err := create(ctx, h, object, f, workers)
		switch {
		case errors.Is(err, backup.ErrExists) && n.Kind == Partial:
			// Two servers that left the timeline at different points each have one. The first
			// segment of the timeline that each began has all of it.
			err = nil
		case errors.Is(err, backup.ErrExists):
			err = compare(ctx, h, object, f)
		}
		if err != nil {
			return err
		}
		return h.confirm(ctx)
	})
}

// openRegular opens a file, and no link that PostgreSQL's user may have put in its place:
// ramd may be root.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// checkFile refuses a file that is not what its name says.
func checkFile(f *os.File, n Name, id pg.SystemID) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if n.Kind == History {
		return checkHistory(f, info.Size(), n.Timeline)
	}
	h, err := readHeader(f, n, id)
	if err != nil {
		return err
	}
	if info.Size() != h.segmentSize {
		return fmt.Errorf("it has %d bytes, and a segment has %d", info.Size(), h.segmentSize)
	}
	return nil
}

func checkHistory(f io.ReaderAt, size int64, t pg.Timeline) error {
	if size > maxHistory {
		return fmt.Errorf("it has %d bytes, more than a history ever has", size)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return err
	}
	_, err = parseHistory(t, string(text))
	return err
}

// create stores the file unless the object is there.
func create(ctx context.Context, h *handle, object string, f io.ReaderAt, workers int) error {
	w, err := h.Create(ctx, object, backup.CreateOptions{IfAbsent: true, Workers: workers})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, io.NewSectionReader(f, 0, 1<<40)); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

// compare accepts an object that has the content of the file.
func compare(ctx context.Context, h *handle, object string, f io.ReaderAt) error {
	r, err := h.Read(ctx, object)
	if err != nil {
		return err
	}
	defer r.Close()
	same, err := equal(r, io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return err
	}
	if !same {
		return errHere{fmt.Errorf("%w; another server archives into this repository, or this one was taken back in time by hand: "+
			"find out which content is right, and move %s out of the repository when this server's is", ErrDifferent, object)}
	}
	return nil
}

// equal compares two streams to their ends.
func equal(a, b io.Reader) (bool, error) {
	const piece = 256 << 10
	mine, theirs := make([]byte, piece), make([]byte, piece)
	for {
		m, errA := io.ReadFull(a, mine)
		if errA != nil && !atEnd(errA) {
			return false, errA
		}
		n, errB := io.ReadFull(b, theirs)
		if errB != nil && !atEnd(errB) {
			return false, errB
		}
		if !bytes.Equal(mine[:m], theirs[:n]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return true, nil
		}
	}
}

func atEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
