package wal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg/backup"
)

func TestWhatIsPushedIsInTheRepository(t *testing.T) {
	b := newBench(t, Holder)
	b.put(t, nth(3), 1)
	b.write(t, nth(4)+".partial", segment(t, nth(4), systemID, 2))
	b.write(t, "00000002.history", []byte("1\t0/300000\tno recovery target specified\n"))
	for _, file := range []string{nth(3), nth(4) + ".partial", "00000002.history", nth(3) + ".00000028.backup"} {
		if err := b.Push(t.Context(), file); err != nil {
			t.Error(err)
		}
	}
	want := []string{nth(3), nth(4) + ".partial", "00000002.history"}
	if diff := cmp.Diff(want, names(t, b.repo, "wal/")); diff != "" {
		t.Error(diff)
	}
	if s := b.State(); s.Last != "00000002.history" && s.Last != nth(3)+".00000028.backup" || s.Error != "" {
		t.Errorf("%+v", s)
	}
}

func TestTheSameSegmentAgainIsAcceptedWhenIdentical(t *testing.T) {
	b := newBench(t, Holder)
	b.put(t, nth(3), 1)
	for range 3 {
		if err := b.Push(t.Context(), nth(3)); err != nil {
			t.Fatal(err)
		}
	}
	b.put(t, nth(3), 2)
	err := b.Push(t.Context(), nth(3))
	wantError(t, err, ErrDifferent, "move wal/", "out of the repository")
	if s := b.State(); s.Error != err.Error() || s.ErrorSince.IsZero() {
		t.Errorf("%+v", s)
	}
	b.put(t, nth(3), 1)
	if err := b.Push(t.Context(), nth(3)); err != nil {
		t.Fatal(err)
	}
	if s := b.State(); s.Error != "" || !s.ErrorSince.IsZero() {
		t.Errorf("%+v", s)
	}
}

// Of two servers that left a timeline within one segment each has a partial one.
func TestAnotherPartialSegmentIsNotStored(t *testing.T) {
	b := newBench(t, Holder)
	for content := range uint64(2) {
		b.write(t, nth(3)+".partial", segment(t, nth(3), systemID, content+1))
		if err := b.Push(t.Context(), nth(3)+".partial"); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.State(); s.Error != "" {
		t.Errorf("%+v", s)
	}
}

func TestOfTwoHoldersOneWins(t *testing.T) {
	for round := range 5 {
		a := newBench(t, Holder)
		var b bench
		b.open(t, Holder, a.repo)
		a.put(t, nth(round), 1)
		b.put(t, nth(round), 2)
		errs := make([]error, 2)
		var both sync.WaitGroup
		both.Go(func() { errs[0] = a.Push(t.Context(), nth(round)) })
		both.Go(func() { errs[1] = b.Push(t.Context(), nth(round)) })
		both.Wait()
		refused := slices.IndexFunc(errs, func(err error) bool { return errors.Is(err, ErrDifferent) })
		if refused < 0 || errs[1-refused] != nil {
			t.Fatalf("%v", errs)
		}
	}
}

func TestAFileThatIsNotWhatItsNameSaysIsRefused(t *testing.T) {
	good := segment(t, nth(3), systemID, 1)
	for _, c := range []struct {
		rule, file string
		content    []byte
		says       string
	}{
		{"a segment of another place", nth(4), good, "holds WAL from 0/300000, and its name says 0/400000"},
		{"a segment of a later timeline", nth(3), segment(t, segmentName(2, 3, 1<<20), systemID, 1), "holds WAL of timeline 2"},
		{"a segment of another system", nth(3), segment(t, nth(3), systemID+1, 1), "is WAL of the system 7300000000000000002"},
		{"a truncated segment", nth(3), good[:1<<19], "has 524288 bytes"},
		{"a segment that is too long", nth(3), append(slices.Clone(good), 0), "has 1048577 bytes"},
		{"an empty file", nth(3), nil, "has 0 bytes"},
		{"zeros", nth(3), make([]byte, 1<<20), "no WAL header"},
		{"a history that is none", "00000003.history", []byte("root:x:0:0\n"), "has no position"},
		{"a history of a later timeline", "00000003.history", []byte("3\t0/5000000\twhy\n"), "timelines must grow"},
		{"a history that is too long", "00000003.history", make([]byte, maxHistory+1), "more than a history ever has"},
		{"a path", "../pg_wal/" + nth(3), good, "not the name of a WAL segment"},
		{"small letters", "00000001000000000000000a", good, "not the name of a WAL segment"},
		{"a name with more after it", nth(3) + "\n", good, "not the name of a WAL segment"},
		{"timeline 0", "000000000000000000000003", good, "timeline 0"},
		{"nothing", "", nil, "not the name of a WAL segment"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			b := newBench(t, Holder)
			if _, err := ParseName(c.file); err == nil {
				b.write(t, c.file, c.content)
			}
			wantError(t, b.Push(t.Context(), c.file), nil, c.says)
			if got := names(t, b.repo, "wal/"); len(got) > 0 {
				t.Error("stored", got)
			}
		})
	}
}

