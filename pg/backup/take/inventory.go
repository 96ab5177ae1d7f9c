package take

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ramhq/ram/pg"
)

// received is one file as it arrived.
type received struct {
	path   string // as in the manifest: relative to the data directory
	size   int64
	crc32c uint32
}

// inventory holds what arrived against what the server's manifest lists. It takes
// some 100 bytes for each file.
type inventory struct {
	files []received
	wal   map[string]int64 // sizes of the segments by name; no manifest lists them

	next   int            // the file that the manifest should list next
	listed map[string]int // by path, the files from next on; nil as long as the order is the same
	wrong  []string
}

const walDir = "pg_wal"

var segmentName = regexp.MustCompile(`^[0-9A-F]{24}$`)

// arrived notes a file. WAL segments are told by their place: a server may still
// write to the last one, so no manifest has their checksums.
func (v *inventory) arrived(name string, size int64, crc32c uint32) {
	if dir, base := path.Split(name); dir == walDir+"/" && segmentName.MatchString(base) {
		if v.wal == nil {
			v.wal = map[string]int64{}
		}
		v.wal[base] = size
		return
	}
	v.files = append(v.files, received{path: name, size: size, crc32c: crc32c})
}

// mostNamed files are named in an error.
const mostNamed = 5

func (v *inventory) wrongFile(format string, args ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, args...))
}

// check compares a file of the manifest with what arrived; what is wrong is
// reported by verdict. The server lists files in the order in which it sent them.
func (v *inventory) check(f listed) error {
	want, err := f.crc32c()
	if err != nil {
		return err
	}
	got, ok := v.find(f.Path)
	switch {
	case !ok:
		v.wrongFile("%q did not arrive", f.Path)
	case got.size != f.Size:
		v.wrongFile("%q arrived with %d bytes instead of %d", f.Path, got.size, f.Size)
	case got.crc32c != want:
		v.wrongFile("%q arrived with CRC32C %08x instead of %08x", f.Path, got.crc32c, want)
	}
	return nil
}

func (v *inventory) find(name string) (received, bool) {
	if v.listed == nil {
		if v.next < len(v.files) && v.files[v.next].path == name {
			v.next++
			return v.files[v.next-1], true
		}
		v.listed = map[string]int{}
		for i, f := range v.files[v.next:] {
			if _, twice := v.listed[f.path]; twice {
				v.wrongFile("%q arrived twice", f.path)
			}
			v.listed[f.path] = v.next + i
		}
	}
	i, ok := v.listed[name]
	if !ok {
		return received{}, false
	}
	delete(v.listed, name)
	return v.files[i], true
}

// verdict is an error when files were wrong, missing, or not in the manifest. It is
// asked after the manifest's last file.
func (v *inventory) verdict() error {
	if v.listed == nil {
		for _, f := range v.files[v.next:] {
			v.wrongFile("%q is not in the manifest", f.path)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.listed)) {
		v.wrongFile("%q is not in the manifest", name)
	}
	if len(v.wrong) == 0 {
		return nil
	}
	text := strings.Join(v.wrong[:min(len(v.wrong), mostNamed)], ", ")
	if more := len(v.wrong) - mostNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("the backup differs from the server's manifest: %s; take another backup, and look at the host's memory and network when it happens again", text)
}

// checkWAL says whether every segment from start to stop arrived.
func (v *inventory) checkWAL(start, stop position, segmentSize int64) error {
	size := uint64(segmentSize)
	// A position at the very beginning of a segment needs nothing of it.
	for n := uint64(start.lsn) / size; n <= (uint64(stop.lsn)-1)/size; n++ {
		name := segment(start.timeline, n, size)
		if got, ok := v.wal[name]; !ok || got != segmentSize {
			return fmt.Errorf("WAL segment %s, which the backup needs, arrived with %d bytes instead of %d; take another backup", name, got, segmentSize)
		}
	}
	return nil
}

// segment is the name of a WAL segment by its number.
func segment(timeline pg.Timeline, n, size uint64) string {
	perID := uint64(1<<32) / size
	return fmt.Sprintf("%08X%08X%08X", uint32(timeline), n/perID, n%perID)
}

// label is what the file backup_label says.
type label struct {
	start   position
	standby bool
}

// parseLabel reads backup_label. Lines that are not known are skipped.
func parseLabel(text string) (label, error) {
	var l label
	var from string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch key {
		case "START WAL LOCATION":
			lsn, _, _ := strings.Cut(value, " ")
			parsed, err := pg.ParseLSN(lsn)
			if err != nil {
				return label{}, fmt.Errorf("backup_label: %w", err)
			}
			l.start.lsn = parsed
		case "START TIMELINE":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return label{}, fmt.Errorf("backup_label: timeline %q is no number", value)
			}
			l.start.timeline = pg.Timeline(n)
		case "BACKUP FROM":
			from = value
		}
	}
	if from != "primary" && from != "standby" {
		return label{}, fmt.Errorf("backup_label does not say whether it is of a primary or a standby but %q", from)
	}
	l.standby = from == "standby"
	return l, nil
}
