package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg/backup"
)

// Standing is what a node may do with the archive. The zero Standing is Nobody.
type Standing int

// The standings of a node.
const (
	// Nobody neither uploads nor confirms: it is not known who this node is.
	Nobody Standing = iota
	// Holder has the current term, and uploads.
	Holder
	// Follower has its WAL from the holder, and only confirms what is in the repository.
	Follower
	// Stopping has the server end, which PostgreSQL's archiver must not delay.
	Stopping
)

// What Push answers besides failures; each ends with what happens next.
var (
	// ErrStopping has PostgreSQL's archiver end at once.
	ErrStopping = errors.New("the server is stopping; the file is archived after the next start")
	// ErrNotYet is a follower's answer while the holder has not archived the file.
	ErrNotYet = errors.New("the primary has not archived it yet; PostgreSQL asks again")
	// ErrNotHolder is the answer of a node whose part in the cluster is not known.
	ErrNotHolder = errors.New("this node has no part in the cluster now; PostgreSQL asks again")
	// ErrDifferent is a file whose name the repository has with other content.
	ErrDifferent = errors.New("the repository has it with other content")
	// ErrEnded is the answer once Run has returned.
	ErrEnded = errors.New("ramd is ending; PostgreSQL asks again")
)

// ArchiverConfig is what an Archiver works with.
type ArchiverConfig struct {
	// Open opens the repository and makes sure that it is this cluster's. It is called when
	// a repository is needed, and again after errors; the Archiver closes what it returns.
	Open func(context.Context) (*backup.Repository, error)
	// Dir is the path of the server's pg_wal.
	Dir func() string
	// Standing is called some forty times a second while a file is waited for.
	Standing func() Standing
	// Ahead is the directory of the flags that ArchiveCommand tests: empty files named as
	// the WAL files that were archived before PostgreSQL asked. It is the Archiver's own, and
	// PostgreSQL's user must be able to enter it. Empty means no flags.
	Ahead string
	// Workers is how many files are uploaded at once; zero means 4.
	Workers int
	// Wait is how long a follower waits for the holder before it says ErrNotYet; zero means
	// five seconds.
	Wait   time.Duration
	Logger zerolog.Logger
}

// Archiver makes WAL files durable in a repository. Its methods are safe for concurrent
// use; Run must be running for files to be uploaded.
type Archiver struct {
	cfg        ArchiverConfig
	repository *keeper
	asks       chan ask
	ended      chan struct{} // closed by Run

	mu     sync.Mutex
	record record
}

// ask is a file that PostgreSQL wants archived.
type ask struct {
	file  string
	reply chan error // holds one
}

const (
	standingPoll = 25 * time.Millisecond
	// uploadLimit bounds one file, so that a connection that hangs is given up.
	uploadLimit = 10 * time.Minute
)

// NewArchiver makes an archiver, and empties the directory of its flags. Nothing of the
// repository is touched yet.
func NewArchiver(cfg ArchiverConfig) (*Archiver, error) {
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	if cfg.Wait == 0 {
		cfg.Wait = 5 * time.Second
	}
	if err := emptyFlags(cfg.Ahead); err != nil {
		return nil, fmt.Errorf("flags of archived WAL: %w", err)
	}
	return &Archiver{cfg: cfg, repository: newKeeper(cfg.Open), asks: make(chan ask), ended: make(chan struct{})}, nil
}

// emptyFlags makes the directory of flags and removes what a former run left: what was
// archived for another server or into another repository does not count.
func emptyFlags(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Push returns nil when the file is durable in the repository. A backup label is accepted
// without being stored. What a Holder stores is checked first: a segment must be this
// system's, and what its name says. Push may return an error while the upload goes on; the
// next Push then finds it.
func (a *Archiver) Push(ctx context.Context, file string) error {
	n, err := ParseName(file)
	if err != nil {
		return err
	}
	if n.Kind == Label {
		return nil
	}
	err = a.push(ctx, file)
	a.noteAsked(file, err)
	return err
}

func (a *Archiver) push(ctx context.Context, file string) error {
	var waited time.Duration
	for {
		var err error
		switch a.cfg.Standing() {
		case Holder:
			err = a.askHolder(ctx, file)
		case Follower:
			waited, err = a.confirm(ctx, file, waited)
		case Stopping:
			return ErrStopping
		default:
			return ErrNotHolder
		}
		if !errors.Is(err, errStandingChanged) {
			return err
		}
	}
}

// errStandingChanged ends a wait for which the node no longer has the standing.
var errStandingChanged = errors.New("the node's part in the cluster has changed")

// askHolder waits for Run to upload the file.
func (a *Archiver) askHolder(ctx context.Context, file string) error {
	q := ask{file: file, reply: make(chan error, 1)}
	select {
	case a.asks <- q:
	case <-a.ended:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
	tick := time.NewTicker(standingPoll)
	defer tick.Stop()
	for {
		select {
		case err := <-q.reply:
			return err
		case <-a.ended:
			return ErrEnded
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if a.cfg.Standing() != Holder {
				return errStandingChanged
			}
		}
	}
}
