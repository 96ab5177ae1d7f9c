package wal

import "github.com/ramhq/ram/pg"

// Lineage is a timeline and those that it descends from. The zero Lineage is not known.
type Lineage struct {
	timeline pg.Timeline
	history  history
}

// NewLineage reads the contents of a timeline's history file. Known is false of one that
// says nothing: it only reserves its number.
func NewLineage(t pg.Timeline, text string) (l Lineage, known bool, err error) {
	h, err := parseHistory(t, text)
	return Lineage{t, h}, err == nil && len(h) > 0, err
}

// Strays reports whether a segment of this size, in bytes, holds WAL that the lineage has
// left behind: a server that replays such a segment, before it has heard of the later
// timeline, cannot follow that any more. Of other files, and of later timelines,
// nothing is known.
func (l Lineage) Strays(file string, size int64) bool {
	n, err := ParseName(file)
	if err != nil || n.Kind != Segment || n.Timeline >= l.timeline || !validSize(size) {
		return false
	}
	end, descends := l.history.left(n.Timeline)
	return !descends || pg.LSN((n.number(size)+1)*uint64(size)) > end
}
