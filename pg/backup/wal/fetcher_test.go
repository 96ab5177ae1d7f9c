package wal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg/backup"
)

// library is a repository with segments 0 to n-1, and a fetcher.
func library(t *testing.T, n int, change ...func(*FetcherConfig)) (f *Fetcher, repo string) {
	t.Helper()
	repo = newRepository(t, systemID)
	for i := range n {
		shelve(t, repo, nth(i), segment(t, nth(i), systemID, uint64(i)))
	}
	cfg := FetcherConfig{Open: opener(repo), Spool: filepath.Join(place(t), "spool"), Logger: zerolog.Nop()}
	for _, c := range change {
		c(&cfg)
	}
	f, err := NewFetcher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, f.Run)
	return f, repo
}

// shelve puts any content into a repository under the name of a WAL file.
func shelve(t *testing.T, repo, file string, content []byte) {
	t.Helper()
	name, err := backup.WALName(file)
	if err != nil {
		t.Fatal(err)
	}
	w, err := openRepository(t, repo).Create(t.Context(), name, backup.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

// fetch gets a file and compares it.
func fetch(t *testing.T, f *Fetcher, name string, want []byte) {
	t.Helper()
	to := filepath.Join(place(t), "RECOVERYXLOG")
	if err := f.Fetch(t.Context(), name, to); err != nil {
		t.Fatal(name, err)
	}
	got, err := os.ReadFile(to)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s is another file, %d bytes (%v)", name, len(got), err)
	}
}

func spooled(t *testing.T, f *Fetcher) (whole int) {
	t.Helper()
	entries, err := os.ReadDir(f.cfg.Spool)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n, err := ParseName(e.Name()); err == nil && n.Kind == Segment {
			whole++
		}
	}
	return whole
}

func TestSegmentsAreFetchedAheadOfASequence(t *testing.T) {
	f, _ := library(t, 20)
	fetch(t, f, nth(0), segment(t, nth(0), systemID, 0))
	time.Sleep(50 * time.Millisecond)
	if n := spooled(t, f); n > 0 {
		t.Errorf("%d segments fetched ahead of a single request", n)
	}
	fetch(t, f, nth(1), segment(t, nth(1), systemID, 1))
	waitFor(t, "a full window", func() bool { return spooled(t, f) == 8 })
	time.Sleep(50 * time.Millisecond)
	if n := spooled(t, f); n != 8 {
		t.Errorf("%d segments in a window of 8", n)
	}
	for n := 2; n < 20; n++ {
		fetch(t, f, nth(n), segment(t, nth(n), systemID, uint64(n)))
	}
	wantError(t, f.Fetch(t.Context(), nth(20), filepath.Join(place(t), "x")), ErrNotFound)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hits < 17 {
		t.Errorf("%d of 18 were there ahead", f.hits)
	}
}

func TestWhatIsFetchedAheadInVainIsDropped(t *testing.T) {
	f, _ := library(t, 20)
	fetch(t, f, nth(0), segment(t, nth(0), systemID, 0))
	fetch(t, f, nth(1), segment(t, nth(1), systemID, 1))
	waitFor(t, "a full window", func() bool { return spooled(t, f) == 8 })
	fetch(t, f, nth(14), segment(t, nth(14), systemID, 14))
	fetch(t, f, nth(15), segment(t, nth(15), systemID, 15))
	waitFor(t, "the four after it alone", func() bool { return spooled(t, f) == 4 })
}

