package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ramhq/ram/pg"
)

// The first page of a segment begins with a long header (access/xlog_internal.h):
// magic uint16, info uint16, timeline uint32, address uint64, remainder uint32, padding,
// then system identifier uint64, segment size uint32, block size uint32.
const (
	headerSize = 40
	// magicHigh is the upper byte of the magic numbers of all PostgreSQL versions that ram
	// runs; the lower byte counts versions.
	magicHigh  = 0xD1
	longHeader = 0x0002
)

// header is what the first page of a segment says of it.
type header struct {
	timeline    pg.Timeline
	address     pg.LSN
	systemID    pg.SystemID
	segmentSize int64
}

// errNoSegment is content that does not begin as a segment does.
var errNoSegment = errors.New("its first page has no WAL header")

// parseHeader reads the header in this machine's byte order, as the server does.
func parseHeader(page []byte) (header, error) {
	order := binary.NativeEndian
	if len(page) < headerSize {
		return header{}, fmt.Errorf("it has %d bytes: %w", len(page), errNoSegment)
	}
	if magic := order.Uint16(page); magic>>8 != magicHigh || order.Uint16(page[2:])&longHeader == 0 {
		return header{}, fmt.Errorf("it begins with %04X: %w", magic, errNoSegment)
	}
	return header{
		timeline: pg.Timeline(order.Uint32(page[4:])), address: pg.LSN(order.Uint64(page[8:])),
		systemID: pg.SystemID(order.Uint64(page[24:])), segmentSize: int64(order.Uint32(page[32:])),
	}, nil
}

// readHeader reads the header of a segment of the named place and system, and refuses
// any other. A zero system identifier stands for any.
func readHeader(f io.ReaderAt, n Name, id pg.SystemID) (header, error) {
	var page [headerSize]byte
	got, err := f.ReadAt(page[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	h, err := parseHeader(page[:got])
	if err != nil {
		return header{}, err
	}
	return h, h.check(n, id)
}

func (h header) check(n Name, id pg.SystemID) error {
	switch {
	case !validSize(h.segmentSize):
		return fmt.Errorf("it claims a segment size of %d bytes", h.segmentSize)
	case id != 0 && h.systemID != id:
		return fmt.Errorf("it is WAL of the system %s, and this is system %s", h.systemID, id)
	case uint64(n.low) >= segmentsPerFile(h.segmentSize):
		return fmt.Errorf("there is no such segment with a segment size of %s", pg.Bytes(h.segmentSize))
	case h.address != n.start(h.segmentSize):
		return fmt.Errorf("it holds WAL from %s, and its name says %s", h.address, n.start(h.segmentSize))
	case h.timeline == 0 || h.timeline > n.Timeline:
		// A promotion copies the beginning of a segment from the timeline before, page
		// headers included, so a lower number is right there.
		return fmt.Errorf("it holds WAL of timeline %d, and its name says %d", h.timeline, n.Timeline)
	}
	return nil
}
