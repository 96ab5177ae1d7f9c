package take

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

const testID = "20260102T020000Z-nightly"

// newRepository is a directory of its own.
func newRepository(t testing.TB, compression string, encrypted bool) (*backup.Repository, backup.Config) {
	t.Helper()
	place, err := os.MkdirTemp(scratchParent(), "ramtakerepository")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(place) })
	c := backup.Config{URL: "file://" + place, Compression: compression}
	if encrypted {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		c.KeyFile = filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(c.KeyFile, []byte(identity.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	repository, err := backup.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { repository.Close() })
	return repository, c
}

// options back up a server into a repository.
func options(t testing.TB, s *server, repository *backup.Repository) Options {
	t.Helper()
	return Options{
		Repository: repository, Conninfo: s.conninfo("postgres"), ID: testID, Cluster: "orders", Node: "a", By: "test",
		SystemID: s.systemID(t), PartSize: 4 * pg.MB, Logger: zerolog.Nop(),
	}
}

// fill makes what a backup has to bring back: a table larger than a part, one in a
// tablespace, one that is not logged, and one that is being written to.
func fill(t *testing.T, s *server) {
	t.Helper()
	space := filepath.Join(s.dir, "space")
	mkdir(t, space, 0o700)
	s.sql(
		t, "CREATE TABLE large AS SELECT g, md5(g::text) FROM generate_series(1, 150000) g",
		"CREATE TABLESPACE elsewhere LOCATION '"+space+"'",
		"CREATE TABLE away TABLESPACE elsewhere AS SELECT g, md5(g::text) FROM generate_series(1, 1000) g",
		"CREATE UNLOGGED TABLE fleeting AS SELECT generate_series(1, 1000) g",
		"CREATE TABLE load (n int PRIMARY KEY)",
		"CHECKPOINT",
	)
}

// contents is a checksum of the tables that nobody writes to.
func contents(t *testing.T, s *server) string {
	t.Helper()
	return s.sql(t, `SELECT (SELECT md5(string_agg(l::text, '' ORDER BY g)) FROM large l) || (SELECT md5(string_agg(a::text, '' ORDER BY g)) FROM away a)`)
}

// load inserts 1, 2, 3, ... one transaction each, until the test ends. It returns
// the largest number that is committed.
func load(t *testing.T, s *server) func() int64 {
	t.Helper()
	conn := s.connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	var committed atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := int64(1); ctx.Err() == nil; n++ {
			if _, err := conn.Exec(context.WithoutCancel(ctx), "INSERT INTO load VALUES ($1)", n); err != nil {
				return
			}
			committed.Store(n)
			time.Sleep(time.Millisecond)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	waitFor(t, "some writes", func() bool { return committed.Load() > 100 })
	return committed.Load
}

func TestBackupRestoresToItsEnd(t *testing.T) {
	primary := startPrimary(t)
	fill(t, primary)
	// The clone has its tablespace in a directory of its own.
	standby := newServer(t)
	mkdir(t, filepath.Join(standby.dir, "space"), 0o700)
	run(t, "pg_basebackup", "-D", standby.data(), "-d", primary.conninfo("postgres").String(), "-R", "-c", "fast", "-N",
		"-T", filepath.Join(primary.dir, "space")+"="+filepath.Join(standby.dir, "space"))
	standby.start(t)
	committed := load(t, primary)
	want := contents(t, primary)

	for _, test := range []struct {
		of          string
		server      *server
		compression string
		encrypted   bool
	}{
		{"primary", primary, "zstd", true},
		{"primary", primary, "lz4", false},
		{"standby", standby, "gzip", true},
		{"standby", standby, "none", false},
	} {
		t.Run(fmt.Sprintf("%s, %s, encrypted %v", test.of, test.compression, test.encrypted), func(t *testing.T) {
			repository, _ := newRepository(t, test.compression, test.encrypted)
			o := options(t, test.server, repository)
			seen := func() int64 {
				var n int64
				if err := test.server.connect(t).QueryRow(t.Context(), "SELECT coalesce(max(n), 0) FROM load").Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			before := seen()
			entry, err := Take(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			after := committed() + 1 // one may be committed and not yet counted
			checkEntry(t, test.server, o, entry, test.of, test.compression, test.encrypted)

			restored := restore(t, repository, entry)
			if got := contents(t, restored); got != want {
				t.Error("the tables differ")
			}
			if got := restored.sql(t, "SELECT count(*) FROM fleeting"); got != "0" {
				t.Errorf("a table that is not logged came back with %s rows", got)
			}
			var n, last int64
			if err := restored.connect(t).QueryRow(t.Context(), "SELECT count(*), coalesce(max(n), 0) FROM load").Scan(&n, &last); err != nil {
				t.Fatal(err)
			}
			if n != last || last < before || last > after {
				t.Errorf("of the load %d rows up to %d came back, committed were %d before and %d after", n, last, before, after)
			}
		})
	}
}

func checkEntry(t *testing.T, s *server, o Options, e backup.Entry, role, compression string, encrypted bool) {
	t.Helper()
	list, err := o.Repository.Backups(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("the catalog: %v %v", list, err)
	}
	if diff := cmp.Diff(list[0], e, cmpopts.IgnoreFields(e, "Format")); diff != "" {
		t.Errorf("what is returned differs from what is published: %s", diff)
	}
	type facts struct {
		ID, Name, Cluster, Node, By, Role, Compression string
		Encrypted                                      bool
		SystemID                                       pg.SystemID
		Timeline                                       pg.Timeline
		SegmentSize                                    int64
		Version, Tablespaces                           int
	}
	got := facts{
		e.ID, e.Name, e.Cluster, e.Node, e.By, e.Role, e.Compression, e.Encrypted, e.SystemID, e.Timeline, e.SegmentSize,
		e.Version, len(e.Tablespaces),
	}
	want := facts{testID, "nightly", "orders", "a", "test", role, compression, encrypted, o.SystemID, 1, 16 << 20, e.Version, 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(s.sql(t, "SHOW server_version"), e.ServerVersion) || !strings.HasPrefix(e.ServerVersion, fmt.Sprint(e.Version)) {
		t.Errorf("version %d, %q", e.Version, e.ServerVersion)
	}
	if e.StartLSN == 0 || e.StopLSN <= e.StartLSN || e.Finished.Before(e.Started) {
		t.Errorf("from %s to %s, %s to %s", e.StartLSN, e.StopLSN, e.Started, e.Finished)
	}
	if e.Tablespaces[0].Location != filepath.Join(s.dir, "space") {
		t.Errorf("tablespace %+v", e.Tablespaces[0])
	}
	size, stored := e.Manifest.Plain, e.Manifest.Size
	for i, part := range e.Parts {
		size, stored = size+part.Plain, stored+part.Size
		object, err := o.Repository.Stat(t.Context(), backup.PartName(e.ID, i+1))
		if err != nil || object.Stored != part.Object || object.Size != part.Size {
			t.Errorf("part %d: %+v is stored as %+v, %v", i+1, part, object, err)
		}
		if part.Plain > int64(o.PartSize)+2048 && part.Files > 1 {
			t.Errorf("part %d holds %d files in %d bytes", i+1, part.Files, part.Plain)
		}
	}
	if e.Size != size || e.Stored != stored || len(e.Parts) < 5 {
		t.Errorf("size %d, stored %d, of %d parts together %d, %d", e.Size, e.Stored, len(e.Parts), size, stored)
	}
	if got := s.sql(t, "SELECT count(*) FROM pg_replication_slots"); got != "0" {
		waitFor(t, "the slot to go", func() bool { return s.sql(t, "SELECT count(*) FROM pg_replication_slots") == "0" })
	}
}

func TestMaxRateHoldsAtTheServer(t *testing.T) {
	s := startPrimary(t)
	repository, _ := newRepository(t, "lz4", false)
	o := options(t, s, repository)
	o.MaxRate = 16 * pg.MB
	var told []time.Time
	var last, total pg.Bytes
	o.Progress = func(d, of pg.Bytes) {
		if d < last || d > of {
			t.Errorf("%s of %s were done after %s", d, of, last)
		}
		told, last, total = append(told, time.Now()), d, of
	}
	begun := time.Now()
	entry, err := Take(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	if atLeast := time.Duration(float64(entry.Size) / float64(16*pg.MB) * 0.8 * float64(time.Second)); took < atLeast {
		t.Errorf("%d bytes came within %s, faster than allowed", entry.Size, took)
	}
	for i := 1; i < len(told); i++ {
		if gap := told[i].Sub(told[i-1]); gap < progressEvery-5*time.Millisecond {
			t.Errorf("progress was told again after %s", gap)
		}
	}
	if len(told) < 3 || total < pg.Bytes(entry.Size)/4 {
		t.Errorf("told %d times, the last time %s of %s", len(told), last, total)
	}
}
