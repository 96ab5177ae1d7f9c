package wal

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// The cases are written in segments of 1 MB: "2:5" is segment 5 of timeline 2, the backup
// "2:5-6" starts in it and ends in segment 6, the history "2<1:4" says that timeline 2 left
// timeline 1 in the middle of segment 4, and "3<2:6<1:4" goes on from there.

func entries(t *testing.T, text string) []backup.Entry {
	t.Helper()
	var all []backup.Entry
	for _, word := range strings.Fields(text) {
		var timeline, from, to int
		if _, err := fmt.Sscanf(word, "%d:%d-%d", &timeline, &from, &to); err != nil {
			t.Fatal(word, err)
		}
		all = append(all, backup.Entry{
			ID: word, Timeline: pg.Timeline(timeline), StartLSN: pg.LSN(from<<20 + 40), StopLSN: pg.LSN(to<<20 + 300), SegmentSize: 1 << 20,
		})
	}
	return all
}

func histories(t *testing.T, text string) map[pg.Timeline]string {
	t.Helper()
	all := map[pg.Timeline]string{}
	for _, word := range strings.Fields(text) {
		own, descent, _ := strings.Cut(word, "<")
		var timeline int
		if _, err := fmt.Sscan(own, &timeline); err != nil {
			t.Fatal(word, err)
		}
		lines := []string{}
		for step := range strings.SplitSeq(descent, "<") {
			var parent, at int
			if _, err := fmt.Sscanf(step, "%d:%d", &parent, &at); err != nil {
				t.Fatal(word, err)
			}
			lines = append([]string{fmt.Sprintf("%d\t%s\tno recovery target specified\n", parent, pg.LSN(at<<20+1<<19))}, lines...)
		}
		all[pg.Timeline(timeline)] = strings.Join(lines, "\n")
	}
	return all
}

// segments are the file names of "1:3-7 2:5", ranges included.
func segments(t *testing.T, text string) []string {
	t.Helper()
	var all []string
	for _, word := range strings.Fields(text) {
		timeline, numbers, _ := strings.Cut(word, ":")
		first, last, more := strings.Cut(numbers, "-")
		if !more {
			last = first
		}
		var tl, from, to int
		if _, err := fmt.Sscan(timeline+" "+first+" "+last, &tl, &from, &to); err != nil {
			t.Fatal(word, err)
		}
		for n := from; n <= to; n++ {
			all = append(all, segmentName(pg.Timeline(tl), uint64(n), 1<<20))
		}
	}
	return all
}

