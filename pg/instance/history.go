package instance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ramhq/ram/pg"
)

// historyFile is the path of a timeline's history.
func historyFile(dataDir string, timeline pg.Timeline) string {
	return filepath.Join(dataDir, "pg_wal", fmt.Sprintf("%08X.history", uint32(timeline)))
}

// timelineBegan is where the timeline of a primary left the one before. It is read
// once for each timeline.
func (p *prober) timelineBegan(dataDir string, timeline pg.Timeline) (pg.LSN, error) {
	if timeline == p.slow.beganOf || timeline <= 1 {
		return p.slow.beganFor(timeline), nil
	}
	text, there, err := readFile(historyFile(dataDir, timeline))
	if err != nil || !there {
		return 0, err
	}
	began, err := lastSwitch(string(text))
	if err != nil {
		return 0, fmt.Errorf("history of timeline %d: %w", timeline, err)
	}
	p.slow.began, p.slow.beganOf = began, timeline
	return began, nil
}

func (s *slowFacts) beganFor(timeline pg.Timeline) pg.LSN {
	if timeline != s.beganOf {
		return 0
	}
	return s.began
}

// lastSwitch is where the timeline before a history's own was left; zero when there is none.
func lastSwitch(history string) (last pg.LSN, err error) {
	err = eachSwitch(history, func(_ pg.Timeline, at pg.LSN) { last = at })
	return last, err
}

// leftAt is where a history left a timeline; zero when it has never been on it.
func leftAt(history string, timeline pg.Timeline) (left pg.LSN, err error) {
	err = eachSwitch(history, func(of pg.Timeline, at pg.LSN) {
		if of == timeline {
			left = at
		}
	})
	return left, err
}

// eachSwitch reads a timeline's history: a line for each earlier timeline, of its
// number, where it was left, and why, the oldest first.
func eachSwitch(history string, tell func(of pg.Timeline, at pg.LSN)) error {
	for line := range strings.Lines(history) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return fmt.Errorf("line %q has no position", line)
		}
		of, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return fmt.Errorf("line %q does not begin with a timeline", line)
		}
		at, err := pg.ParseLSN(fields[1])
		if err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		tell(pg.Timeline(of), at)
	}
	return nil
}

// dropReserved removes the histories that ReserveTimelines has made above the newest
// true one. A promotion that was cut short leaves them, and a standby that starts would
// take the newest for the timeline to follow, and never come up. Those below a true
// one stay: a follower asks its primary for every number up to the one that it follows.
func dropReserved(dataDir string) error {
	dir := filepath.Join(dataDir, "pg_wal")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	// Newest first: the names are numbers of one length.
	for _, entry := range slices.Backward(entries) {
		path := filepath.Join(dir, entry.Name())
		if filepath.Ext(path) != ".history" {
			continue
		}
		text, _, err := readFile(path)
		if err != nil {
			return err
		}
		if string(text) != reservedHistory {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
