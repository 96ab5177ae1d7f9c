package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ramhq/ram/pg"
)

// leaveForArchive marks what a private server has written on new timelines as waiting
// for the archive, as PostgreSQL would have done had it been archiving: the histories,
// without which nobody finds the timelines again, and whole segments. Once the
// server is started with an archive, it passes them on. The last segment of each
// timeline is not among them: it is not full, or the next timeline has what is in it.
func (i *Instance) leaveForArchive(dir string, control pg.ControlData, first pg.Timeline) error {
	end := control.Checkpoint
	for timeline := control.Timeline; timeline >= first && timeline > 1; timeline-- {
		text, there, err := readFile(historyFile(dir, timeline))
		if err != nil {
			return err
		}
		if !there || string(text) == reservedHistory {
			continue
		}
		begin, err := lastSwitch(string(text))
		if err != nil {
			return fmt.Errorf("history of timeline %d: %w", timeline, err)
		}
		if err := i.markReady(dir, filepath.Base(historyFile(dir, timeline))); err != nil {
			return err
		}
		size := uint64(control.SegmentSize)
		for n := uint64(begin) / size; n < uint64(end)/size; n++ {
			if err := i.markReady(dir, segmentName(timeline, n, size)); err != nil {
				return err
			}
		}
		end = begin
	}
	return nil
}

// markReady leaves a file that is there for the archiver.
func (i *Instance) markReady(dir, name string) error {
	if _, err := os.Lstat(filepath.Join(dir, "pg_wal", name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return i.user.writeFile(filepath.Join(dir, "pg_wal", "archive_status", name+".ready"), nil)
}

// segmentName is that of the n-th WAL segment of a timeline, from zero.
func segmentName(timeline pg.Timeline, n, size uint64) string {
	perID := uint64(1<<32) / size
	return fmt.Sprintf("%08X%08X%08X", uint32(timeline), n/perID, n%perID)
}