func TestWhichWALTheKeptBackupsNeed(t *testing.T) {
	for _, c := range []struct{ rule, backups, histories, there, removed string }{
		{"without a backup nothing goes", "", "", "1:1-9", ""},
		{"what is before the only backup goes", "1:5-6", "", "1:1-9", "1:1-4"},
		{"the oldest of several counts", "1:7-8 1:5-5 1:9-9", "", "1:1-12", "1:1-4"},
		{"a backup needs what descends from it", "1:3-4", "2<1:6", "1:1-9 2:6-9", "1:1-2"},
		{"and what descends from that", "1:3-4", "2<1:6 3<2:8<1:6", "1:1-9 2:6-9 3:8-12", "1:1-2"},
		{"the former timeline goes up to the oldest backup", "2:7-8", "2<1:6", "1:1-9 2:6-12", "1:1-6 2:6"},
		{"a timeline given up long ago goes when backups are past it", "2:12-13", "2<1:6", "1:1-9 2:6-14", "1:1-9 2:6-11"},
		{"after going back in time each timeline has its own beginning", "1:9-9 2:5-6", "2<1:4", "1:1-12 2:4-20", "1:1-8 2:4"},
		{"a new timeline without a backup is kept as a whole", "1:9-9", "2<1:4", "1:1-12 2:4-20", "1:1-8"},
		{"also when its history is not there", "1:9-9", "", "1:1-12 2:4-20", "1:1-8"},
		{"a dead branch is kept from the oldest backup on", "1:3-3 3:9-9", "2<1:4 3<1:6", "1:1-6 2:4-20 3:6-12", "1:1-2"},
		{"a timeline without history in between is kept from the oldest backup on", "1:5-5 3:9-9", "3<1:6", "2:4-8 3:6-12", "2:4"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			needs, err := Needed(entries(t, c.backups), histories(t, c.histories))
			if err != nil {
				t.Fatal(err)
			}
			removed := slices.DeleteFunc(segments(t, c.there), needs.Has)
			if diff := cmp.Diff(segments(t, c.removed), removed, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPartialSegmentsGoWithTheirNeighboursAndHistoriesStay(t *testing.T) {
	needs, err := Needed(entries(t, "2:7-8"), histories(t, "2<1:6"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, file := range []string{nth(6) + ".partial", nth(7) + ".partial", "00000002.history", "something", nth(3)[:16] + "FFFFFFFF"} {
		got = append(got, fmt.Sprint(needs.Has(file)))
	}
	if diff := cmp.Diff([]string{"false", "true", "true", "true", "true"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNotKnownIsNotGuessed(t *testing.T) {
	damaged := entries(t, "1:5-6")
	damaged[0].Damaged = "unexpected end"
	blank := entries(t, "1:5-6")
	blank[0].StartLSN = 0
	mixed := entries(t, "1:5-6 1:7-8")
	mixed[1].SegmentSize = 16 << 20
	for _, c := range []struct {
		rule      string
		kept      []backup.Entry
		histories map[pg.Timeline]string
		says      string
	}{
		{"a damaged entry", damaged, nil, "damaged"},
		{"an entry without its start", blank, nil, "does not say where it starts"},
		{"two segment sizes", mixed, nil, "segments of 16MB"},
		{"a history that cannot be read", entries(t, "1:5-6"), map[pg.Timeline]string{2: "x"}, "00000002.history"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			needs, err := Needed(c.kept, c.histories)
			wantError(t, err, nil, c.says)
			if !needs.Has(nth(1)) {
				t.Error("and something could go")
			}
		})
	}
}

func TestExpireRemovesFromTheRepository(t *testing.T) {
	repo := newRepository(t, systemID)
	for _, name := range segments(t, "1:1-30 2:20-25") {
		shelve(t, repo, name, []byte("WAL"))
	}
	for timeline, text := range histories(t, "2<1:20") {
		shelve(t, repo, historyName(timeline), []byte(text))
	}
	r := openRepository(t, repo)
	if gone, err := Expire(t.Context(), r, nil); err != nil || gone.Objects > 0 {
		t.Error(gone, err)
	}
	gone, err := Expire(t.Context(), r, entries(t, "1:12-13 2:22-23"))
	if err != nil || gone.Objects != 11 || gone.Bytes == 0 {
		t.Error(gone, err)
	}
	want := append(segments(t, "1:12-30 2:20-25"), "00000002.history")
	if diff := cmp.Diff(want, names(t, repo, "wal/")); diff != "" {
		t.Error(diff)
	}
	if again, err := Expire(t.Context(), r, entries(t, "1:12-13 2:22-23")); err != nil || again != (Expired{}) {
		t.Error(again, err)
	}
}

func TestAFollowerIsToldThatExpiredWALIsDone(t *testing.T) {
	b := newBench(t, Follower)
	e := entries(t, "1:12-13")[0]
	e.ID = "20260102T020000Z-nightly"
	if err := openRepository(t, b.repo).Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := b.Push(t.Context(), nth(11)); err != nil {
		t.Error("what no backup needs:", err)
	}
	if err := b.Push(t.Context(), nth(12)); !errors.Is(err, ErrNotYet) {
		t.Error("what a backup needs:", err)
	}
}

func TestHowFarABackupCanBeRecovered(t *testing.T) {
	for _, c := range []struct{ rule, backup, histories, there, want string }{
		{"to the end of the archive", "1:3-4", "", "1:1-9", "timeline 1, 4 to 10, until 9"},
		{"to its own end without an archive", "1:3-4", "", "", "timeline 1, 4 alone"},
		{"to its own end when the next segment is missing", "1:3-4", "", "1:1-3 1:5-6", "timeline 1, 4 alone, missing 1:4"},
		{"up to the first gap", "1:3-4", "", "1:1-5 1:8-9 1:12", "timeline 1, 4 to 6, until 5, missing 1:6-7 1:10-11"},
		{"gaps before the backup do not matter", "1:3-4", "", "1:1 1:4-5", "timeline 1, 4 to 6, until 5"},
		{"across a promotion", "1:3-4", "2<1:6", "1:1-9 2:6-8", "timeline 2, 4 to 9, until 8"},
		{"across two", "1:3-4", "2<1:6 3<2:8<1:6", "1:1-6 2:6-9 3:8-10", "timeline 3, 4 to 11, until 10"},
		{"the segment of the fork must be the new timeline's", "1:3-4", "2<1:6", "1:1-9 2:7-8", "timeline 2, 4 to 6, until 5, missing 2:6"},
		{"a timeline that left before the backup's end is not its", "1:3-7", "2<1:6", "1:1-9 2:6-20", "timeline 1, 7 to 10, until 9"},
		{"the newest of two branches", "1:3-4", "2<1:6 3<1:5", "1:1-6 2:6-20 3:5-7", "timeline 3, 4 to 8, until 7"},
		{"a promotion from which nothing was archived", "1:3-4", "2<1:6", "1:1-9", "timeline 2, 4 to 6, until 5"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			known, err := parseHistories(histories(t, c.histories))
			if err != nil {
				t.Fatal(err)
			}
			var objects []backup.Object
			for _, name := range segments(t, c.there) {
				n, _ := ParseName(name)
				objects = append(objects, backup.Object{Name: "wal/" + name, At: time.Unix(int64(n.low), 0)})
			}
			if diff := cmp.Diff(c.want, rangeNotation(reach(entries(t, c.backup)[0], known, objects))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func rangeNotation(r Range) string {
	text := fmt.Sprintf("timeline %d, %d", r.Timeline, r.From>>20)
	if r.To == r.From {
		text += " alone"
	} else {
		text += fmt.Sprintf(" to %d, until %d", r.To>>20, r.Until.Unix())
	}
	for i, g := range r.Gaps {
		first, _ := ParseName(g.First)
		last, _ := ParseName(g.Last)
		if i == 0 {
			text += ", missing"
		}
		text += fmt.Sprintf(" %d:%d", first.Timeline, first.low)
		if last != first {
			text += fmt.Sprintf("-%d", last.low)
		}
	}
	return text
}

func TestReachReadsTheRepository(t *testing.T) {
	repo := newRepository(t, systemID)
	for _, name := range segments(t, "1:4-6 2:6-8") {
		shelve(t, repo, name, []byte("WAL"))
	}
	shelve(t, repo, "00000002.history", []byte(histories(t, "2<1:6")[2]))
	before := time.Now().Add(-time.Minute)
	got, err := Reach(t.Context(), openRepository(t, repo), entries(t, "1:4-4")[0])
	if err != nil {
		t.Fatal(err)
	}
	if got.Until.Before(before) {
		t.Error(got.Until)
	}
	got.Until = time.Time{}
	if diff := cmp.Diff(Range{Timeline: 2, From: 4<<20 + 300, To: 9 << 20}, got); diff != "" {
		t.Error(diff)
	}
}

func TestHistoriesAreReadAsPostgreSQLWritesThem(t *testing.T) {
	for _, c := range []struct{ rule, text, want string }{
		{"two promotions", "1\t0/3000158\tno recovery target specified\n\n2\t1/5000000\tbefore 2026-01-02\n", "1@0/3000158 2@1/5000000"},
		{"comments say nothing", "# reserved by ramd\n", ""},
		{"timelines must grow", "2\t0/1\tx\n1\t0/2\ty\n", "error"},
		{"a timeline is not its own parent", "5\t0/1\tx\n", "error"},
		{"a position is needed", "1\n", "error"},
		{"a number is needed", "x\t0/1\n", "error"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			h, err := parseHistory(5, c.text)
			var words []string
			for _, b := range h {
				words = append(words, fmt.Sprintf("%d@%s", b.timeline, b.end))
			}
			got := strings.Join(words, " ")
			if err != nil {
				got = "error"
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
