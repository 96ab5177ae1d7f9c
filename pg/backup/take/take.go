package take

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/ident"
)

// DefaultPartSize is the size of parts when Options name none.
const DefaultPartSize = 128 * pg.MB

// mostWorkers is how many compress when Options do not say: a backup shares its host
// with the server.
const mostWorkers = 4

// What PostgreSQL accepts as MAX_RATE.
const (
	leastRate = 32 * pg.KB
	mostRate  = pg.GB
)

// Options say what to back up, and whereto.
type Options struct {
	// Repository receives the backup. That it is this cluster's is the caller's care.
	Repository *backup.Repository
	// Conninfo and Password lead to the server, as a role that may replicate.
	// application_name and the time limits have defaults.
	Conninfo pg.Conninfo
	Password string
	// ID is the new backup's, from ident.NewID.
	ID string
	// Cluster, Node and By go into the catalog as they are.
	Cluster, Node, By string
	// SystemID is the cluster's; a server with another one is refused.
	SystemID pg.SystemID
	// MaxRate bounds, per second, what the server sends: 32kB to 1GB. Zero: no bound.
	MaxRate pg.Bytes
	// PartSize is about how many bytes of files go into one object. Zero:
	// DefaultPartSize. A single file is never cut.
	PartSize pg.Bytes
	// Workers is how many chunks are compressed at a time, and memory goes with it. Zero:
	// one for each processor, up to 4.
	Workers int
	// Progress is told, at most every 200 ms, how many bytes of how many have come. The
	// total is the server's estimate, which grows when there is more. Nil is allowed.
	Progress func(done, total pg.Bytes)
	Logger   zerolog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Take makes a base backup and returns its catalog entry, which is published then.
// After an error, or when the context ends, no backup is visible; what was stored
// of it is removed as far as the repository allows, and otherwise is among the
// repository's remains. An ID that is in use is backup.ErrExists, and untouched.
func Take(ctx context.Context, o Options) (backup.Entry, error) {
	o, err := o.complete()
	if err != nil {
		return backup.Entry{}, err
	}
	started := o.Now()
	entry, stored, err := o.take(ctx, started)
	if err == nil {
		return entry, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("base backup %s was cancelled: %w", o.ID, cause)
	} else {
		err = fmt.Errorf("base backup %s: %w", o.ID, err)
	}
	if stored {
		o.remove(ctx)
	}
	return backup.Entry{}, err
}

// complete checks the options and fills in defaults.
func (o Options) complete() (Options, error) {
	if err := ident.ValidID(o.ID); err != nil {
		return o, err
	}
	if o.SystemID == 0 {
		return o, errors.New("base backup: the cluster's system identifier is not known yet; wait until its primary has been up")
	}
	if o.MaxRate != 0 && (o.MaxRate < leastRate || o.MaxRate > mostRate) {
		return o, fmt.Errorf("max_rate %s cannot be used; PostgreSQL takes %s to %s", o.MaxRate, leastRate, mostRate)
	}
	if o.PartSize <= 0 {
		o.PartSize = DefaultPartSize
	}
	if o.Workers <= 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), mostWorkers)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Logger = o.Logger.With().Str("backup", o.ID).Logger()
	return o, nil
}

// take is Take without the care for what it leaves behind: stored reports whether
// there may be something under the ID that is this backup's.
func (o Options) take(ctx context.Context, started time.Time) (entry backup.Entry, stored bool, err error) {
	there, err := o.Repository.List(ctx, strings.TrimSuffix(backup.ManifestName(o.ID), "manifest"))
	if err != nil {
		return entry, false, advise(err, "")
	}
	if len(there) > 0 {
		return entry, false, fmt.Errorf("%s: %w; take one under another name, or a second later", there[0].Stored, backup.ErrExists)
	}
	src, err := connect(ctx, o.Conninfo, o.Password)
	if err != nil {
		return entry, false, err
	}
	defer src.close()
	if src.systemID != o.SystemID {
		return entry, false, fmt.Errorf("the server at %s has system identifier %s, the cluster has %s: this is another cluster's server; check the node's address and data directory",
			o.Conninfo.Redacted(), src.systemID, o.SystemID)
	}
	if err := src.keepWAL(ctx); err != nil {
		return entry, false, err
	}
	got, err := o.receive(ctx, src)
	if err != nil {
		// The first part was another's.
		return entry, !errors.Is(err, backup.ErrExists), err
	}
	entry = o.entry(src, got)
	entry.Started, entry.Finished = started.UTC(), o.Now().UTC()
	if err := o.publish(ctx, entry); err != nil {
		return entry, true, advise(fmt.Errorf("publish: %w", err), src.role)
	}
	o.Logger.Info().Str("role", entry.Role).Stringer("start_lsn", entry.StartLSN).Stringer("stop_lsn", entry.StopLSN).
		Int("parts", len(entry.Parts)).Int64("size", entry.Size).Int64("stored", entry.Stored).
		Dur("took", entry.Finished.Sub(entry.Started)).Msg("base backup taken")
	return entry, true, nil
}

// publish makes the backup visible. An entry that is there already is this one, from
// an attempt whose answer was lost: the ID is ours.
func (o Options) publish(ctx context.Context, entry backup.Entry) error {
	err := o.Repository.Publish(ctx, entry)
	if !errors.Is(err, backup.ErrExists) {
		return err
	}
	there, readErr := o.Repository.Backup(ctx, o.ID)
	if readErr == nil && there.Manifest == entry.Manifest && there.Started.Equal(entry.Started) {
		return nil
	}
	return err
}

// entry is the catalog's view of what was received; the times are missing.
func (o Options) entry(src *source, got result) backup.Entry {
	_, name, _ := strings.Cut(o.ID, "-")
	e := backup.Entry{
		ID: o.ID, Name: name, Cluster: o.Cluster, Node: o.Node, Role: "primary", By: o.By,
		SystemID: src.systemID, Version: src.major, ServerVersion: src.version, SegmentSize: src.segmentSize,
		Timeline: got.start.timeline, StartLSN: got.start.lsn, StopLSN: got.stop.lsn,
		Size: int64(got.size), Stored: int64(got.stored), Parts: got.parts, Manifest: got.manifest,
	}
	e.Compression, e.Encrypted = encoding(got.manifest)
	if got.standby {
		e.Role = "standby"
	}
	for _, sp := range got.spaces {
		if sp.oid != 0 {
			e.Tablespaces = append(e.Tablespaces, backup.Tablespace{OID: sp.oid, Location: sp.location})
		}
	}
	return e
}

// encoding tells from an object's name how it is encoded. Where nothing is compressed
// the framing is gzip's, and text does not become shorter by it.
func encoding(o backup.Stored) (compression string, encrypted bool) {
	name, encrypted := strings.CutSuffix(o.Object, ".age")
	switch path.Ext(name) {
	case ".zst":
		compression = "zstd"
	case ".lz4":
		compression = "lz4"
	case ".gz":
		compression = "gzip"
		if o.Size >= o.Plain {
			compression = "none"
		}
	}
	return compression, encrypted
}

// removeWithin bounds how long a failed backup's parts are removed.
const removeWithin = 30 * time.Second

// remove deletes what a failed backup has stored. It is done after a cancel too; what
// cannot be removed now is found as remains later.
func (o Options) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	if err := o.Repository.DeleteBackup(ctx, o.ID); err != nil && !errors.Is(err, backup.ErrNotFound) {
		o.Logger.Warn().Err(err).Msg("parts of a failed base backup are left in the repository; they are removed later")
	}
}
