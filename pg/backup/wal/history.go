package wal

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ramhq/ram/pg"
)

// maxHistory bounds what is taken for a history file: PostgreSQL writes about a hundred
// bytes for each promotion.
const maxHistory = 1 << 20

// branch is an earlier timeline and where it was left.
type branch struct {
	timeline pg.Timeline
	end      pg.LSN
}

// history is the line of descent of a timeline, eldest first, without itself.
type history []branch

// parseHistory reads a history file as PostgreSQL does: for each earlier timeline a line of
// its number, where it was left, and why. Timelines must grow, and be below t.
func parseHistory(t pg.Timeline, text string) (history, error) {
	var h history
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %q has no position", line)
		}
		number, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %q does not begin with a timeline", line)
		}
		end, err := pg.ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		b := branch{pg.Timeline(number), end}
		if b.timeline >= t || len(h) > 0 && b.timeline <= h[len(h)-1].timeline {
			return nil, fmt.Errorf("line %q: timelines must grow, up to the one before %d", line, t)
		}
		h = append(h, b)
	}
	return h, nil
}

// left is where the line of descent leaves a timeline; false when it was never on it.
func (h history) left(t pg.Timeline) (pg.LSN, bool) {
	for _, b := range h {
		if b.timeline == t {
			return b.end, true
		}
	}
	return 0, false
}

// families are the known histories by timeline. Timeline 1 needs none: it descends from
// nobody.
type families map[pg.Timeline]history

// reaches reports whether WAL of timeline t is a continuation of what was at the given
// position of another timeline.
func (f families) reaches(t, from pg.Timeline, at pg.LSN) bool {
	if t == from {
		return true
	}
	end, ok := f[t].left(from)
	return ok && end >= at
}

// parseHistories parses the contents of history files. One that says nothing only reserves
// its number: nothing is known of such a timeline.
func parseHistories(texts map[pg.Timeline]string) (families, error) {
	known := families{}
	for t, text := range texts {
		h, err := parseHistory(t, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", historyName(t), err)
		}
		if len(h) > 0 {
			known[t] = h
		}
	}
	return known, nil
}
