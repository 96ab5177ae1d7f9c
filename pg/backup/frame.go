package backup

import (
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
)

// A stream is frames, one after the other, each complete in itself and with a
// checksum, and an end mark. Before each frame stands how long it is, so that a
// reader has all of it, and has checked it, before it hands on a byte, and can
// leave the decompression to another. Standard tools skip what is said here:
//
//	            a frame                                     the end mark
//	zstd, lz4   skippable frame (0x184D2A50, 4 bytes):      skippable frame (0x184D2A5A, 20 bytes):
//	            length of the frame that follows            the 20 bytes below
//	gzip        member whose extra field "rz" (4 bytes)     empty member whose extra field "rm"
//	            is its whole length                         (20 bytes) is the 20 bytes below
//
// The mark is there because a stream that is cut off between two frames looks
// complete to every decoder:
//
//	"ram1"      4 bytes
//	plain size  8 bytes
//	CRC-32C     4 bytes, of the plain stream
//	CRC-32C     4 bytes, of the stream up to the mark
//
// Numbers are little endian. The form before a zstd frame is that of pzstd.
type endMark struct {
	plain               int64
	plainCRC, streamCRC uint32
}

const (
	markText    = "ram1"
	markContent = 20

	// frameMagic and markMagic are two of the sixteen that zstd and lz4 skip.
	frameMagic = 0x184D2A50
	markMagic  = 0x184D2A5A
	// skippableHead is how long a frame's head is in zstd and lz4.
	skippableHead = 12

	// memberExtra is the extra field of a member up to its value, the length.
	memberExtra = "rz\x04\x00"
	// memberHead is how long a member's head is with it, and memberSizeAt where the
	// length stands in it.
	memberHead   = 12 + len(memberExtra) + 4
	memberSizeAt = 12 + len(memberExtra)

	// gzipMark is an empty member up to the value of its extra field: deflate, with
	// that field, no time, no hints, unknown system, 24 bytes of extra fields.
	gzipMark = "\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x18\x00rm\x14\x00"
	// gzipMarkEnd is an empty last block, the CRC-32 of nothing, and its length.
	gzipMarkEnd = "\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

// maxFrame bounds a frame, so that a length that was changed cannot ask for all
// memory.
const maxFrame = 64 << 20

var errNoFrame = errors.New("a frame does not begin as it should")

// headSize is how many bytes tell what follows.
func headSize(ext string) int {
	if ext == gzipExt {
		return memberHead
	}
	return skippableHead
}

// markSize is how long the end mark is.
func markSize(ext string) int {
	if ext == gzipExt {
		return len(gzipMark) + markContent + len(gzipMarkEnd)
	}
	return 8 + markContent
}

// parseHead tells from a head how many bytes follow it, and whether they are of the
// end mark.
func parseHead(ext string, head []byte) (size int, mark bool, err error) {
	if ext == gzipExt {
		return parseMember(head)
	}
	content := binary.LittleEndian.Uint32(head[4:])
	switch magic := binary.LittleEndian.Uint32(head); {
	case magic == markMagic && content == markContent:
		return markSize(ext) - skippableHead, true, nil
	case magic == frameMagic && content == 4:
		return checkSize(int64(binary.LittleEndian.Uint32(head[8:])))
	}
	return 0, false, errNoFrame
}

func parseMember(head []byte) (size int, mark bool, err error) {
	switch {
	case string(head[:len(gzipMark)]) == gzipMark:
		return markSize(gzipExt) - memberHead, true, nil
	case string(head[12:memberSizeAt]) == memberExtra:
		return checkSize(int64(binary.LittleEndian.Uint32(head[memberSizeAt:])) - int64(memberHead))
	}
	return 0, false, errNoFrame
}

func checkSize(size int64) (int, bool, error) {
	if size <= 0 || size > maxFrame {
		return 0, false, errNoFrame
	}
	return int(size), false, nil
}

// appendSkippableHead begins a frame in zstd and lz4; setSkippableSize completes it.
func appendSkippableHead(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, frameMagic)
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, 4), 0)
}

func setSkippableSize(frame []byte) {
	binary.LittleEndian.PutUint32(frame[8:], uint32(len(frame)-skippableHead))
}

func setMemberSize(member []byte) {
	binary.LittleEndian.PutUint32(member[memberSizeAt:], uint32(len(member)))
}

func (m endMark) encode(ext string) []byte {
	b := make([]byte, 0, markSize(gzipExt))
	if ext == gzipExt {
		b = append(b, gzipMark...)
	} else {
		b = binary.LittleEndian.AppendUint32(b, markMagic)
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
