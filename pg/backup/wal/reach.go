package wal

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// Range is how far recovery from a backup can go.
type Range struct {
	// Timeline is the newest one that continues the backup. Recovery must be told this
	// number: "latest" has PostgreSQL look for itself, and stop at the first number that was
	// never used.
	Timeline pg.Timeline
	// From is the earliest target, the end of the backup itself. To is the end of the last
	// segment that can be reached; it equals From when the archive adds nothing.
	From, To pg.LSN
	// Until is when the last reachable segment came into the repository, and zero when the
	// archive adds nothing. It is an upper bound for the commits in there, and no commit's
	// time: one may have been made long before.
	Until time.Time
	// Gaps are the segments after To that are missing before others that are there.
	Gaps []Gap
}

// Gap is a run of missing segments.
type Gap struct{ First, Last string }

// String names the gap.
func (g Gap) String() string {
	if g.First == g.Last {
		return g.First
	}
	return g.First + " to " + g.Last
}

// Reach looks at what the repository has. A backup brings the WAL that it needs for its
// own end, so its range is never less than that.
func Reach(ctx context.Context, r *backup.Repository, e backup.Entry) (Range, error) {
	if !validSize(e.SegmentSize) || e.Timeline == 0 || e.StopLSN == 0 {
		return Range{}, fmt.Errorf("how far backup %s can be recovered is not known, for its catalog entry is damaged", e.ID)
	}
	texts, err := readHistories(ctx, r)
	if err != nil {
		return Range{}, fmt.Errorf("range of backup %s: %w", e.ID, err)
	}
	known, err := parseHistories(texts)
	if err != nil {
		return Range{}, fmt.Errorf("range of backup %s: %w", e.ID, err)
	}
	objects, err := r.List(ctx, "wal/")
	if err != nil {
		return Range{}, fmt.Errorf("range of backup %s: %w", e.ID, err)
	}
	return reach(e, known, objects), nil
}

// reach decides it from the histories and the names of what is there.
func reach(e backup.Entry, known families, objects []backup.Object) Range {
	found := Range{Timeline: newest(e, known), From: e.StopLSN, To: e.StopLSN}
	path := line{known[found.Timeline], found.Timeline}
	there := path.segments(e.SegmentSize, objects)
	numbers := slices.Sorted(maps.Keys(there))
	next := uint64(e.StopLSN) / uint64(e.SegmentSize)
	for _, number := range numbers {
		switch {
		case number < next:
			continue
		case number > next:
			found.Gaps = append(found.Gaps, Gap{path.name(next, e.SegmentSize), path.name(number-1, e.SegmentSize)})
		case len(found.Gaps) == 0:
			found.To, found.Until = pg.LSN((number+1)*uint64(e.SegmentSize)), there[number]
		}
		next = number + 1
	}
	return found
}

// newest is the highest timeline that continues a backup.
func newest(e backup.Entry, known families) pg.Timeline {
	best := e.Timeline
	for t := range known {
		if t > best && known.reaches(t, e.Timeline, e.StopLSN) {
			best = t
		}
	}
	return best
}

// line is a timeline with those that it descends from: one sequence of segments.
type line struct {
	history history
	last    pg.Timeline
}

// of is the timeline of which recovery along the line reads a segment: the newest that has
// begun in it.
func (l line) of(number uint64, size int64) pg.Timeline {
	i, _ := slices.BinarySearchFunc(l.history, number, func(b branch, n uint64) int {
		return cmp.Or(cmp.Compare(uint64(b.end)/uint64(size), n), -1)
	})
	if i < len(l.history) {
		return l.history[i].timeline
	}
	return l.last
}

func (l line) name(number uint64, size int64) string {
	return segmentName(l.of(number, size), number, size)
}

// segments are the numbers of the whole segments that are there for the line, with their
// times.
func (l line) segments(size int64, objects []backup.Object) map[uint64]time.Time {
	there := map[uint64]time.Time{}
	for _, o := range objects {
		n, err := ParseName(path.Base(o.Name))
		if err != nil || n.Kind != Segment || uint64(n.low) >= segmentsPerFile(size) {
			continue
		}
		if number := n.number(size); n.Timeline == l.of(number, size) {
			there[number] = o.At
		}
	}
	return there
}
