package take

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// result is a backup that arrived whole, was found right, and is stored.
type result struct {
	start, stop position
	standby     bool
	spaces      []space
	parts       []backup.Part
	manifest    backup.Stored
	size        pg.Bytes // of parts and manifest, plain
	stored      pg.Bytes // and as stored
}

// receive has the server send a backup and stores it. After an error nothing of it
// is under way any more, but parts may be there.
func (o Options) receive(ctx context.Context, src *source) (result, error) {
	parts := newParts(ctx, o)
	got, err := o.receiveInto(parts, src)
	if err == nil {
		err = parts.wait()
	} else if cause := context.Cause(parts.ctx); cause != nil {
		// The connection was ended because of it.
		err = cause
	}
	if err != nil {
		parts.abort()
		return result{}, advise(err, src.role)
	}
	got.parts, got.size, got.stored = parts.entries()
	got.size += pg.Bytes(got.manifest.Plain)
	got.stored += pg.Bytes(got.manifest.Size)
	return got, nil
}

// receiveInto reads the server's answer from its beginning to its end. A read that
// waits ends with the context of the parts.
func (o Options) receiveInto(parts *parts, src *source) (result, error) {
	frontend, err := src.begin(baseBackup(src.major, "ram "+o.ID, o.MaxRate))
	if err != nil {
		return result{}, fmt.Errorf("begin the backup: %w", err)
	}
	stop := context.AfterFunc(parts.ctx, func() { _ = src.raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := &reception{
		options: o, parts: parts, source: src,
		stream: &stream{from: frontend, framed: src.major >= framedMajor, logger: o.Logger},
		buffer: make([]byte, 64<<10),
	}
	if err := r.all(); err != nil {
		return result{}, err
	}
	// Said for the server's log only: all has arrived.
	frontend.Send(&pgproto3.Terminate{})
	_ = frontend.Flush()
	return r.result, nil
}

// reception is a backup that arrives.
type reception struct {
	options   Options
	parts     *parts
	source    *source
	stream    *stream
	progress  *progress
	buffer    []byte
	inventory inventory
	label     label
	listed    manifest
	result    result
}

func (r *reception) all() error {
	var err error
	if r.result.start, err = r.stream.begin(); err != nil {
		return err
	}
	r.result.spaces = r.stream.spaces
	r.progress = &progress{from: r.stream, tell: r.options.Progress, now: r.options.Now}
	for _, sp := range r.stream.spaces {
		r.progress.total += sp.size
	}
	if err := r.contents(); err != nil {
		return err
	}
	if r.result.stop, err = r.stream.end(); err != nil {
		return err
	}
	return r.verify()
}

// contents receives all archives and then the manifest.
func (r *reception) contents() error {
	for archives := 0; ; {
		kind, sp, err := r.stream.next()
		if err != nil {
			return err
		}
		listed := r.result.manifest.Object != ""
		switch {
		case kind == contentArchive && !listed:
			archives++
			err = r.archive(sp)
		case kind == contentManifest && !listed && archives == len(r.stream.spaces):
			err = r.manifest()
		case kind == contentEnd && listed:
			return nil
		default:
			err = fmt.Errorf("the server sent %d of %d archives before its manifest or the end", archives, len(r.stream.spaces))
		}
		if err != nil {
			return err
		}
	}
}

// archive stores one archive of the server, file by file.
func (r *reception) archive(sp space) error {
	from := tar.NewReader(r.progress)
	prefix := ""
	if sp.oid != 0 {
		prefix = "pg_tblspc/" + strconv.FormatUint(uint64(sp.oid), 10) + "/"
	}
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the server's archive: %w", err)
		}
		if err := r.file(sp.oid, prefix, h, from); err != nil {
			return err
		}
	}
}

// file stores one entry of an archive. prefix leads from the data directory to the
// archive's root.
func (r *reception) file(oid uint32, prefix string, h *tar.Header, content io.Reader) error {
	if !filepath.IsLocal(h.Name) {
		return fmt.Errorf("the server sends a file %q outside of its directory", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink:
	default:
		return fmt.Errorf("the server sends %q of a kind %q that a data directory does not have", h.Name, h.Typeflag)
	}
	h.Format = tar.FormatUnknown // the oldest that can hold it
	if err := r.parts.header(oid, h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	sum := &crc32c{}
	var text bytes.Buffer
	to := io.MultiWriter(r.parts, sum)
	isLabel := prefix == "" && h.Name == "backup_label"
	if isLabel && h.Size < 64<<10 {
		to = io.MultiWriter(r.parts, sum, &text)
	}
	if _, err := io.CopyBuffer(to, content, r.buffer); err != nil {
		return err
	}
	r.inventory.arrived(prefix+h.Name, h.Size, sum.value)
	if !isLabel {
		return nil
	}
	var err error
	r.label, err = parseLabel(text.String())
	return err
}

// manifest stores the server's manifest and holds what arrived against it.
func (r *reception) manifest() error {
	if err := r.parts.cut(); err != nil {
		return err
	}
	object, err := r.options.Repository.Create(r.parts.ctx, backup.ManifestName(r.options.ID), backup.CreateOptions{Workers: 1})
	if err != nil {
		return fmt.Errorf("begin the manifest: %w", err)
	}
	defer object.Abort()
	if r.listed, err = readManifest(io.TeeReader(r.stream, object), r.inventory.check); err != nil {
		return err
	}
	if err := r.inventory.verdict(); err != nil {
		return err
	}
	if r.result.manifest, err = object.Commit(); err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	return nil
}

// verify compares what the server says about the backup in different places.
func (r *reception) verify() error {
	start, stop := r.result.start, r.result.stop
	if start.timeline != stop.timeline || len(r.listed.walRanges) > 1 {
		return fmt.Errorf("%w: it began on %d and ended on %d; take another backup", errPromoted, start.timeline, stop.timeline)
	}
	want := walRange{Timeline: start.timeline, Start: start.lsn, End: stop.lsn}
	if len(r.listed.walRanges) != 1 || r.listed.walRanges[0] != want {
		return fmt.Errorf("the manifest asks for the WAL %+v, the server said %+v; take another backup", r.listed.walRanges, want)
	}
	if r.label.start != start {
		return fmt.Errorf("backup_label says that the backup began at %s on timeline %d, the server said %s on %d; take another backup",
			r.label.start.lsn, r.label.start.timeline, start.lsn, start.timeline)
	}
	if id := r.listed.systemID; id != 0 && id != r.source.systemID {
		return fmt.Errorf("the manifest is of system identifier %s, the server has %s; take another backup", id, r.source.systemID)
	}
	r.result.standby = r.label.standby
	return r.inventory.checkWAL(start, stop, r.source.segmentSize)
}

// crc32c sums what is written to it, as PostgreSQL does.
type crc32c struct{ value uint32 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Write never fails.
func (c *crc32c) Write(p []byte) (int, error) {
	c.value = crc32.Update(c.value, castagnoli, p)
	return len(p), nil
}
