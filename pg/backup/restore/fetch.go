package restore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/ident"
)

// Options say what is fetched, and whereto.
type Options struct {
	Repository *backup.Repository
	// Entry is the backup, from the repository's catalog.
	Entry backup.Entry
	// Dir becomes the data directory. It is empty or absent; its parent is there.
	Dir string
	// Tablespace says where a tablespace goes: an absolute path that is empty or absent,
	// outside Dir. Nil is where it was.
	Tablespace func(backup.Tablespace) string
	// UID and GID are whom everything is given to; -1 leaves it to the process's own.
	UID, GID int
	// Workers is how many parts are fetched at a time. Zero is twice the number of
	// processors, up to 4.
	Workers int
	// Progress is told, at most every 200 ms and never concurrently, how many bytes of
	// how many are there. Nil is allowed.
	Progress func(done, total pg.Bytes)
	Logger   zerolog.Logger
}

// mostWorkers bounds the parts fetched at a time when Options do not say.
const mostWorkers = 4

// ErrNoSpace is returned when a file system has not enough room; the text has the bytes
// needed and available. Mostly it is said before anything is written.
var ErrNoSpace = errors.New("not enough room")

// Fetch makes a data directory of a backup. Every file has the size and the CRC32C
// that the server's manifest tells; one that is missing, or that the manifest does not
// list, is an error. When Fetch returns without one, everything is on disk.
//
// PG_VERSION and the control file are written last. So after an error, or when the
// context ends, what is left is no data directory; the caller removes it.
//
// Errors: backup.ErrDamaged names the object or the file, backup.ErrKey,
// backup.ErrNotFound, backup.ErrUnavailable, ErrNoSpace.
func Fetch(ctx context.Context, o Options) error {
	if o.Entry.Damaged != "" {
		return fmt.Errorf("backup %s: %w: %s", o.Entry.ID, backup.ErrDamaged, o.Entry.Damaged)
	}
	if o.Workers <= 0 {
		o.Workers = min(mostWorkers, 2*runtime.GOMAXPROCS(0))
	}
	began := time.Now()
	if err := fetch(ctx, o); err != nil {
		return fmt.Errorf("backup %s: %w", o.Entry.ID, err)
	}
	o.Logger.Info().Str("backup", o.Entry.ID).Int64("bytes", o.Entry.Size).Dur("took", time.Since(began)).Msg("fetched a backup")
	return nil
}

func fetch(ctx context.Context, o Options) error {
	if err := checkNames(o.Entry); err != nil {
		return err
	}
	files, err := readLedger(ctx, o.Repository, o.Entry)
	if err != nil {
		return err
	}
	places, err := openPlaces(o)
	if err != nil {
		return err
	}
	defer places.close()
	if err := places.fetchParts(ctx, o, files); err != nil {
		return places.explain(err)
	}
	if err := files.complete(o.Entry); err != nil {
		return err
	}
	return places.explain(places.finish(ctx))
}

// checkNames makes sure that an entry, which anybody may have written who can write to
// the repository, speaks of its own objects and tablespaces.
func checkNames(e backup.Entry) error {
	if err := ident.ValidID(e.ID); err != nil {
		return err
	}
	known := map[uint32]bool{0: true}
	for _, t := range e.Tablespaces {
		if t.OID == 0 || known[t.OID] {
			return fmt.Errorf("%w: the catalog lists tablespace %d twice, or without a number", backup.ErrDamaged, t.OID)
		}
		known[t.OID] = true
	}
	for n, p := range e.Parts {
		name := backup.PartName(e.ID, n+1)
		if !strings.HasPrefix(p.Object, name+".") {
			return fmt.Errorf("%w: the catalog lists %q where %s was due", backup.ErrDamaged, p.Object, name)
		}
		if !known[p.Tablespace] {
			return fmt.Errorf("%w: the catalog does not know tablespace %d of part %s", backup.ErrDamaged, p.Tablespace, name)
		}
	}
	return nil
}

// fetchParts unpacks the parts, several at a time.
func (p *places) fetchParts(ctx context.Context, o Options, files *ledger) error {
	var done atomic.Int64
	stop := report(o, &done)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Workers)
	for n, part := range o.Entry.Parts {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			u := &unpacker{repository: o.Repository, part: part, name: backup.PartName(o.Entry.ID, n+1), into: p.of[part.Tablespace], files: files, done: &done}
			return u.run(ctx)
		})
	}
	return group.Wait()
}

const reportEvery = 200 * time.Millisecond

// report tells of progress until the function that it returns is called, which does so
// for the last time.
func report(o Options, done *atomic.Int64) (stop func()) {
	if o.Progress == nil {
		return func() {}
	}
	tell := func() {
		o.Progress(pg.Bytes(min(done.Load(), o.Entry.Size)), pg.Bytes(o.Entry.Size))
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell()
			case <-end:
				tell()
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}
