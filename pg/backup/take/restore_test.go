package take

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ramhq/ram/pg/backup"
)

// restore puts a backup into a new server's data directory with nothing but the
// repository and tar; tablespaces go where the map says, by OID.
func restore(t *testing.T, repository *backup.Repository, e backup.Entry, settings ...string) *server {
	t.Helper()
	s := newServer(t)
	mkdir(t, s.data(), 0o700)
	for _, part := range e.Parts {
		into := s.data()
		if part.Tablespace != 0 {
			into = filepath.Join(s.dir, strconv.FormatUint(uint64(part.Tablespace), 10))
			mkdir(t, into, 0o700)
		}
		files := extract(t, repository, plainName(t, part.Object), into)
		if files != part.Files {
			t.Errorf("%s holds %d files, the entry says %d", part.Object, files, part.Files)
		}
	}
	for _, sp := range e.Tablespaces {
		oid := strconv.FormatUint(uint64(sp.OID), 10)
		if err := os.Symlink(filepath.Join(s.dir, oid), filepath.Join(s.data(), "pg_tblspc", oid)); err != nil {
			t.Fatal(err)
		}
	}
	if len(e.Tablespaces) > 0 {
		// It would lead to the place where the tablespace still is.
		if err := os.Remove(filepath.Join(s.data(), "tablespace_map")); err != nil {
			t.Fatal(err)
		}
	}
	// It ends where it ends, and follows nobody.
	if err := os.Remove(filepath.Join(s.data(), "standby.signal")); (err == nil) != (e.Role == "standby") {
		t.Errorf("of a %s, standby.signal: %v", e.Role, err)
	}
	return s.start(t, settings...)
}

// plainName finds the name under which an object is read.
func plainName(t *testing.T, object string) string {
	t.Helper()
	for name := object; name != ""; name = name[:len(name)-len(filepath.Ext(name))] {
		if ext := filepath.Ext(name); ext == ".tar" || ext == "" {
			return name
		}
	}
	t.Fatalf("%s is no part", object)
	return ""
}

func extract(t *testing.T, repository *backup.Repository, name, into string) (files int) {
	t.Helper()
	object, err := repository.Read(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	from := tar.NewReader(object)
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(into, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			mkdir(t, path, h.FileInfo().Mode().Perm())
		case tar.TypeReg:
			files++
			write(t, path, from)
		default:
			t.Fatalf("%s is of kind %q", h.Name, h.Typeflag)
		}
	}
	if _, err := io.Copy(io.Discard, object); err != nil {
		t.Fatal(err)
	}
	return files
}

func mkdir(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(path, mode); err != nil {
		t.Fatal(err)
	}
	give(t, path)
}

func write(t *testing.T, path string, from io.Reader) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, from)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	give(t, path)
}

func give(t *testing.T, path string) {
	t.Helper()
	if account := owner(t); account != nil {
		if err := os.Chown(path, int(account.Uid), int(account.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}
