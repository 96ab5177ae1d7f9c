package wal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
)

// State is how archiving stands.
type State struct {
	// Backlog is how many files wait for PostgreSQL's archiver, and Bytes what they come to.
	Backlog int
	Bytes   pg.Bytes
	// Oldest is for how long the oldest of them has been waiting; zero without any.
	Oldest time.Duration
	// Last is the file that was archived last, or confirmed on a follower, since ramd
	// started, and LastAt when. Empty before the first.
	Last   string
	LastAt time.Time
	// Error is why the last attempt failed, since ErrorSince without success in between.
	// Empty while all is well; what only waits for the primary is no error.
	Error      string
	ErrorSince time.Time
}

// record is what the Archiver remembers for State; its mutex guards it.
type record struct {
	last    string
	lastAt  time.Time
	failed  string // the file of the error
	err     string
	errFrom time.Time
}

// State looks at archive_status: one reading of a directory. Where there is none, nothing
// waits.
func (a *Archiver) State() State {
	a.mu.Lock()
	s := State{Last: a.record.last, LastAt: a.record.lastAt, Error: a.record.err, ErrorSince: a.record.errFrom}
	a.mu.Unlock()
	dir := a.cfg.Dir()
	ready, err := readyFiles(dir)
	if err != nil || len(ready) == 0 {
		return s
	}
	s.Backlog = len(ready)
	s.Bytes = backlogBytes(dir, ready)
	if info, err := os.Lstat(filepath.Join(statusDir(dir), ready[0]+readySuffix)); err == nil {
		s.Oldest = max(0, time.Since(info.ModTime()))
	}
	return s
}

// backlogBytes counts segments at the size of one of them.
func backlogBytes(dir string, ready []string) pg.Bytes {
	var segments, size int64
	for _, file := range ready {
		if n, err := ParseName(file); err != nil || n.Kind != Segment && n.Kind != Partial {
			continue
		}
		segments++
		if size == 0 {
			if info, err := os.Lstat(filepath.Join(dir, file)); err == nil {
				size = info.Size()
			}
		}
	}
	return pg.Bytes(segments * size)
}

// readySuffix ends the names of the files by which PostgreSQL remembers what to archive.
const readySuffix = ".ready"

func statusDir(dir string) string { return filepath.Join(dir, "archive_status") }

// readyFiles are the files to archive: histories first, as PostgreSQL does, then by age.
func readyFiles(dir string) ([]string, error) {
	d, err := os.Open(statusDir(dir))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var histories, ready []string
	for _, name := range names {
		file, ok := strings.CutSuffix(name, readySuffix)
		if !ok {
			continue
		}
		n, err := ParseName(file)
		switch {
		case err != nil || n.Kind == Label:
		case n.Kind == History:
			histories = append(histories, file)
		default:
			ready = append(ready, file)
		}
	}
	slices.Sort(histories)
	slices.Sort(ready)
	return append(histories, ready...), nil
}

// noteAsked remembers what became of a file that PostgreSQL asked for.
func (a *Archiver) noteAsked(file string, err error) {
	switch {
	case errors.Is(err, ErrStopping) || errors.Is(err, ErrNotYet) || errors.Is(err, ErrNotHolder) || errors.Is(err, ErrEnded):
	case err != nil:
		a.noteFailure(file, err)
	default:
		a.noteSuccess(file, true)
	}
}

// noteUploaded remembers what became of a file that nobody may have asked for.
func (a *Archiver) noteUploaded(file string, err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist): // PostgreSQL removed it, having archived it
	case err != nil:
		a.noteFailure(file, err)
	default:
		a.noteSuccess(file, false)
	}
}

func (a *Archiver) noteFailure(file string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.record.err == "" {
		a.record.errFrom = time.Now()
		a.cfg.Logger.Warn().Str("file", file).Err(err).Msg("WAL archiving fails")
	}
	a.record.failed, a.record.err = file, err.Error()
}

// noteSuccess ends an error: PostgreSQL asks for one file until it is archived, so its
// success counts for all, and another one's only for the same file.
func (a *Archiver) noteSuccess(file string, asked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record.last, a.record.lastAt = file, time.Now()
	if a.record.err == "" || !asked && file != a.record.failed {
		return
	}
	a.cfg.Logger.Info().Str("file", file).Dur("failed_for", time.Since(a.record.errFrom)).Msg("WAL archiving works again")
	a.record.err, a.record.failed, a.record.errFrom = "", "", time.Time{}
}
