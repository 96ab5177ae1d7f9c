package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// Needs is which WAL the kept backups need. It is a value: the decision is made without
// looking at anything. The zero Needs needs everything.
//
// A backup needs the WAL from the segment in which it starts, on its own timeline and on
// every one that descends from it there, for one may want to recover along each. What is
// on none of those is kept as well as long as it is not older than the oldest kept backup.
type Needs struct {
	// size is the segment size; zero means that nothing may be removed.
	size     int64
	families families
	backups  []start
}

// start is where a backup begins.
type start struct {
	timeline pg.Timeline
	lsn      pg.LSN
}

// Needed makes Needs of the backups that are kept and of the contents of the history
// files, by timeline. Without a backup everything is needed. A backup whose catalog entry
// is damaged, and backups of different segment sizes, are an error: what they need is not
// known.
func Needed(kept []backup.Entry, histories map[pg.Timeline]string) (Needs, error) {
	known, err := parseHistories(histories)
	if err != nil {
		return Needs{}, err
	}
	needs := Needs{families: known}
	for _, e := range kept {
		switch {
		case e.Damaged != "":
			return Needs{}, fmt.Errorf("which WAL backup %s needs is not known, for its catalog entry is damaged (%s); delete that backup", e.ID, e.Damaged)
		case !validSize(e.SegmentSize) || e.Timeline == 0 || e.StartLSN == 0:
			return Needs{}, fmt.Errorf("which WAL backup %s needs is not known, for its catalog entry does not say where it starts; delete that backup", e.ID)
		case needs.size != 0 && needs.size != e.SegmentSize:
			return Needs{}, fmt.Errorf("backup %s has WAL segments of %s, and others of %s; delete those of one size", e.ID, pg.Bytes(e.SegmentSize), pg.Bytes(needs.size))
		}
		needs.size = e.SegmentSize
		needs.backups = append(needs.backups, start{e.Timeline, e.StartLSN})
	}
	return needs, nil
}

// Has reports whether a file of pg_wal must stay in the repository. History files always
// must: they are small, and tell what everything else belongs to.
func (n Needs) Has(file string) bool {
	name, err := ParseName(file)
	return err != nil || n.has(name)
}

func (n Needs) has(name Name) bool {
	if n.size == 0 || name.Kind != Segment && name.Kind != Partial {
		return true
	}
	if uint64(name.low) >= segmentsPerFile(n.size) {
		return true // of another segment size
	}
	return name.number(n.size) >= n.floor(name.Timeline)/uint64(n.size)
}

// floor is from where WAL of a timeline is needed: from the oldest backup that it
// continues. What no backup can reach is a dead branch, which is kept from the oldest of
// all backups on; a timeline above those of all backups is the one that the next backup
// will be on, and all of it is kept.
func (n Needs) floor(t pg.Timeline) uint64 {
	var own, all pg.LSN
	var newest pg.Timeline
	for i, b := range n.backups {
		if i == 0 || b.lsn < all {
			all = b.lsn
		}
		if n.families.reaches(t, b.timeline, b.lsn) && (own == 0 || b.lsn < own) {
			own = b.lsn
		}
		newest = max(newest, b.timeline)
	}
	switch {
	case own != 0:
		return uint64(own)
	case t > newest:
		return 0
	}
	return uint64(all)
}

// readNeeds reads what Needed decides on. With nil, all backups of the catalog are kept.
func readNeeds(ctx context.Context, r *backup.Repository, kept []backup.Entry) (Needs, error) {
	if kept == nil {
		var err error
		if kept, err = r.Backups(ctx); err != nil {
			return Needs{}, err
		}
	}
	histories, err := readHistories(ctx, r)
	if err != nil {
		return Needs{}, err
	}
	return Needed(kept, histories)
}

// historyPrefix is where the repository has the history files.
const historyPrefix = "wal/history/"

// readHistories reads all history files of a repository.
func readHistories(ctx context.Context, r *backup.Repository) (map[pg.Timeline]string, error) {
	objects, err := r.List(ctx, historyPrefix)
	if err != nil {
		return nil, err
	}
	histories := make(map[pg.Timeline]string, len(objects))
	for _, o := range objects {
		n, err := ParseName(path.Base(o.Name))
		if err != nil || n.Kind != History {
			continue
		}
		text, err := readSmall(ctx, r, o.Name)
		if err != nil {
			return nil, err
		}
		histories[n.Timeline] = text
	}
	return histories, nil
}

var errTooBig = errors.New("it is larger than a history ever is")

func readSmall(ctx context.Context, r *backup.Repository, name string) (string, error) {
	in, err := r.Read(ctx, name)
	if err != nil {
		return "", err
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxHistory+1))
	if err == nil && len(text) > maxHistory {
		err = fmt.Errorf("%s: %w", name, errTooBig)
	}
	return string(text), err
}
