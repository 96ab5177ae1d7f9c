package backup

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
)

// A stream that is cut off between two frames looks complete to every decoder. So
// each one ends in a mark: a last frame without content, which standard tools skip,
// and which says how long the stream is and what its checksums are.
//
//	zstd, lz4   a skippable frame (magic number 0x184D2A5A) with the 20 bytes below
//	gzip        an empty member whose extra field "rm" holds them
//
//	"ram1"      4 bytes
//	plain size  8 bytes, little endian
//	CRC-32C     4 bytes, of the plain stream
//	CRC-32C     4 bytes, of the stream as compressed, up to the mark
type endMark struct {
	plain               int64
	plainCRC, streamCRC uint32
}

const (
	markText    = "ram1"
	markContent = 20

	// skippableMagic is one of the sixteen that zstd and lz4 have in common.
	skippableMagic = 0x184D2A5A
)

// gzipMark is an empty member up to the content of its extra field: deflate, the
// field's presence, no time, no hints, unknown system, 24 bytes of extra fields, of
// which one is "rm" with 20.
const gzipMark = "\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x18\x00rm\x14\x00"

// gzipMarkEnd is an empty last block, the CRC-32 of nothing, and its length.
const gzipMarkEnd = "\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// markSize is how long the mark is in the compression with an extension.
func markSize(ext string) int {
	if ext == gzipExt {
		return len(gzipMark) + markContent + len(gzipMarkEnd)
	}
	return 8 + markContent
}

func (m endMark) encode(ext string) []byte {
	b := make([]byte, 0, markSize(gzipExt))
	if ext == gzipExt {
		b = append(b, gzipMark...)
	} else {
		b = binary.LittleEndian.AppendUint32(b, skippableMagic)
		b = binary.LittleEndian.AppendUint32(b, markContent)
	}
	b = append(b, markText...)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.plain))
	b = binary.LittleEndian.AppendUint32(b, m.plainCRC)
	b = binary.LittleEndian.AppendUint32(b, m.streamCRC)
	if ext == gzipExt {
		b = append(b, gzipMarkEnd...)
	}
	return b
}

func newCRC() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// markReader passes a compressed stream on and keeps what its last bytes are, and
// the checksum of all before them.
type markReader struct {
	r    io.Reader
	size int    // of a mark
	tail []byte // the last bytes that were read, at most size
	crc  hash.Hash32
	end  bool // the stream was read to its end
}

func newMarkReader(r io.Reader, ext string) *markReader {
	size := markSize(ext)
	return &markReader{r: r, size: size, tail: make([]byte, 0, 2*size), crc: newCRC()}
}

func (m *markReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.see(p[:n])
	m.end = m.end || err == io.EOF
	return n, err
}

func (m *markReader) see(p []byte) {
	if len(p) >= m.size {
		m.crc.Write(m.tail)
		m.crc.Write(p[:len(p)-m.size])
		m.tail = append(m.tail[:0], p[len(p)-m.size:]...)
		return
	}
	if excess := len(m.tail) + len(p) - m.size; excess > 0 {
		m.crc.Write(m.tail[:excess])
		m.tail = m.tail[:copy(m.tail, m.tail[excess:])]
	}
	m.tail = append(m.tail, p...)
}
