package take

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// during calls act once, when the backup's first bytes have come.
func during(act func()) func(done, total pg.Bytes) {
	var called bool
	return func(done, total pg.Bytes) {
		if !called && done > 0 {
			called = true
			act()
		}
	}
}

// wantNothing makes sure that a failed backup left nothing.
func wantNothing(t *testing.T, repository *backup.Repository, entry backup.Entry) {
	t.Helper()
	if entry.ID != "" {
		t.Errorf("an entry was returned: %+v", entry)
	}
	list, err := repository.Backups(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("visible: %v %v", list, err)
	}
	objects, err := repository.List(t.Context(), "")
	if err != nil || len(objects) != 0 {
		t.Errorf("left: %v %v", objects, err)
	}
}

func wantError(t *testing.T, err, is error, says ...string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) {
		t.Fatalf("got %v, want %v", err, is)
	}
	for _, words := range says {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}

func TestFailureInTheMiddle(t *testing.T) {
	t.Run("cancel leaves nothing", func(t *testing.T) {
		s := startPrimary(t)
		repository, _ := newRepository(t, "zstd", false)
		o := options(t, s, repository)
		o.PartSize = 64 * pg.KB // so that parts are there by then
		o.MaxRate = 8 * pg.MB
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("the operator's wish")
		o.Progress = func(done, total pg.Bytes) {
			if objects, err := repository.List(t.Context(), "backups/"); err != nil || len(objects) > 1 {
				cancel(cause)
			}
		}
		entry, err := Take(ctx, o)
		wantError(t, err, cause, testID, "was cancelled")
		wantNothing(t, repository, entry)
		waitFor(t, "walsender and slot to go", func() bool {
			return s.sql(t, "SELECT (SELECT count(*) FROM pg_stat_replication) + (SELECT count(*) FROM pg_replication_slots)") == "0"
		})
	})
	t.Run("a server that dies", func(t *testing.T) {
		s := startPrimary(t)
		repository, _ := newRepository(t, "zstd", false)
		o := options(t, s, repository)
		o.MaxRate = 8 * pg.MB
		o.Progress = during(s.kill)
		entry, err := Take(t.Context(), o)
		wantError(t, err, nil, "connection to PostgreSQL broke", "see that the server runs")
		wantNothing(t, repository, entry)
	})
	t.Run("a server that ends the connection", func(t *testing.T) {
		s := startPrimary(t)
		repository, _ := newRepository(t, "zstd", false)
		o := options(t, s, repository)
		o.MaxRate = 8 * pg.MB
		o.Progress = during(func() { s.sql(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication") })
		entry, err := Take(t.Context(), o)
		wantError(t, err, nil, "take another backup")
		wantNothing(t, repository, entry)
	})
	t.Run("WAL that outgrows max_slot_wal_keep_size", func(t *testing.T) {
		s := startPrimary(t, "max_slot_wal_keep_size=16MB", "max_wal_size=32MB")
		s.sql(t, "CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 60000)")
		repository, _ := newRepository(t, "zstd", false)
		o := options(t, s, repository)
		o.MaxRate = 8 * pg.MB
		o.Progress = during(func() {
			for range 4 {
				s.sql(t, "SELECT pg_logical_emit_message(false, '', 'x')", "SELECT pg_switch_wal()")
			}
			s.sql(t, "CHECKPOINT")
		})
		entry, err := Take(t.Context(), o)
		wantError(t, err, nil, "take another backup")
		wantNothing(t, repository, entry)
		if log, err := os.ReadFile(filepath.Join(s.dir, "log")); err != nil || !strings.Contains(string(log), "to release replication slot") {
			t.Errorf("the server did not end it for its WAL: %v", err)
		}
	})
	t.Run("a standby that is promoted", func(t *testing.T) {
		primary := startPrimary(t)
		s := startStandby(t, primary)
		repository, _ := newRepository(t, "zstd", false)
		o := options(t, s, repository)
		o.MaxRate = 8 * pg.MB
		o.Progress = during(func() { s.sql(t, "SELECT pg_promote()") })
		entry, err := Take(t.Context(), o)
		wantError(t, err, nil, "promoted during", "take another backup")
		wantNothing(t, repository, entry)
	})
	t.Run("a repository that vanishes", func(t *testing.T) {
		s := startPrimary(t)
		repository, c := newRepository(t, "zstd", false)
		place := strings.TrimPrefix(c.URL, "file://")
		o := options(t, s, repository)
		o.MaxRate = 8 * pg.MB
		o.Progress = during(func() {
			if err := os.RemoveAll(place); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(place, nil, 0o600); err != nil {
				t.Error(err)
			}
		})
		begun := time.Now()
		entry, err := Take(t.Context(), o)
		wantError(t, err, backup.ErrUnavailable, "see that the repository can be reached")
		if entry.ID != "" || time.Since(begun) > removeWithin {
			t.Errorf("%v after %s", entry, time.Since(begun))
		}
	})
	t.Run("pages with a wrong checksum", func(t *testing.T) {
		s := startPrimary(t)
		s.sql(t, "CREATE TABLE t AS SELECT generate_series(1, 10000) g", "CHECKPOINT")
		corrupt(t, filepath.Join(s.data(), s.sql(t, "SELECT pg_relation_filepath('t')")))
		repository, _ := newRepository(t, "zstd", false)
		var log strings.Builder
		o := options(t, s, repository)
		o.Logger = zerolog.New(&log)
		entry, err := Take(t.Context(), o)
		wantError(t, err, nil, "checksum", "pages of the server are damaged")
		wantNothing(t, repository, entry)
		if !strings.Contains(log.String(), "checksum verification failed in file") {
			t.Errorf("the log does not name the file: %s", &log)
		}
	})
}

func TestKilledTakerLeavesRemains(t *testing.T) {
	s := startPrimary(t)
	repository, c := newRepository(t, "zstd", false)
	cmd := takerCommand(t, errand{c, plainOptions{s.conninfo("postgres"), testID, s.systemID(t), 8 * pg.MB, 64 * pg.KB}})
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "some parts", func() bool {
		objects, err := repository.List(t.Context(), "backups/")
		return err == nil && len(objects) > 2
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed

	list, err := repository.Backups(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("visible: %v %v", list, err)
	}
	remains, err := repository.Remains(t.Context())
	if diff := cmp.Diff([]string{testID}, remains); diff != "" || err != nil {
		t.Errorf("remains: %v %s", err, diff)
	}
	t.Run("which are not mistaken for a backup's beginning", func(t *testing.T) {
		_, err := Take(t.Context(), options(t, s, repository))
		wantError(t, err, backup.ErrExists)
	})
	if err := repository.DeleteBackup(t.Context(), testID); err != nil {
		t.Fatal(err)
	}
	wantNothing(t, repository, backup.Entry{})
	waitFor(t, "walsender and slot to go", func() bool {
		return s.sql(t, "SELECT (SELECT count(*) FROM pg_stat_replication) + (SELECT count(*) FROM pg_replication_slots)") == "0"
	})
	if _, err := Take(t.Context(), options(t, s, repository)); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
}

// corrupt changes a byte in the middle of the second page.
func corrupt(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xAA, 0x55}, 8192+6000); err != nil {
		t.Fatal(err)
	}
}