func TestTheFirstSegmentOfATimelineHoldsPagesOfTheOneBefore(t *testing.T) {
	b := newBench(t, Holder)
	name := segmentName(2, 3, 1<<20)
	b.write(t, name, segment(t, nth(3), systemID, 1))
	if err := b.Push(t.Context(), name); err != nil {
		t.Error(err)
	}
}

func TestALinkIsNotFollowed(t *testing.T) {
	b := newBench(t, Holder)
	b.write(t, "elsewhere", segment(t, nth(3), systemID, 1))
	if err := os.Symlink("elsewhere", filepath.Join(b.dir, nth(3))); err != nil {
		t.Fatal(err)
	}
	wantError(t, b.Push(t.Context(), nth(3)), nil)
}

func TestWhatWaitsIsUploadedBeforePostgreSQLAsks(t *testing.T) {
	b := newBench(t, Holder)
	for n := range 20 {
		b.put(t, nth(n), uint64(n))
		b.ready(t, nth(n))
	}
	if s := b.State(); s.Backlog != 20 || s.Bytes != 20<<20 || s.Oldest <= 0 {
		t.Errorf("%+v", s)
	}
	if err := b.Push(t.Context(), nth(0)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all segments in the repository", func() bool { return len(names(t, b.repo, "wal/")) == 20 })
	flag := func(n int) bool {
		_, err := os.Stat(filepath.Join(b.cfg.Ahead, nth(n)))
		return err == nil
	}
	waitFor(t, "a flag for each that PostgreSQL may ask for", func() bool { return flag(1) && flag(19) })
	if flag(0) {
		t.Error("a flag for what PostgreSQL has been told of")
	}
	if err := b.Push(t.Context(), nth(1)); err != nil || flag(1) {
		t.Error(err, "or the flag is still there")
	}
	for n := range 20 {
		if err := os.Remove(filepath.Join(statusDir(b.dir), nth(n)+readySuffix)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Push(t.Context(), nth(2)); err != nil { // has it look again
		t.Fatal(err)
	}
	waitFor(t, "the flags gone with the .ready files", func() bool {
		left, _ := os.ReadDir(b.cfg.Ahead)
		return len(left) == 0
	})
	if s := b.State(); s.Backlog != 0 || s.Bytes != 0 || s.Oldest != 0 {
		t.Errorf("%+v", s)
	}
}

func TestANewArchiverTrustsNoFlags(t *testing.T) {
	dir := filepath.Join(place(t), "ahead")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, nth(3)), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	newBench(t, Holder, func(c *ArchiverConfig) { c.Ahead = dir })
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

func TestAFollowerConfirmsOnlyWhatTheRepositoryHas(t *testing.T) {
	b := newBench(t, Follower)
	var holder bench
	holder.open(t, Holder, b.repo)
	b.put(t, nth(3), 1)
	holder.put(t, nth(3), 1)
	began := time.Now()
	wantError(t, b.Push(t.Context(), nth(3)), ErrNotYet)
	if took := time.Since(began); took < b.cfg.Wait {
		t.Errorf("gave up after %s", took)
	}
	if s := b.State(); s.Error != "" {
		t.Errorf("waiting for the primary is no error: %+v", s)
	}
	if len(names(t, b.repo, "wal/")) > 0 {
		t.Error("a follower has uploaded")
	}
	if err := holder.Push(t.Context(), nth(3)); err != nil {
		t.Fatal(err)
	}
	if err := b.Push(t.Context(), nth(3)); err != nil {
		t.Error(err)
	}
}

func TestAFollowerThatBecomesHolderUploadsAtOnce(t *testing.T) {
	b := newBench(t, Follower, func(c *ArchiverConfig) { c.Wait = time.Hour })
	b.put(t, nth(3), 1)
	done := make(chan error)
	go func() { done <- b.Push(context.Background(), nth(3)) }()
	time.Sleep(50 * time.Millisecond)
	b.mood.set(Holder)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(names(t, b.repo, "wal/")) != 1 {
		t.Error("it is not in the repository")
	}
}

func TestStoppingEndsEveryWait(t *testing.T) {
	for _, s := range []Standing{Holder, Follower} {
		b := newBench(t, s, func(c *ArchiverConfig) {
			c.Wait = time.Hour
			open := c.Open
			c.Open = func(ctx context.Context) (r *backup.Repository, err error) {
				if s == Holder { // a repository that hangs
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return open(ctx)
			}
		})
		b.put(t, nth(3), 1)
		done := make(chan error)
		go func() { done <- b.Push(context.Background(), nth(3)) }()
		time.Sleep(50 * time.Millisecond)
		b.mood.set(Stopping)
		wantError(t, <-done, ErrStopping)
		wantError(t, b.Push(t.Context(), nth(3)), ErrStopping)
		b.mood.set(Nobody)
		wantError(t, b.Push(t.Context(), nth(3)), ErrNotHolder)
	}
}

func TestARepositoryThatHasVanishedAcceptsNothing(t *testing.T) {
	b := newBench(t, Holder)
	b.put(t, nth(3), 1)
	b.put(t, nth(4), 1)
	b.put(t, nth(5), 1)
	if err := b.Push(t.Context(), nth(3)); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.repo, b.repo+".away"); err != nil {
		t.Fatal(err)
	}
	wantError(t, b.Push(t.Context(), nth(4)), nil)
	// The bare directory under a file system that is not mounted.
	if err := os.MkdirAll(b.repo, 0o755); err != nil {
		t.Fatal(err)
	}
	wantError(t, b.Push(t.Context(), nth(4)), nil, "ram.json")
	if err := os.RemoveAll(b.repo); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b.repo+".away", b.repo); err != nil {
		t.Fatal(err)
	}
	if err := b.Push(t.Context(), nth(4)); err != nil {
		t.Error(err)
	}
	if s := b.State(); s.Error != "" || s.Last != nth(4) {
		t.Errorf("%+v", s)
	}
}

func TestTheBacklogDrainsByItselfAfterAnOutage(t *testing.T) {
	b := newBench(t, Holder)
	if err := os.Rename(b.repo, b.repo+".away"); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		b.put(t, nth(n), uint64(n))
		b.ready(t, nth(n))
	}
	wantError(t, b.Push(t.Context(), nth(0)), nil)
	if s := b.State(); s.Error == "" || s.Backlog != 5 {
		t.Errorf("%+v", s)
	}
	if err := os.Rename(b.repo+".away", b.repo); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the backlog in the repository", func() bool { return len(names(t, b.repo, "wal/")) == 5 })
	waitFor(t, "the error to be over", func() bool { return b.State().Error == "" })
}
