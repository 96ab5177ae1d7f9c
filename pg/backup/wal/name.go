package wal

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/ramhq/ram/pg"
)

// Kind is what a file of pg_wal is.
type Kind int

// The kinds of files that PostgreSQL wants archived.
const (
	// Segment is a piece of WAL of the server's segment size.
	Segment Kind = iota + 1
	// Partial is the last segment of a timeline that a promotion left.
	Partial
	// History tells from which timelines one descends.
	History
	// Label is the description that a base backup leaves beside the WAL.
	Label
)

// Name is the parsed name of a file of pg_wal. The zero Name is none.
type Name struct {
	Kind     Kind
	Timeline pg.Timeline
	// high and low are the two halves of a segment's number as the name writes it. What
	// they come to depends on the segment size.
	high, low uint32
}

var fileName = regexp.MustCompile(`^([0-9A-F]{8})(?:(\.history)|([0-9A-F]{8})([0-9A-F]{8})(\.partial|\.[0-9A-F]{8}\.backup)?)$`)

// ParseName reads a name exactly as PostgreSQL writes it; anything else is an error,
// paths and other cases of letters included.
func ParseName(file string) (Name, error) {
	m := fileName.FindStringSubmatch(file)
	if m == nil {
		return Name{}, fmt.Errorf("%q is not the name of a WAL segment, a partial segment, a timeline history or a backup label", file)
	}
	n := Name{Kind: Segment, Timeline: pg.Timeline(hex32(m[1])), high: hex32(m[3]), low: hex32(m[4])}
	switch {
	case m[2] != "":
		n.Kind = History
	case m[5] == ".partial":
		n.Kind = Partial
	case m[5] != "":
		n.Kind = Label
	}
	if n.Timeline == 0 {
		return Name{}, fmt.Errorf("%q names timeline 0, which does not exist", file)
	}
	return n, nil
}

// hex32 reads up to eight hexadecimal digits, and nothing as zero.
func hex32(digits string) uint32 {
	v, _ := strconv.ParseUint(digits, 16, 32)
	return uint32(v)
}

// segmentName is the file name of a segment by its number.
func segmentName(t pg.Timeline, number uint64, size int64) string {
	per := segmentsPerFile(size)
	return fmt.Sprintf("%08X%08X%08X", uint32(t), uint32(number/per), uint32(number%per))
}

// segmentsPerFile is how many segments share the middle part of their names.
func segmentsPerFile(size int64) uint64 { return 1 << 32 / uint64(size) }

// number is the segment's place in the WAL, counted in segments.
func (n Name) number(size int64) uint64 {
	return uint64(n.high)*segmentsPerFile(size) + uint64(n.low)
}

// start is the position of the segment's first byte.
func (n Name) start(size int64) pg.LSN { return pg.LSN(n.number(size) * uint64(size)) }

// validSize reports whether PostgreSQL knows segments of that many bytes.
func validSize(size int64) bool {
	return size >= 1<<20 && size <= 1<<30 && size&(size-1) == 0
}

// historyName is the file name of a timeline's history.
func historyName(t pg.Timeline) string { return fmt.Sprintf("%08X.history", uint32(t)) }