func TestTheSpoolIsEmptyAtBeginningAndEnd(t *testing.T) {
	f, repo := library(t, 12)
	fetch(t, f, nth(0), segment(t, nth(0), systemID, 0))
	fetch(t, f, nth(1), segment(t, nth(1), systemID, 1))
	waitFor(t, "a full window", func() bool { return spooled(t, f) == 8 })
	again, err := NewFetcher(FetcherConfig{Open: opener(repo), Spool: f.cfg.Spool, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if n := spooled(t, f); n != 0 {
		t.Errorf("%d segments of a former run", n)
	}
	stop := run(t, again.Run)
	fetch(t, again, nth(0), segment(t, nth(0), systemID, 0))
	fetch(t, again, nth(1), segment(t, nth(1), systemID, 1))
	waitFor(t, "a full window", func() bool { return spooled(t, again) == 8 })
	stop()
	if left, err := os.ReadDir(f.cfg.Spool); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

func TestTheWindowIsBoundedInBytes(t *testing.T) {
	s := sequence{size: 64 << 20, last: Name{Kind: Segment, Timeline: 1, low: 62}}
	names := s.next(8)
	if len(names) != 2 || names[0] != "00000001000000000000003F" || names[1] != "000000010000000100000000" {
		t.Error(names)
	}
	s.size = 1 << 30
	s.last.low = 3
	if names := s.next(8); len(names) != 1 || names[0] != "000000010000000100000000" {
		t.Error(names)
	}
}

func TestNothingElseIsEverReturned(t *testing.T) {
	for _, c := range []struct {
		rule, file string
		content    []byte
		says       string
	}{
		{"a segment under another name", nth(1), segment(t, nth(0), systemID, 1), "holds WAL from 0/0"},
		{"a segment of another system", nth(1), segment(t, nth(1), systemID+1, 1), "system 7300000000000000002"},
		{"a short segment", nth(1), segment(t, nth(1), systemID, 1)[:1<<18], "262144 bytes"},
		{"a long segment", nth(1), append(segment(t, nth(1), systemID, 1), 1), "1048577 bytes"},
		{"a history that is none", "00000002.history", []byte("hello\n"), "has no position"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			f, repo := library(t, 1)
			shelve(t, repo, c.file, c.content)
			to := filepath.Join(place(t), "RECOVERYXLOG")
			err := f.Fetch(t.Context(), c.file, to)
			wantError(t, err, nil, "is not what its name says", c.says)
			if errors.Is(err, ErrNotFound) {
				t.Error("it is not that the archive has nothing")
			}
			if _, err := os.Stat(to); err == nil {
				t.Error("there is a file")
			}
		})
	}
}

func TestADamagedSegmentIsNotReturned(t *testing.T) {
	f, repo := library(t, 4)
	path := filepath.Join(repo, "wal", "00000001", "0000000100000000", nth(2)+".zst")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	fetch(t, f, nth(0), segment(t, nth(0), systemID, 0))
	fetch(t, f, nth(1), segment(t, nth(1), systemID, 1))
	wantError(t, f.Fetch(t.Context(), nth(2), filepath.Join(place(t), "x")), backup.ErrDamaged, nth(2))
}

func TestOnlyARepositoryThatIsThereHasNotAFile(t *testing.T) {
	f, repo := library(t, 1)
	to := filepath.Join(place(t), "x")
	for _, name := range []string{nth(5), "00000002.history", nth(0) + ".00000028.backup", nth(0) + ".partial"} {
		wantError(t, f.Fetch(t.Context(), name, to), ErrNotFound)
	}
	for _, name := range []string{"../../etc/passwd", "RECOVERYXLOG", ""} {
		if err := f.Fetch(t.Context(), name, to); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := os.Rename(repo, repo+".away"); err != nil {
		t.Fatal(err)
	}
	if err := f.Fetch(t.Context(), nth(0), to); err == nil || errors.Is(err, ErrNotFound) {
		t.Error("a repository that is not there:", err)
	}
	if err := os.Mkdir(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Fetch(t.Context(), nth(0), to); !errors.Is(err, errVanished) {
		t.Error("an empty directory in its place:", err)
	}
	if err := os.Remove(repo); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(repo+".away", repo); err != nil {
		t.Fatal(err)
	}
	if err := f.Fetch(t.Context(), nth(0), to); err != nil {
		t.Error(err)
	}
}

func TestManyMayFetchAtOnce(t *testing.T) {
	f, _ := library(t, 16)
	var want [][]byte
	for n := range 16 {
		want = append(want, segment(t, nth(n), systemID, uint64(n)))
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := range 16 {
				file, err := f.Open(context.Background(), nth(n))
				if err != nil {
					t.Error(err)
					return
				}
				content, err := io.ReadAll(file)
				file.Close()
				if err != nil || !bytes.Equal(content, want[n]) {
					t.Error("another file", err)
				}
			}
		})
	}
	all.Wait()
}
