package instance

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// tempSuffix marks a file that is being written. There is one per name, so that
// what a killed process left is replaced by the next.
const tempSuffix = ".ram-tmp"

// writeFile replaces a file as a whole and durably: a crash leaves the old content
// or the new. The file belongs to PostgreSQL's user with mode 0600. As root it
// follows no link that this user may have put there.
func (u systemUser) writeFile(path string, content []byte) (err error) {
	temp := path + tempSuffix
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if err := u.fill(f, content); err != nil {
		f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (u systemUser) fill(f *os.File, content []byte) error {
	if err := u.own(f); err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// readFile reads a regular file. What is no regular file, a link for instance, and
// what is not there, reads as empty and false.
func readFile(path string) (content []byte, there bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, false, err
	}
	content, err = io.ReadAll(f)
	return content, err == nil, err
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// isEmptyOrAbsent reports whether a path holds nothing: it is not there, or is an
// empty directory.
func isEmptyOrAbsent(path string) (bool, error) {
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	return false, err
}
