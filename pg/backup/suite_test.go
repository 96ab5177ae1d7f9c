package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup/ident"
)

// testChunk makes objects of many frames small.
const testChunk = 64 << 10

// exampleStart is when a backup of the tests began.
var exampleStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var compressions = []string{"zstd", "lz4", "gzip", "none"}

// repository opens a repository whose frames are small.
func repository(t *testing.T, c Config) *Repository {
	t.Helper()
	r, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r.codec.chunk = testChunk
	t.Cleanup(func() { r.Close() })
	return r
}

func inDirectory(t *testing.T) Config { return Config{URL: "file://" + t.TempDir() + "/repository"} }

// writeKey writes a new key file.
func writeKey(t *testing.T) string {
	t.Helper()
	text, err := ident.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sample is content of a length: half of it compresses, as database pages do.
func sample(n int) []byte {
	content := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(content)
	for at := 64; at < n; at += 128 {
		clear(content[at:min(at+64, n)])
	}
	return content
}

func put(t *testing.T, r *Repository, name string, content []byte) Stored {
	t.Helper()
	w, err := r.Create(t.Context(), name, CreateOptions{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	stored, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func get(r *Repository, name string) ([]byte, error) {
	f, err := r.Read(context.Background(), name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %v", what, err, want)
	}
}

func names(t *testing.T, r *Repository, prefix string) []string {
	t.Helper()
	objects, err := r.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, o := range objects {
		list = append(list, o.Stored)
	}
	return list
}

// testRepository is what holds for every kind of store. place gives a new one; its
// Compression and KeyFile are set here.
func testRepository(t *testing.T, place func(t *testing.T) Config) {
	for _, test := range []struct {
		rule string
		run  func(t *testing.T, c Config)
	}{
		{"what was written is read, whatever the encoding and length", testRoundTrip},
		{"what is not there is not found", testNotFound},
		{"an object is created once with IfAbsent", testIfAbsent},
		{"of two that create one object the first to commit wins", testCreateRace},
		{"an object that is replaced in another encoding is there once", testReplace},
		{"a writer that does not commit leaves nothing", testUncommitted},
		{"a list is sorted and holds what has the prefix", testList},
		{"what is deleted is gone, and deleting again is no error", testDelete},
		{"names cannot lead out of the repository", testNames},
		{"one cluster owns a repository", testClaim},
		{"of many that claim one succeeds", testClaimRace},
		{"a backup is in the catalog from Publish to DeleteBackup", testCatalog},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			test.run(t, place(t))
		})
	}
}

func testRoundTrip(t *testing.T, c Config) {
	key := writeKey(t)
	for _, compression := range compressions {
		for _, keyFile := range []string{"", key} {
			for _, size := range []int{0, 1, testChunk - 1, testChunk, 5*testChunk + 7} {
				c.Compression, c.KeyFile = compression, keyFile
				r := repository(t, c)
				name := fmt.Sprintf("%s/%t/%d", compression, keyFile != "", size)
				content := sample(size)
				stored := put(t, r, name, content)
				if got, err := get(r, name); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
				checkStored(t, r, stored, int64(size))
			}
		}
	}
}

// checkStored compares what Commit said with what is there.
func checkStored(t *testing.T, r *Repository, s Stored, plain int64) {
	t.Helper()
	f, err := r.ReadStored(t.Context(), s.Object)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	want := Stored{Object: plainName(s.Object) + r.ext, Size: int64(len(raw)), Plain: plain, SHA256: hex.EncodeToString(sum[:])}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("Stored (-want +got):\n%s", diff)
	}
	o, err := r.Stat(t.Context(), plainName(s.Object))
	if err != nil {
		t.Fatal(err)
	}
	if o.Stored != s.Object || o.Size != s.Size || time.Since(o.At) > time.Hour || time.Since(o.At) < -time.Hour {
		t.Errorf("Stat is %+v; want %+v, written now", o, s)
	}
}

func testNotFound(t *testing.T, c Config) {
	r := repository(t, c)
	_, err := r.Owner(t.Context())
	wantError(t, "Owner", err, ErrNotFound)
	put(t, r, "wal/longer", nil)
	_, err = r.Read(t.Context(), "wal/long")
	wantError(t, "Read", err, ErrNotFound)
	_, err = r.Stat(t.Context(), "wal/long")
	wantError(t, "Stat", err, ErrNotFound)
	_, err = r.ReadStored(t.Context(), "wal/long.zst")
	wantError(t, "ReadStored", err, ErrNotFound)
	const id = "20260102T030405Z-nightly"
	_, err = r.Backup(t.Context(), id)
	wantError(t, "Backup", err, ErrNotFound)
	wantError(t, "Prove", r.Prove(t.Context(), id, Proof{}), ErrNotFound)
	wantError(t, "DeleteBackup", r.DeleteBackup(t.Context(), id), ErrNotFound)
}

func testIfAbsent(t *testing.T, c Config) {
	put(t, repository(t, c), "wal/x", []byte("first"))
	for _, compression := range compressions {
		c.Compression = compression
		r := repository(t, c)
		_, err := r.Create(t.Context(), "wal/x", CreateOptions{IfAbsent: true})
		wantError(t, "Create with "+compression, err, ErrExists)
		if got, err := get(r, "wal/x"); string(got) != "first" || err != nil {
			t.Errorf("reads %q, %v", got, err)
		}
	}
}

func testCreateRace(t *testing.T, c Config) {
	r := repository(t, c)
	var writers []*Writer
	for _, content := range []string{"first", "second"} {
		w, err := r.Create(t.Context(), "wal/x", CreateOptions{IfAbsent: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	if _, err := writers[0].Commit(); err != nil {
		t.Error(err)
	}
	_, err := writers[1].Commit()
	wantError(t, "the second Commit", err, ErrExists)
	if got, err := get(r, "wal/x"); string(got) != "first" || err != nil {
		t.Errorf("reads %q, %v", got, err)
	}
}

func testReplace(t *testing.T, c Config) {
	put(t, repository(t, c), "wal/x", []byte("old"))
	c.Compression, c.KeyFile = "lz4", writeKey(t)
	r := repository(t, c)
	put(t, r, "wal/x", []byte("new"))
	put(t, r, "wal/x", []byte("newer"))
	if diff := cmp.Diff([]string{"wal/x.lz4.age"}, names(t, r, "wal/")); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if got, err := get(r, "wal/x"); string(got) != "newer" || err != nil {
		t.Errorf("reads %q, %v", got, err)
	}
}

// testUncommitted writes enough for an object store to have begun with it.
func testUncommitted(t *testing.T, c Config) {
	content := sample(20 << 20)
	c.Compression = "none"
	r := repository(t, c)
	put(t, r, "wal/other", nil)
	for _, end := range []struct {
		name string
		with func(w *Writer, cancel context.CancelFunc)
	}{
		{"Abort", func(w *Writer, _ context.CancelFunc) { w.Abort() }},
		{"its context", func(w *Writer, cancel context.CancelFunc) {
			cancel()
			if _, err := w.Commit(); !errors.Is(err, context.Canceled) {
				t.Errorf("Commit after its context ended: %v", err)
			}
		}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		w, err := r.Create(ctx, "wal/x", CreateOptions{Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		end.with(w, cancel)
		cancel()
		w.Abort()
		if diff := cmp.Diff([]string{"wal/other.gz"}, names(t, r, "wal/")); diff != "" {
			t.Errorf("ended by %s (-want +got):\n%s", end.name, diff)
		}
	}
}

func testList(t *testing.T, c Config) {
	r := repository(t, c)
	for _, name := range []string{"wal/b/2", "wal/b/1", "wal/a", "backups/x", "wal/bc"} {
		put(t, r, name, nil)
	}
	for prefix, want := range map[string][]string{
		"":       {"backups/x.zst", "wal/a.zst", "wal/b/1.zst", "wal/b/2.zst", "wal/bc.zst"},
		"wal/":   {"wal/a.zst", "wal/b/1.zst", "wal/b/2.zst", "wal/bc.zst"},
		"wal/b":  {"wal/b/1.zst", "wal/b/2.zst", "wal/bc.zst"},
		"wal/b/": {"wal/b/1.zst", "wal/b/2.zst"},
		"none/":  {},
		"wal/bd": {},
	} {
		if diff := cmp.Diff(want, names(t, r, prefix)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", prefix, diff)
		}
	}
}

func testDelete(t *testing.T, c Config) {
	r := repository(t, c)
	stored := put(t, r, "wal/a/b/c", nil)
	put(t, r, "wal/x", nil)
	for range 2 {
		if err := r.Delete(t.Context(), stored.Object); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"wal/x.zst"}, names(t, r, "")); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

func testNames(t *testing.T, c Config) {
	r := repository(t, c)
	for _, name := range []string{"", "/", "/etc/passwd", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", ".hidden", "a/.b", "a\\b", "a\x00b", "a b", "ä", strings.Repeat("a", maxObjectName+1)} {
		ctx := t.Context()
		_, created := r.Create(ctx, name, CreateOptions{})
		_, read := r.Read(ctx, name)
		_, raw := r.ReadStored(ctx, name)
		_, stat := r.Stat(ctx, name)
		for what, err := range map[string]error{"Create": created, "Read": read, "ReadStored": raw, "Stat": stat, "Delete": r.Delete(ctx, name)} {
			if err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("%s(%q): %v; want it refused", what, name, err)
			}
		}
	}
	if _, err := r.List(t.Context(), "../"); err == nil {
		t.Error("List of ../ is accepted")
	}
}

func testClaim(t *testing.T, c Config) {
	ctx, r := t.Context(), repository(t, c)
	mine := Owner{Cluster: "mine", ClusterID: "1", SystemID: 7, At: time.Unix(1, 0).UTC()}
	copied := Owner{Cluster: "copy", ClusterID: "2", SystemID: 7}
	other := Owner{Cluster: "other", ClusterID: "3", SystemID: 8}
	if err := r.Claim(ctx, Owner{Cluster: "unknown", ClusterID: "1"}); err == nil {
		t.Error("a claim without a system identifier is accepted")
	}
	for range 2 {
		if err := r.Claim(ctx, mine); err != nil {
			t.Error(err)
		}
	}
	wantError(t, "a claim with another cluster identifier", r.Claim(ctx, copied), ErrForeign)
	wantError(t, "a claim with another system identifier", r.Claim(ctx, other), ErrForeign)
	if err := r.Claim(ctx, other); !strings.Contains(err.Error(), `cluster "mine"`) {
		t.Errorf("does not say whose it is: %v", err)
	}
	wantError(t, "taking over with another system identifier", r.TakeOver(ctx, other), ErrForeign)
	mine.Format = formatVersion
	if got, err := r.Owner(ctx); err != nil || got != mine {
		t.Errorf("owner is %+v, %v; want %+v", got, err, mine)
	}
	if err := r.TakeOver(ctx, copied); err != nil {
		t.Error(err)
	}
	wantError(t, "a claim after being taken over", r.Claim(ctx, mine), ErrForeign)
}

func testClaimRace(t *testing.T, c Config) {
	const clusters = 8
	errs := make([]error, clusters)
	var done sync.WaitGroup
	for i := range clusters {
		r := repository(t, c)
		done.Go(func() { errs[i] = r.Claim(t.Context(), Owner{ClusterID: fmt.Sprint(i), SystemID: 7}) })
	}
	done.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("both %d and %d own the repository", winner, i)
		case err == nil:
			winner = i
		default:
			wantError(t, "a claim", err, ErrForeign)
		}
	}
	if o, err := repository(t, c).Owner(t.Context()); err != nil || o.ClusterID != fmt.Sprint(winner) {
		t.Errorf("owner is %+v, %v; want %d", o, err, winner)
	}
}

func testCatalog(t *testing.T, c Config) {
	ctx, r := t.Context(), repository(t, c)
	first := exampleEntry(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	second := exampleEntry(t, time.Date(2026, 1, 3, 3, 4, 5, 0, time.UTC))
	for _, e := range []*Entry{&second, &first} {
		e.Parts[0].Stored = put(t, r, PartName(e.ID, 1), []byte("part"))
		e.Manifest = put(t, r, ManifestName(e.ID), []byte("{}"))
	}
	remains, err := r.Remains(ctx)
	if diff := cmp.Diff([]string{first.ID, second.ID}, remains); err != nil || diff != "" {
		t.Errorf("before Publish: %v (-want +got):\n%s", err, diff)
	}
	for _, e := range []Entry{second, first} {
		if err := r.Publish(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, "a second Publish", r.Publish(ctx, first), ErrExists)
	proof := Proof{Format: formatVersion, At: first.Finished, Node: "b", OK: true, Took: time.Minute, RestoredLSN: first.StopLSN, Timeline: 1, Pages: 5}
	for range 2 {
		if err := r.Prove(ctx, second.ID, proof); err != nil {
			t.Error(err)
		}
	}
	second.Proof = &proof
	checkCatalog(t, r, first, second)
	if err := r.DeleteBackup(ctx, first.ID); err != nil {
		t.Error(err)
	}
	checkCatalog(t, r, second)
	if left := names(t, r, backupsPrefix+first.ID+"/"); len(left) > 0 {
		t.Errorf("left of a deleted backup: %q", left)
	}
	// A deletion that was killed after its first step.
	if err := r.Delete(ctx, entryName(second.ID)); err != nil {
		t.Error(err)
	}
	checkCatalog(t, r)
	if err := r.DeleteBackup(ctx, second.ID); err != nil {
		t.Error(err)
	}
	if left := names(t, r, ""); len(left) > 0 {
		t.Errorf("left of a deletion that was interrupted: %q", left)
	}
}

func checkCatalog(t *testing.T, r *Repository, want ...Entry) {
	t.Helper()
	for i := range want {
		want[i].Format = formatVersion
		got, err := r.Backup(t.Context(), want[i].ID)
		if diff := cmp.Diff(want[i], got); err != nil || diff != "" {
			t.Errorf("Backup: %v (-want +got):\n%s", err, diff)
		}
	}
	got, err := r.Backups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append([]Entry{}, want...), got); diff != "" {
		t.Errorf("Backups (-want +got):\n%s", diff)
	}
}

func exampleEntry(t *testing.T, started time.Time) Entry {
	t.Helper()
	id, err := ident.NewID(started, "nightly")
	if err != nil {
		t.Fatal(err)
	}
	return Entry{
		ID: id, Name: "nightly", Cluster: "demo", Node: "a", Role: "standby", By: "schedule",
		SystemID: pg.SystemID(7301234567890123456), Version: 15, ServerVersion: "15.13 <Debian & others>",
		Started: started, Finished: started.Add(time.Minute), Timeline: 2, StartLSN: 0x2000028, StopLSN: 0x2000100, SegmentSize: 16 << 20,
		Size: 4, Stored: 50, Compression: "zstd", Parts: []Part{{Tablespace: 16400, Files: 3}},
		Tablespaces: []Tablespace{{OID: 16400, Location: "/srv/space"}},
	}
}
