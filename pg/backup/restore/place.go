package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg/backup"
)

// place is a directory that is filled: the data directory, or a tablespace. Nothing
// is written outside of it, whatever links somebody makes in it meanwhile: all paths
// are resolved by os.Root. Safe for concurrent use.
type place struct {
	path        string
	root        *os.Root
	whole       *os.File // the directory itself: opened first, so that it sees every error of writing back
	uid, gid    int
	segmentSize int64
	// tablespaces are those whose links belong into the data directory; nil for others.
	tablespaces map[uint32]bool
	needs       int64 // bytes

	mu   sync.Mutex
	made map[string]bool
	held map[string]*bytes.Buffer // files that are written last
}

// places are all that a backup needs, by the OID of the tablespace; zero is the data
// directory.
type places struct {
	dir *place
	of  map[uint32]*place
}

// openPlaces makes the directories, which must be empty or absent, and the links to
// the tablespaces, when there is room for what comes.
func openPlaces(o Options) (*places, error) {
	p := &places{of: make(map[uint32]*place)}
	p.dir = &place{path: o.Dir, tablespaces: make(map[uint32]bool)}
	p.of[0] = p.dir
	for _, t := range o.Entry.Tablespaces {
		location := t.Location
		if o.Tablespace != nil {
			location = o.Tablespace(t)
		}
		p.of[t.OID] = &place{path: location}
		p.dir.tablespaces[t.OID] = true
	}
	for _, part := range o.Entry.Parts {
		p.of[part.Tablespace].needs += part.Plain
	}
	if err := errors.Join(p.checkPaths(), p.checkEmpty()); err != nil {
		return nil, err
	}
	if err := p.checkRoom(); err != nil {
		return nil, err
	}
	for _, place := range p.of {
		place.uid, place.gid, place.segmentSize = o.UID, o.GID, o.Entry.SegmentSize
		if err := place.open(); err != nil {
			p.close()
			return nil, err
		}
	}
	if err := p.link(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// checkPaths makes sure that no place is inside another.
func (p *places) checkPaths() error {
	for oid, a := range p.of {
		if !filepath.IsAbs(a.path) || strings.ContainsAny(a.path, "\x00\n\r") {
			return fmt.Errorf("tablespace %d has no absolute path to go to but %q", oid, a.path)
		}
		a.path = filepath.Clean(a.path)
	}
	for oid, a := range p.of {
		for other, b := range p.of {
			if oid != other && (a.path == b.path || strings.HasPrefix(a.path, b.path+string(filepath.Separator))) {
				return fmt.Errorf("%s, the place of tablespace %d, is also of %d; give each a place of its own", a.path, oid, other)
			}
		}
	}
	return nil
}

func (p *places) checkEmpty() error {
	for oid, a := range p.of {
		entries, err := os.ReadDir(a.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(entries) == 0 {
			continue
		}
		if oid == 0 {
			return fmt.Errorf("%s is not empty; remove what is in it or choose another directory", a.path)
		}
		return fmt.Errorf("%s, where tablespace %d goes, is not empty; move what is in it away", a.path, oid)
	}
	return nil
}

// open makes the directory and takes it.
func (a *place) open() error {
	if err := os.MkdirAll(filepath.Dir(a.path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(a.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var err error
	if a.whole, err = os.OpenFile(a.path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); err != nil {
		return err
	}
	if err := errors.Join(a.own(a.whole), a.whole.Chmod(0o700)); err != nil {
		return err
	}
	a.made, a.held = map[string]bool{".": true}, make(map[string]*bytes.Buffer)
	a.root, err = os.OpenRoot(a.path)
	return err
}

func (a *place) own(f *os.File) error {
	if a.uid < 0 && a.gid < 0 {
		return nil
	}
	return f.Chown(a.uid, a.gid)
}

// link makes the links to the tablespaces.
func (p *places) link() error {
	for oid, a := range p.of {
		if oid == 0 {
			continue
		}
		if err := p.dir.makeDir("pg_tblspc"); err != nil {
			return err
		}
		name := filepath.Join("pg_tblspc", strconv.FormatUint(uint64(oid), 10))
		if err := p.dir.root.Symlink(a.path, name); err != nil {
			return err
		}
		if a.uid >= 0 || a.gid >= 0 {
			if err := p.dir.root.Lchown(name, a.uid, a.gid); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeDir makes a directory and those on the way to it.
func (a *place) makeDir(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.makeDirs(name)
}

func (a *place) makeDirs(name string) error {
	if a.made[name] {
		return nil
	}
	if err := a.makeDirs(filepath.Dir(name)); err != nil {
		return err
	}
	if err := a.root.Mkdir(name, 0o700); err != nil {
		return &writeError{err}
	}
	if a.uid >= 0 || a.gid >= 0 {
		if err := a.root.Lchown(name, a.uid, a.gid); err != nil {
			return &writeError{err}
		}
	}
	a.made[name] = true
	return nil
}

// maxHeld bounds the files that are kept in memory until the end.
const maxHeld = 1 << 20

// create begins a file. Close may be called again.
func (a *place) create(name string, size int64) (io.WriteCloser, error) {
	if err := a.makeDir(filepath.Dir(name)); err != nil {
		return nil, err
	}
	if a.tablespaces != nil && isDropped(name) {
		return discard{io.Discard}, nil
	}
	if a.tablespaces != nil && isHeld(name) {
		if size > maxHeld {
			return nil, fmt.Errorf("%s has %d bytes, which is not what it is", name, size)
		}
		content := &bytes.Buffer{}
		a.mu.Lock()
		a.held[name] = content
		a.mu.Unlock()
		return discard{content}, nil
	}
	return a.createFile(name)
}

func (a *place) createFile(name string) (*writing, error) {
	f, err := a.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := a.own(f); err != nil {
		f.Close()
		return nil, err
	}
	return &writing{File: f}, nil
}

// discard is a file that is not, or not yet, written to the disk.
type discard struct{ io.Writer }

// Close does nothing.
func (discard) Close() error { return nil }

// writing is a file whose pages are on their way to the disk while more come: the
// flush at the end then has little left to do, and dirty pages do not pile up.
type writing struct {
	*os.File
	at, begun int64
}

const writeBackEvery = 8 << 20

// Write starts writing back now and then. That it cannot is of no matter.
func (w *writing) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	w.at += int64(n)
	if w.at-w.begun >= writeBackEvery {
		_ = unix.SyncFileRange(int(w.Fd()), w.begun, w.at-w.begun, unix.SYNC_FILE_RANGE_WRITE)
		w.begun = w.at
	}
	return n, err
}

// finish makes everything durable, and then what makes it a data directory.
func (p *places) finish(ctx context.Context) error {
	for _, a := range p.of {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := unix.Syncfs(int(a.whole.Fd())); err != nil {
			return fmt.Errorf("flush %s to disk: %w", a.path, err)
		}
	}
	for _, name := range []string{"global/pg_control", "PG_VERSION"} {
		content := p.dir.held[name]
		if content == nil {
			return fmt.Errorf("%w: it has no %s", backup.ErrDamaged, name)
		}
		if err := p.dir.writeHeld(name, content.Bytes()); err != nil {
			return &writeError{err}
		}
	}
	return p.dir.whole.Sync()
}

func (a *place) writeHeld(name string, content []byte) error {
	f, err := a.createFile(name)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	dir, err := a.root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (p *places) close() {
	for _, a := range p.of {
		if a.root != nil {
			a.root.Close()
		}
		if a.whole != nil {
			a.whole.Close()
		}
	}
}
