package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg/backup"
)

// ErrNotFound says that the repository, which is there, does not have the file.
var ErrNotFound = errors.New("the archive does not have it")

// FetcherConfig is what a Fetcher works with.
type FetcherConfig struct {
	// Open opens the repository. It is called when a repository is needed, and again after
	// errors; the Fetcher closes what it returns.
	Open func(context.Context) (*backup.Repository, error)
	// Spool is a directory of the Fetcher's own, for files on their way. NewFetcher makes it,
	// and empties it. Its files are for ramd's user only.
	Spool string
	// Workers is how many segments are fetched ahead at once; zero means 4.
	Workers int
	// Window is how many segments are fetched ahead; zero means 8, and never more than
	// 128 MB, though always one.
	Window int
	Logger zerolog.Logger
}

// Fetcher gets WAL files out of a repository. Once segments are asked for one after the
// other, it fetches those that come next ahead, if Run is running. Its methods are safe
// for concurrent use.
type Fetcher struct {
	cfg        FetcherConfig
	repository *keeper
	// plans holds the newest plan that Run has not seen yet; observe replaces it.
	plans chan plan

	mu       sync.Mutex
	sequence sequence
	items    map[string]*item
	hits     int // segments that had been fetched, or begun, before they were asked for
}

// item is a segment that is being fetched ahead, or was: when done is closed without an
// error, the spool has it.
type item struct {
	done chan struct{}
	err  error
}

// NewFetcher makes a fetcher with an empty spool. Nothing of the repository is touched yet.
func NewFetcher(cfg FetcherConfig) (*Fetcher, error) {
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	if cfg.Window == 0 {
		cfg.Window = 8
	}
	f := &Fetcher{cfg: cfg, repository: newKeeper(cfg.Open), plans: make(chan plan, 1), items: map[string]*item{}}
	if err := f.emptySpool(); err != nil {
		return nil, fmt.Errorf("spool of fetched WAL: %w", err)
	}
	return f, nil
}

func (f *Fetcher) emptySpool() error {
	if err := os.Mkdir(f.cfg.Spool, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	entries, err := os.ReadDir(f.cfg.Spool)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(f.cfg.Spool, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Fetch puts a file at a path, whole or not at all; what was there is replaced. The error
// is ErrNotFound only when the repository was seen to be there without the file: any
// other says that it is not known whether it has it.
func (f *Fetcher) Fetch(ctx context.Context, name, to string) error {
	in, err := f.Open(ctx, name)
	if err != nil {
		return err
	}
	defer in.Close()
	return placeFile(to, in)
}

// placeFile writes a file beside its path and renames it there.
func placeFile(to string, in io.Reader) (err error) {
	temp := to + ".ram-tmp"
	if err := os.Remove(temp); err != nil && !os.IsNotExist(err) {
		return err
	}
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(temp, to)
}

// Open is a file of the repository, checked to be what its name says, at its beginning.
// It has no name any more: closing it frees its space. Errors are those of Fetch.
func (f *Fetcher) Open(ctx context.Context, name string) (*os.File, error) {
	n, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	if n.Kind == Label { // never stored
		return nil, ErrNotFound
	}
	if n.Kind == Segment {
		f.observe(n)
		if file, err := f.ahead(ctx, name); file != nil || err != nil {
			return file, err
		}
	}
	return f.direct(ctx, name, n)
}

// ahead is a segment that was fetched ahead. It is nil when there is none, or when
// fetching it ahead failed.
func (f *Fetcher) ahead(ctx context.Context, name string) (*os.File, error) {
	f.mu.Lock()
	it := f.items[name]
	f.mu.Unlock()
	if it == nil {
		return nil, nil
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if it.err != nil || f.items[name] != it { // failed, or taken by another
		return nil, nil
	}
	delete(f.items, name)
	f.hits++
	path := filepath.Join(f.cfg.Spool, name)
	file, err := os.Open(path)
	if err != nil {
		return nil, nil
	}
	_ = os.Remove(path)
	return file, nil
}

// direct fetches a file that nobody fetched ahead.
func (f *Fetcher) direct(ctx context.Context, name string, n Name) (*os.File, error) {
	file, err := os.CreateTemp(f.cfg.Spool, name+".*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(file.Name())
	if err := f.get(ctx, name, n, file); err != nil {
		file.Close()
		return nil, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

// get reads a file of the repository into another, and makes sure that it is what its name
// says.
func (f *Fetcher) get(ctx context.Context, name string, n Name, to *os.File) error {
	object, err := backup.WALName(name)
	if err != nil {
		return err
	}
	return f.repository.use(ctx, func(h *handle) error {
		in, err := h.Read(ctx, object)
		if errors.Is(err, backup.ErrNotFound) {
			if err := h.confirm(ctx); err != nil {
				return err
			}
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		defer in.Close()
		if _, err := io.Copy(to, io.LimitReader(in, limit(n)+1)); err != nil {
			return fmt.Errorf("fetch %s: %w", name, err)
		}
		if err := checkFile(to, n, h.owner.SystemID); err != nil {
			return errHere{fmt.Errorf("%s in the repository is not what its name says: %w", object, err)}
		}
		if n.Kind == Segment {
			return f.learnSize(to)
		}
		return nil
	})
}

// limit is the most bytes that a file can have.
func limit(n Name) int64 {
	if n.Kind == History {
		return maxHistory
	}
	return 1 << 30
}

// learnSize remembers the segment size, without which the next segment has no name.
func (f *Fetcher) learnSize(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sequence.size = info.Size()
	return nil
}

// idleAfter is when nobody is taken to go on asking.
const idleAfter = 30 * time.Second
