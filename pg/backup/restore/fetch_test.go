package restore

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

const testID = "20260102T020000Z-nightly"

const testSegment = 1 << 16

// tempDir is in memory where there is plenty: what is fetched is flushed, and others use
// the disk too.
func tempDir(t *testing.T) string {
	t.Helper()
	const memory = "/dev/shm"
	var stat syscall.Statfs_t
	if syscall.Statfs(memory, &stat) != nil || uint64(stat.Bsize)*stat.Bavail < 4<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "ramrestore")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// item is one entry of an archive. A name that ends with a slash is a directory.
type item struct {
	name    string
	content string
	kind    byte // zero: by the name
	link    string
	// unlisted is not in the manifest; listed, when it is set, is what the manifest has
	// instead of the content.
	unlisted bool
	listed   string
}

func (i item) header() *tar.Header {
	h := &tar.Header{Name: i.name, Typeflag: i.kind, Linkname: i.link, Mode: 0o600, Size: int64(len(i.content))}
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
		if strings.HasSuffix(i.name, "/") {
			h.Typeflag = tar.TypeDir
		}
	}
	return h
}

// part is one archive.
type part struct {
	tablespace uint32
	items      []item
}

// wal is a segment, which no manifest lists.
func wal(n int) item {
	return item{name: fmt.Sprintf("pg_wal/00000001%016X", n), content: strings.Repeat("w", testSegment), unlisted: true}
}

// sample is a small backup with a tablespace.
func sample() []part {
	return []part{
		{0, []item{{name: "PG_VERSION", content: "15\n"}, {name: "base/"}, {name: "base/5/"}, {name: "base/5/1259", content: strings.Repeat("page", 1<<16)}, {name: "empty", content: ""}}},
		{16400, []item{{name: "PG_15_202209061/5/"}, {name: "PG_15_202209061/5/16401", content: "moved"}}},
		{0, []item{
			{name: "pg_tblspc/"},
			{name: "pg_tblspc/16400", kind: tar.TypeSymlink, link: "/srv/elsewhere"},
			{name: "tablespace_map", content: "16400 /srv/elsewhere\n"},
			{name: "base/5/2600", content: "later"},
			{name: "global/"},
			{name: "global/pg_control", content: "control"},
			{name: "pg_wal/archive_status/000000010000000000000001.done"},
			wal(1), wal(2),
		}},
	}
}

// store puts a backup into a new repository.
func store(t *testing.T, c backup.Config, parts []part) (*backup.Repository, backup.Entry, string) {
	t.Helper()
	dir := tempDir(t)
	c.URL = "file://" + dir
	r, err := backup.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	e := backup.Entry{
		ID: testID, SegmentSize: testSegment, StartLSN: testSegment + 40, StopLSN: 2*testSegment + 80,
		Tablespaces: []backup.Tablespace{{OID: 16400, Location: filepath.Join(tempDir(t), "original")}},
	}
	for n, p := range parts {
		var text bytes.Buffer
		archive := tar.NewWriter(&text)
		files := 0
		for _, i := range p.items {
			h := i.header()
			if err := archive.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := archive.Write([]byte(i.content)); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				files++
			}
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
		e.Parts = append(e.Parts, backup.Part{Stored: put(t, r, backup.PartName(testID, n+1), text.Bytes()), Tablespace: p.tablespace, Files: files})
		e.Size += int64(text.Len())
	}
	e.Manifest = put(t, r, backup.ManifestName(testID), manifestOf(parts))
	return r, e, dir
}

