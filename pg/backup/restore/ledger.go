package restore

import (
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/ramhq/ram/pg/backup"
)

// ledger holds the files that come against those that the manifest lists. It takes
// some 150 bytes of memory for each. Safe for concurrent use.
type ledger struct {
	mu   sync.Mutex
	due  map[string]*file // by path, as in the manifest: relative to the data directory
	come int
	wal  map[uint64]int64 // sizes of the WAL segments by number
	seen map[string]bool  // names of the segments
}

// file is what the manifest tells of one.
type file struct {
	size   int64
	crc32c uint32
	come   bool
}

func newLedger() *ledger {
	return &ledger{due: make(map[string]*file), wal: make(map[uint64]int64), seen: make(map[string]bool)}
}

// expect takes a line of the manifest.
func (l *ledger) expect(name string, size int64, crc32c uint32) error {
	if l.due[name] != nil {
		return fmt.Errorf("the manifest lists %q twice", name)
	}
	l.due[name] = &file{size: size, crc32c: crc32c}
	return nil
}

const walDir = "pg_wal"

var segmentName = regexp.MustCompile(`^[0-9A-F]{24}$`)

// begin looks up a file that comes, and refuses one that does not belong to the backup,
// comes twice or has another size. Of WAL segments, which PostgreSQL's manifest does not
// list, it returns nil.
func (l *ledger) begin(name string, size int64, segmentSize int64) (*file, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.due[name]
	if dir, base := path.Split(name); f == nil && dir == walDir+"/" && segmentName.MatchString(base) {
		return nil, l.segment(base, size, segmentSize)
	}
	switch {
	case f == nil:
		return nil, fmt.Errorf("file %q is not in the manifest", name)
	case f.come:
		return nil, fmt.Errorf("file %q comes twice", name)
	case f.size != size:
		return nil, fmt.Errorf("file %q has %d bytes, the manifest says %d", name, size, f.size)
	}
	f.come = true
	l.come++
	return f, nil
}

// segment notes a WAL segment. Its records have checksums of their own, which are
// looked at when it is replayed.
func (l *ledger) segment(name string, size, segmentSize int64) error {
	if l.seen[name] {
		return fmt.Errorf("WAL segment %s comes twice", name)
	}
	if segmentSize <= 0 || segmentSize > 1<<32 || size != segmentSize {
		return fmt.Errorf("WAL segment %s has %d bytes instead of %d", name, size, segmentSize)
	}
	high, _ := strconv.ParseUint(name[8:16], 16, 64)
	low, _ := strconv.ParseUint(name[16:], 16, 64)
	l.seen[name] = true
	l.wal[high*(1<<32/uint64(segmentSize))+low] = size
	return nil
}

// mostNamed files are named in an error.
const mostNamed = 5

// complete is an error unless every file of the manifest, and all WAL that makes the
// backup consistent, has come.
func (l *ledger) complete(e backup.Entry) error {
	var missing []string
	if l.come < len(l.due) {
		for name, f := range l.due {
			if f.come {
				continue
			}
			if missing = append(missing, strconv.Quote(name)); len(missing) == mostNamed {
				break
			}
		}
		return fmt.Errorf("%w: %d files of the manifest are in none of its parts, among them %s",
			backup.ErrDamaged, len(l.due)-l.come, strings.Join(missing, ", "))
	}
	if e.SegmentSize <= 0 || e.StopLSN <= e.StartLSN {
		return nil
	}
	size := uint64(e.SegmentSize)
	for n := uint64(e.StartLSN) / size; n <= (uint64(e.StopLSN)-1)/size; n++ {
		if l.wal[n] == 0 {
			return fmt.Errorf("%w: the WAL segment from LSN %X/%X on, which it needs, is in none of its parts", backup.ErrDamaged, n*size>>32, uint32(n*size))
		}
	}
	return nil
}

// localName is the path that an entry of an archive has in its place, or an error for
// one that leads anywhere else.
func localName(name string) (string, error) {
	clean := path.Clean(strings.TrimSuffix(name, "/"))
	if strings.ContainsRune(name, 0) || !filepath.IsLocal(clean) {
		return "", fmt.Errorf("the path %q leads out of the directory", name)
	}
	return clean, nil
}
