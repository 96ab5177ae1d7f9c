package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sweepAge is how old an unlocked file must be to be a leftover: its writer may be
// between making and locking it.
const sweepAge = time.Minute

// fileUpload writes a file that gets its name when it is whole and durable.
type fileUpload struct {
	ctx      context.Context // of the call that began it
	d        *directory
	root     *os.Root
	f        *os.File
	temp     string
	name     string
	ifAbsent bool
}

func (d *directory) create(ctx context.Context, name string, ifAbsent bool) (upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, d.failure(name, err)
	}
	root, err := d.root()
	if err != nil {
		return nil, err
	}
	d.sweep.Do(func() { sweepLeftovers(root) })
	u := &fileUpload{ctx: ctx, d: d, root: root, name: name, ifAbsent: ifAbsent, temp: path.Join(tempDir, rand.Text())}
	if u.f, err = u.openTemp(); err != nil {
		root.Close()
		return nil, d.failure(name, err)
	}
	return u, nil
}

func (u *fileUpload) openTemp() (*os.File, error) {
	if err := u.root.MkdirAll(tempDir, 0o700); err != nil {
		return nil, err
	}
	f, err := u.root.OpenFile(u.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	// A file system without locks has leftovers told by age alone.
	if err := lock(f); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.ENOLCK) {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweepLeftovers removes what killed writers have left. A leftover that cannot be
// removed does no harm.
func sweepLeftovers(root *os.Root) {
	entries, err := fs.ReadDir(root.FS(), tempDir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		name := path.Join(tempDir, entry.Name())
		f, err := root.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		if lock(f) == nil {
			root.Remove(name)
		}
		f.Close()
	}
}

func (u *fileUpload) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	n, err := u.f.Write(p)
	if err != nil {
		err = u.d.failure(u.name, err)
	}
	return n, err
}

func (u *fileUpload) commit() error {
	if u.ctx.Err() != nil {
		return context.Cause(u.ctx)
	}
	if err := u.f.Sync(); err != nil {
		return u.d.failure(u.name, err)
	}
	if err := u.place(); err != nil {
		return err
	}
	u.abort() // what is left is the temporary name
	return nil
}

// place gives the file its name, in a directory that a deletion may remove meanwhile.
func (u *fileUpload) place() error {
	for attempt := 0; ; attempt++ {
		err := u.makeDirs(path.Dir(u.name))
		if err == nil {
			err = u.rename()
		}
		if err == nil {
			err = syncIn(u.root, path.Dir(u.name))
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) || attempt == 10 {
			return u.d.failure(u.name, err)
		}
	}
}

// makeDirs makes directories durably, from the top down.
func (u *fileUpload) makeDirs(dir string) error {
	if dir == "." {
		return nil
	}
	if info, err := u.root.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := u.makeDirs(path.Dir(dir)); err != nil {
		return err
	}
	if err := u.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncIn(u.root, path.Dir(dir))
}

func (u *fileUpload) rename() error {
	if !u.ifAbsent {
		return u.root.Rename(u.temp, u.name)
	}
	err := u.root.Link(u.temp, u.name)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || err == nil {
		return err
	}
	return u.renameNoReplace(err)
}

// renameNoReplace serves file systems without hard links.
func (u *fileUpload) renameNoReplace(linkErr error) error {
	top, err := u.root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	fd := int(top.Fd())
	err = unix.Renameat2(fd, u.temp, fd, u.name, unix.RENAME_NOREPLACE)
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) {
		return fmt.Errorf("the file system can neither link (%w) nor rename without replacing", linkErr)
	}
	return err
}

// abort removes the temporary name, if it is still there.
func (u *fileUpload) abort() {
	if u.f == nil {
		return
	}
	u.root.Remove(u.temp)
	u.f.Close()
	u.root.Close()
	u.f = nil
}