func put(t *testing.T, r *backup.Repository, name string, text []byte) backup.Stored {
	t.Helper()
	w, err := r.Create(t.Context(), name, backup.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	stored, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// manifestOf is what PostgreSQL would write.
func manifestOf(parts []part) []byte {
	var text bytes.Buffer
	text.WriteString("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n")
	first := true
	for _, p := range parts {
		for _, i := range p.items {
			if i.unlisted || i.header().Typeflag != tar.TypeReg {
				continue
			}
			content := i.content
			if i.listed != "" {
				content = i.listed
			}
			name := i.name
			if p.tablespace != 0 {
				name = fmt.Sprintf("pg_tblspc/%d/%s", p.tablespace, name)
			}
			if !first {
				text.WriteString(",\n")
			}
			first = false
			sum := binary.LittleEndian.AppendUint32(nil, crc32.Checksum([]byte(content), castagnoli))
			fmt.Fprintf(&text, `{ "Path": %q, "Size": %d, "Last-Modified": "2026-01-02 02:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "%x" }`,
				name, len(content), sum)
		}
	}
	text.WriteString("\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/10028\", \"End-LSN\": \"0/20050\" }\n],\n")
	return fmt.Appendf(text.Bytes(), "\"Manifest-Checksum\": \"%x\"}\n", sha256.Sum256(text.Bytes()))
}

// options fetch into a new directory; the tablespace goes beside it.
func options(t *testing.T, r *backup.Repository, e backup.Entry) Options {
	t.Helper()
	dir := tempDir(t)
	return Options{
		Repository: r, Entry: e, Dir: filepath.Join(dir, "data"), UID: -1, GID: -1, Logger: zerolog.Nop(),
		Tablespace: func(t backup.Tablespace) string { return filepath.Join(dir, fmt.Sprint(t.OID)) },
	}
}

// tree is what a directory holds: contents of files, links, and directories; not WAL.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			found[name+"/"] = ""
		case d.Type()&fs.ModeSymlink != 0:
			found[name], err = os.Readlink(path)
		default:
			text, readErr := os.ReadFile(path)
			found[name], err = string(text), readErr
			if len(text) > 100 {
				found[name] = fmt.Sprintf("%d bytes", len(text))
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

func wantError(t *testing.T, err, is error, says ...string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) {
		t.Errorf("got %v, want %v", err, is)
		return
	}
	for _, words := range says {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}

// unusable makes sure that no server can take a directory for a data directory.
func unusable(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"PG_VERSION", "global/pg_control"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
}

func TestFetchMakesWhatTheBackupHolds(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(tempDir(t), "key")
	if err := os.WriteFile(key, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]backup.Config{
		"zstd": {}, "lz4": {Compression: "lz4"}, "none": {Compression: "none"}, "gzip, encrypted": {Compression: "gzip", KeyFile: key},
	} {
		t.Run(name, func(t *testing.T) {
			r, e, _ := store(t, c, sample())
			o := options(t, r, e)
			var last, total pg.Bytes
			o.Progress = func(d, all pg.Bytes) { last, total = d, all }
			if err := Fetch(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			elsewhere := o.Tablespace(e.Tablespaces[0])
			want := map[string]string{
				"./": "", "PG_VERSION": "15\n", "base/": "", "base/5/": "", "base/5/1259": "262144 bytes", "base/5/2600": "later", "empty": "",
				"global/": "", "global/pg_control": "control", "pg_tblspc/": "", "pg_tblspc/16400": elsewhere,
				"pg_wal/": "", "pg_wal/archive_status/": "", "pg_wal/archive_status/000000010000000000000001.done": "",
				"pg_wal/000000010000000000000001": "65536 bytes", "pg_wal/000000010000000000000002": "65536 bytes",
			}
			if diff := cmp.Diff(want, tree(t, o.Dir)); diff != "" {
				t.Error(diff)
			}
			want = map[string]string{"./": "", "PG_15_202209061/": "", "PG_15_202209061/5/": "", "PG_15_202209061/5/16401": "moved"}
			if diff := cmp.Diff(want, tree(t, elsewhere)); diff != "" {
				t.Error(diff)
			}
			if last != total || total != pg.Bytes(e.Size) {
				t.Errorf("progress ended with %d of %d, want %d", last, total, e.Size)
			}
			if err := CheckStored(t.Context(), r, e, nil); err != nil {
				t.Error(err)
			}
			wantError(t, Fetch(t.Context(), o), nil, "is not empty")
		})
	}
}

func TestEverythingBelongsToItsOwnerAlone(t *testing.T) {
	r, e, _ := store(t, backup.Config{}, sample())
	o := options(t, r, e)
	o.UID, o.GID = os.Geteuid(), os.Getegid()
	if os.Geteuid() == 0 {
		o.UID, o.GID = 4711, 4712
	}
	if err := Fetch(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{o.Dir, o.Tablespace(e.Tablespaces[0])} {
		err := filepath.Walk(dir, func(path string, info fs.FileInfo, err error) error {
			if err != nil {
				return err
			}
			want := fs.FileMode(0o600)
			if info.IsDir() {
				want = 0o700
			}
			stat := info.Sys().(*syscall.Stat_t)
			isLink := info.Mode()&fs.ModeSymlink != 0
			if int(stat.Uid) != o.UID || int(stat.Gid) != o.GID || !isLink && info.Mode().Perm() != want {
				t.Errorf("%s belongs to %d:%d and has mode %s", path, stat.Uid, stat.Gid, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestTablespacesGoBackToWhereTheyWere(t *testing.T) {
	r, e, _ := store(t, backup.Config{}, sample())
	o := options(t, r, e)
	o.Tablespace = nil
	if err := Fetch(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.Readlink(filepath.Join(o.Dir, "pg_tblspc", "16400")); got != e.Tablespaces[0].Location {
		t.Errorf("the link leads to %q", got)
	}
	if _, err := os.Stat(filepath.Join(e.Tablespaces[0].Location, "PG_15_202209061/5/16401")); err != nil {
		t.Error(err)
	}
	o = options(t, r, e)
	o.Tablespace = nil
	wantError(t, Fetch(t.Context(), o), nil, "where tablespace 16400 goes, is not empty", "move what is in it away")
	if _, err := os.Lstat(o.Dir); err == nil {
		t.Error("something was made before that was found")
	}
}

func TestPlacesThatCannotBeUsed(t *testing.T) {
	r, e, _ := store(t, backup.Config{}, sample())
	for name, place := range map[string]func(o Options) string{
		"inside the data directory": func(o Options) string { return filepath.Join(o.Dir, "x") },
		"the data directory itself": func(o Options) string { return o.Dir },
		"around the data directory": func(o Options) string { return filepath.Dir(o.Dir) },
		"relative":                  func(Options) string { return "x" },
		"none":                      func(Options) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, r, e)
			o.Tablespace = func(backup.Tablespace) string { return place(o) }
			wantError(t, Fetch(t.Context(), o), nil)
			if _, err := os.Lstat(o.Dir); err == nil {
				t.Error("something was made")
			}
		})
	}
}

func TestArchivesThatNoServerWrites(t *testing.T) {
	for name, test := range map[string]struct {
		item item
		says string
	}{
		"path upwards":              {item{name: "base/../../escape", content: "x"}, "leads out of the directory"},
		"absolute path":             {item{name: "/tmp/escape", content: "x"}, "leads out of the directory"},
		"directory upwards":         {item{name: "../escape/"}, "leads out of the directory"},
		"link":                      {item{name: "base/link", kind: tar.TypeSymlink, link: "/etc"}, "not to a tablespace of the backup"},
		"link of no tablespace":     {item{name: "pg_tblspc/16999", kind: tar.TypeSymlink, link: "/etc"}, "not to a tablespace of the backup"},
		"hard link":                 {item{name: "base/5/9", kind: tar.TypeLink, link: "base/5/1259"}, "which no base backup has"},
		"device":                    {item{name: "base/5/9", kind: tar.TypeChar}, "which no base backup has"},
		"pipe":                      {item{name: "base/5/9", kind: tar.TypeFifo}, "which no base backup has"},
		"file through a tablespace": {item{name: "pg_tblspc/16400/PG_15_202209061/5/x", content: "x"}, "file exists"},
		"file that is not listed":   {item{name: "base/5/9", content: "x", unlisted: true}, "is not in the manifest"},
		"same file twice":           {item{name: "base/5/1259", content: strings.Repeat("page", 1<<16), unlisted: true}, "comes twice"},
		"other size":                {item{name: "base/5/9", content: "x", listed: "xy"}, "has 1 bytes, the manifest says 2"},
		"other content":             {item{name: "base/5/9", content: "xx", listed: "xy"}, "has CRC32C"},
		"half a WAL segment":        {item{name: "pg_wal/000000010000000000000009", content: "x", unlisted: true}, "has 1 bytes instead of"},
		"something in pg_wal":       {item{name: "pg_wal/xlogtemp.1", content: "x", unlisted: true}, "is not in the manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			parts := sample()
			parts[2].items = append(parts[2].items, test.item)
			r, e, _ := store(t, backup.Config{}, parts)
			o := options(t, r, e)
			o.Workers = 1 // so that the bad entry comes last
			err := Fetch(t.Context(), o)
			wantError(t, err, nil, test.says)
			if name != "file through a tablespace" {
				wantError(t, err, backup.ErrDamaged, "part-00003.tar.zst")
			}
			unusable(t, o.Dir)
			if _, err := os.Lstat(filepath.Join(filepath.Dir(o.Dir), "escape")); err == nil {
				t.Error("it was written outside of the directory")
			}
		})
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	without := func(n int, name string) []part {
		parts := sample()
		var kept []item
		for _, i := range parts[n].items {
			if i.name != name {
				kept = append(kept, i)
			}
		}
		parts[n].items = kept
		return parts
	}
	t.Run("file", func(t *testing.T) {
		r, e, _ := store(t, backup.Config{}, without(2, "base/5/2600"))
		e.Manifest = put(t, r, backup.ManifestName(testID), manifestOf(sample()))
		o := options(t, r, e)
		wantError(t, Fetch(t.Context(), o), backup.ErrDamaged, "1 files of the manifest are in none of its parts", `"base/5/2600"`)
		unusable(t, o.Dir)
	})
	t.Run("WAL", func(t *testing.T) {
		r, e, _ := store(t, backup.Config{}, without(2, wal(2).name))
		o := options(t, r, e)
		wantError(t, Fetch(t.Context(), o), backup.ErrDamaged, "WAL segment")
		unusable(t, o.Dir)
	})
	t.Run("control file", func(t *testing.T) {
		r, e, _ := store(t, backup.Config{}, without(2, "global/pg_control"))
		o := options(t, r, e)
		wantError(t, Fetch(t.Context(), o), backup.ErrDamaged, "global/pg_control")
		unusable(t, o.Dir)
	})
	t.Run("part", func(t *testing.T) {
		r, e, _ := store(t, backup.Config{}, sample())
		if err := r.Delete(t.Context(), e.Parts[1].Object); err != nil {
			t.Fatal(err)
		}
		o := options(t, r, e)
		wantError(t, Fetch(t.Context(), o), backup.ErrDamaged, "part-00002.tar")
		unusable(t, o.Dir)
		wantError(t, CheckStored(t.Context(), r, e, nil), backup.ErrDamaged, "part-00002.tar.zst")
	})
	t.Run("manifest", func(t *testing.T) {
		r, e, _ := store(t, backup.Config{}, sample())
		if err := r.Delete(t.Context(), e.Manifest.Object); err != nil {
			t.Fatal(err)
		}
		o := options(t, r, e)
		wantError(t, Fetch(t.Context(), o), backup.ErrNotFound, "manifest")
		wantError(t, CheckStored(t.Context(), r, e, nil), backup.ErrDamaged, "manifest.zst")
	})
}

func TestDamageIsFoundAndNamed(t *testing.T) {
	object := func(e backup.Entry, n int) string {
		if n < 0 {
			return e.Manifest.Object
		}
		return e.Parts[n].Object
	}
	for name, damage := range map[string]func(path string) error{
		"flipped byte in the middle": func(path string) error { return change(path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }) },
		"flipped last byte":          func(path string) error { return change(path, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }) },
		"cut off":                    func(path string) error { return change(path, func(b []byte) []byte { return b[:len(b)/2] }) },
		"empty":                      func(path string) error { return change(path, func([]byte) []byte { return nil }) },
		"something appended":         func(path string) error { return change(path, func(b []byte) []byte { return append(b, 1) }) },
	} {
		for _, n := range []int{-1, 0, 2} {
			t.Run(fmt.Sprintf("%s, object %d", name, n), func(t *testing.T) {
				r, e, dir := store(t, backup.Config{}, sample())
				if err := damage(filepath.Join(dir, object(e, n))); err != nil {
					t.Fatal(err)
				}
				o := options(t, r, e)
				wantError(t, Fetch(t.Context(), o), backup.ErrDamaged, object(e, n))
				unusable(t, o.Dir)
				wantError(t, CheckStored(t.Context(), r, e, nil), backup.ErrDamaged, object(e, n))
			})
		}
	}
}

func change(path string, f func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, f(b), 0o600)
}

func TestManifestsThatAreNotBelieved(t *testing.T) {
	for name, test := range map[string]struct {
		from, to string
		says     string
	}{
		"changed line":      {`"Path": "empty"`, `"Path": "emptY"`, "does not have its own checksum"},
		"newer version":     {`Version": 1`, `Version": 3`, "update ram"},
		"no JSON":           {`"Files": [`, `"Files": (`, "invalid character"},
		"other checksums":   {`"CRC32C"`, `"SHA256"`, "instead of CRC32C"},
		"no files":          {`"Files"`, `"Filez"`, "lists no files"},
		"file listed twice": {`"Path": "empty"`, `"Path": "PG_VERSION"`, `"PG_VERSION" twice`},
	} {
		t.Run(name, func(t *testing.T) {
			r, e, _ := store(t, backup.Config{}, sample())
			text := strings.Replace(string(manifestOf(sample())), test.from, test.to, 1)
			put(t, r, backup.ManifestName(testID), []byte(text))
			wantError(t, Fetch(t.Context(), options(t, r, e)), backup.ErrDamaged, "manifest", test.says)
		})
	}
}

func TestWrongKeyIsSaid(t *testing.T) {
	var keys [2]string
	for n := range keys {
		identity, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		keys[n] = filepath.Join(tempDir(t), "key")
		if err := os.WriteFile(keys[n], []byte(identity.String()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, e, dir := store(t, backup.Config{KeyFile: keys[0]}, sample())
	for name, key := range map[string]string{"another": keys[1], "none": ""} {
		t.Run(name, func(t *testing.T) {
			r, err := backup.Open(t.Context(), backup.Config{URL: "file://" + dir, KeyFile: key})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			o := options(t, r, e)
			wantError(t, Fetch(t.Context(), o), backup.ErrKey, "manifest.zst.age")
			if _, err := os.Lstat(o.Dir); err == nil {
				t.Error("something was made")
			}
			if err := CheckStored(t.Context(), r, e, nil); err != nil {
				t.Errorf("the quick check needs no key: %v", err)
			}
		})
	}
}

func TestEntriesThatSpeakOfOthers(t *testing.T) {
	r, good, _ := store(t, backup.Config{}, sample())
	for name, spoil := range map[string]func(e *backup.Entry){
		"identifier with a path":     func(e *backup.Entry) { e.ID = "../" + e.ID },
		"part of another backup":     func(e *backup.Entry) { e.Parts[0].Object = "wal/history/00000002.history.zst" },
		"tablespace that is unknown": func(e *backup.Entry) { e.Parts[0].Tablespace = 5 },
		"tablespace listed twice":    func(e *backup.Entry) { e.Tablespaces = append(e.Tablespaces, e.Tablespaces[0]) },
		"record that is damaged":     func(e *backup.Entry) { e.Damaged = "its JSON is cut off" },
	} {
		t.Run(name, func(t *testing.T) {
			e := good
			e.Parts = append([]backup.Part(nil), good.Parts...)
			spoil(&e)
			wantError(t, Fetch(t.Context(), options(t, r, e)), nil)
			wantError(t, CheckStored(t.Context(), r, e, nil), nil)
		})
	}
}

func TestCancelledFetchLeavesNoDataDirectory(t *testing.T) {
	r, e, _ := store(t, backup.Config{}, sample())
	o := options(t, r, e)
	ctx, cancel := context.WithCancel(t.Context())
	o.Tablespace = func(t backup.Tablespace) string {
		cancel() // after the manifest, before the parts
		return filepath.Join(filepath.Dir(o.Dir), "elsewhere")
	}
	wantError(t, Fetch(ctx, o), context.Canceled)
	unusable(t, o.Dir)
}
