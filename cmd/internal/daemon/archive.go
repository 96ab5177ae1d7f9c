package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/wal"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/reconcile"
)

// archive carries WAL between the local PostgreSQL and the repository.
type archive struct {
	host     *host
	depot    depot
	archiver *wal.Archiver
	fetcher  *wal.Fetcher
	gate     wal.Gate
	// fetched is when a file last came from the repository, in nanoseconds since 1970.
	fetched atomic.Int64
	// rewinding is set while pg_rewind is what asks for WAL; lineages are wal.Lineage by
	// pg.Timeline.
	rewinding atomic.Bool
	lineages  sync.Map
}

// Names in the directory that PostgreSQL's user may enter.
const (
	walSocket     = "wal.sock"
	walGate       = "wal.shut"
	walAhead      = "wal-ahead"
	recoverSocket = "recover.sock"
)

// program is the path of this ramd, for PostgreSQL to call.
func (h *host) program() string {
	if len(h.guard) > 0 {
		return h.guard[0]
	}
	path, err := os.Executable()
	if err != nil {
		return "ramd" // on PATH, then
	}
	return path
}

// newArchive makes what Run runs. The directory with the sockets has to be there.
func newArchive(h *host, d depot) (*archive, error) {
	a := &archive{host: h, depot: d, gate: wal.NewGate(filepath.Join(h.runDir(), walGate))}
	log := h.log.With().Str("part", "archive").Logger()
	var err error
	a.archiver, err = wal.NewArchiver(wal.ArchiverConfig{
		Open: func(ctx context.Context) (*backup.Repository, error) { return d.own(ctx, a.repository()) },
		Dir:  h.walDir, Standing: h.standing, Ahead: filepath.Join(h.runDir(), walAhead), Logger: log,
	})
	if err != nil {
		return nil, err
	}
	a.fetcher, err = wal.NewFetcher(wal.FetcherConfig{
		Open:  func(ctx context.Context) (*backup.Repository, error) { return d.open(ctx, a.repository()) },
		Spool: filepath.Join(h.dataDir, "wal-spool"), Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return a, a.gate.Shut()
}

// repository is the one that WAL goes to; empty for none.
func (a *archive) repository() string {
	c := a.depot.record().Spec
	if c == nil || c.Archive == nil {
		return ""
	}
	return c.Archive.Repository
}

// run serves PostgreSQL's commands until ctx ends.
func (a *archive) run(ctx context.Context) error {
	service, err := wal.Listen(wal.ServiceConfig{
		Socket: filepath.Join(a.host.runDir(), walSocket), UID: a.host.postgresUID(),
		Push: a.archiver.Push, Fetch: a.fetch, Logger: a.host.log,
	})
	if err != nil {
		return fmt.Errorf("listen for PostgreSQL's archive_command: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return service.Serve(ctx) })
	group.Go(func() error { return a.archiver.Run(ctx) })
	group.Go(func() error { return a.fetcher.Run(ctx) })
	group.Go(func() error { return a.untilChanged(ctx) })
	return group.Wait()
}

// errRepositoryChanged ends an archive whose spec has changed: what is known to be in
// one repository is not in another.
var errRepositoryChanged = errors.New("the archive's repository has changed")

func (a *archive) untilChanged(ctx context.Context) error {
	at := a.repository()
	begun, _ := a.depot.find(at)
	for sleep(ctx, time.Second) {
		name := a.repository()
		if now, _ := a.depot.find(name); name != at || !reflect.DeepEqual(now, begun) {
			return errRepositoryChanged
		}
	}
	return nil
}

func (a *archive) fetch(ctx context.Context, name string) (*os.File, error) {
	file, err := a.fetcher.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	if a.strays(ctx, name, file) {
		file.Close()
		return nil, fmt.Errorf("%w: the cluster's timeline has left what %s holds", wal.ErrNotFound, name)
	}
	a.fetched.Store(time.Now().UnixNano())
	return file, nil
}

// strays reports whether a segment would lead a standby away from the primary. It learns
// of the primary's timeline when it connects, which may be later than it asks the
// repository. A rewind reads what was left on purpose.
func (a *archive) strays(ctx context.Context, name string, file *os.File) bool {
	info, err := file.Stat()
	if err != nil || a.rewinding.Load() {
		return false
	}
	for t := a.depot.record().Timeline; t > 1; t-- {
		if lineage, known := a.lineageOf(ctx, t); known {
			return lineage.Strays(name, info.Size())
		}
	}
	return false
}

// lineageOf is what the repository knows of a timeline's descent. A history never changes.
func (a *archive) lineageOf(ctx context.Context, t pg.Timeline) (wal.Lineage, bool) {
	if lineage, ok := a.lineages.Load(t); ok {
		return lineage.(wal.Lineage), true
	}
	file, err := a.fetcher.Open(ctx, fmt.Sprintf("%08X.history", uint32(t)))
	if err != nil {
		return wal.Lineage{}, false
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return wal.Lineage{}, false
	}
	lineage, known, err := wal.NewLineage(t, string(text))
	if err != nil || !known {
		return wal.Lineage{}, false
	}
	a.lineages.Store(t, lineage)
	return lineage, true
}

// sinceFetch is how long ago a file last came from the repository; zero when none has.
func (a *archive) sinceFetch() time.Duration {
	if at := a.fetched.Load(); at != 0 {
		return max(time.Since(time.Unix(0, at)), 1)
	}
	return 0
}

// report is how the archiving of the primary's WAL goes; nil on others.
func (a *archive) report(r *reconcile.Report) *reconcile.ArchiveReport {
	if a.repository() == "" || r.Server.State != pg.ServerRunning || r.Server.Recovery {
		return nil
	}
	s := a.archiver.State()
	report := &reconcile.ArchiveReport{
		Backlog: s.Backlog, Bytes: s.Bytes, Oldest: s.Oldest, Last: s.Last, LastAt: s.LastAt, Failure: s.Error,
	}
	if s.Error != "" && !s.ErrorSince.IsZero() {
		report.Failing = time.Since(s.ErrorSince)
	}
	return report
}

// tend opens the way from the repository to PostgreSQL while that may help: each time
// that it is asked for nothing costs a failover milliseconds.
func (a *archive) tend(assigned reconcile.Assignment, l reconcile.Local, apart time.Duration) {
	a.rewinding.Store(l.Data.Rewinding)
	open := a.repository() != "" && reconcile.FetchesWAL(assigned, l, apart)
	if open != a.gate.IsShut() {
		return
	}
	change := a.gate.Shut
	if open {
		change = a.gate.Open
	}
	if err := change(); err != nil {
		a.host.log.Warn().Err(err).Msg("the way from the repository to PostgreSQL could not be changed")
	}
}

// recoverySource serves WAL of one repository to a server that is being recovered.
type recoverySource struct {
	command string
	cancel  context.CancelFunc
	done    chan struct{}
}

func (h *host) recoverySource(ctx context.Context, _ *instance.Instance, repository string) (*recoverySource, error) {
	socket := filepath.Join(h.runDir(), recoverSocket)
	fetcher, err := wal.NewFetcher(wal.FetcherConfig{
		Open:  func(ctx context.Context) (*backup.Repository, error) { return h.depot.open(ctx, repository) },
		Spool: filepath.Join(h.dataDir, "recover-spool"), Logger: h.log,
	})
	if err != nil {
		return nil, err
	}
	service, err := wal.Listen(wal.ServiceConfig{
		Socket: socket, UID: h.postgresUID(), Fetch: fetcher.Open, Logger: h.log,
		Push: func(context.Context, string) error { return wal.ErrNotHolder },
	})
	if err != nil {
		return nil, fmt.Errorf("listen for PostgreSQL's restore_command: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &recoverySource{command: wal.RecoveryCommand(h.program(), socket), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return service.Serve(ctx) })
		group.Go(func() error { return fetcher.Run(ctx) })
		if err := group.Wait(); err != nil {
			h.log.Warn().Err(err).Msg("serving WAL to recovery ended")
		}
	}()
	return s, nil
}

func (s *recoverySource) close() {
	s.cancel()
	<-s.done
}
