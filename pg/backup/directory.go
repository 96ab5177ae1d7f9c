package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// tempDir holds objects that are being written. Its name begins with a dot, which
// no object's does.
const tempDir = ".ram-tmp"

// directory is a store in a directory, local or mounted. Objects are files that only
// their owner can read; one is there as a whole and durable, or not at all. No path
// leads out of it, whatever links it may hold.
type directory struct {
	path  string
	sweep sync.Once // leftovers of killed writers go before the first object is written
}

func newDirectory(path string) *directory { return &directory{path: path} }

func (d *directory) close() error { return nil }

// root opens the directory itself. It is not kept open: the file system may be
// mounted, or mounted anew, at any time.
func (d *directory) root() (*os.Root, error) {
	root, err := os.OpenRoot(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("repository %s: %w", d.path, errNoDirectory)
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w: %w", d.path, ErrUnavailable, err)
	}
	return root, nil
}

func (d *directory) failure(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("object %s: %w in %s", name, ErrNotFound, d.path)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("object %s: %w in %s", name, ErrExists, d.path)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrUnavailable):
		return err
	}
	return fmt.Errorf("object %s in %s: %w: %w", name, d.path, ErrUnavailable, err)
}

func (d *directory) open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, err := d.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, d.failure(name, err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, d.failure(name, errors.Join(err, errors.New("it is not a regular file")))
	}
	return &fileReader{ctx: ctx, d: d, name: name, f: f}, nil
}

// fileReader reads an object while its context lasts.
type fileReader struct {
	ctx  context.Context // of the call that opened it
	d    *directory
	name string
	f    *os.File
}

func (r *fileReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("object %s: %w", r.name, context.Cause(r.ctx))
	}
	n, err := r.f.Read(p)
	if err != nil && err != io.EOF {
		err = r.d.failure(r.name, err)
	}
	return n, err
}

func (r *fileReader) Close() error { return r.f.Close() }

func (d *directory) list(ctx context.Context, prefix string) ([]storedObject, error) {
	root, err := d.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	top := "."
	if end := strings.LastIndexByte(prefix, '/'); end >= 0 {
		top = prefix[:end]
	}
	var objects []storedObject
	err = fs.WalkDir(root.FS(), top, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case name == top:
			return nil
		case entry.IsDir():
			if hidden(entry.Name()) || !within(name+"/", prefix) {
				return fs.SkipDir
			}
			return nil
		case hidden(entry.Name()), !entry.Type().IsRegular(), !strings.HasPrefix(name, prefix):
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		objects = append(objects, storedObject{name: name, size: info.Size(), at: info.ModTime()})
		return nil
	})
	if err != nil {
		return nil, d.failure(prefix+"*", err)
	}
	return objects, nil
}

func hidden(name string) bool { return strings.HasPrefix(name, ".") }

// within reports whether a directory can hold names with the prefix.
func within(directory, prefix string) bool {
	return strings.HasPrefix(directory, prefix) || strings.HasPrefix(prefix, directory)
}

// remove also removes the directories that the object leaves empty.
func (d *directory) remove(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	root, err := d.root()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.failure(name, err)
	}
	dir := path.Dir(name)
	for ; dir != "."; dir = path.Dir(dir) {
		if err := root.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err := syncIn(root, dir); err != nil {
		return d.failure(name, err)
	}
	return nil
}

// syncIn makes the names in a directory durable.
func syncIn(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lock keeps a file that is being written from being swept, also by other hosts
// where the file system carries locks.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
