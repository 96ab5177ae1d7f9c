package backup

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDirectory(t *testing.T) {
	testRepository(t, inDirectory)
}

func directoryOf(c Config) string { return strings.TrimPrefix(c.URL, "file://") }

func TestDirectoryIsReadByItsOwnerOnly(t *testing.T) {
	c := inDirectory(t)
	r := repository(t, c)
	put(t, r, "wal/a/b", []byte("x"))
	if err := r.Claim(t.Context(), Owner{ClusterID: "1", SystemID: 1}); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(directoryOf(c), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryThatIsNotThereIsUnavailable(t *testing.T) {
	r := repository(t, inDirectory(t))
	_, err := r.Read(t.Context(), "wal/x")
	wantError(t, "Read", err, ErrUnavailable)
	_, err = r.Backups(t.Context())
	wantError(t, "Backups", err, ErrUnavailable)
	_, err = r.Owner(t.Context())
	wantError(t, "Owner, which Claim then creates", err, ErrNotFound)
}

func TestDirectoryLosesLeftoversOfKilledWriters(t *testing.T) {
	c := inDirectory(t)
	put(t, repository(t, c), "wal/a", nil)
	temp := filepath.Join(directoryOf(c), tempDir)
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"old", "new", "written"} {
		if err := os.WriteFile(filepath.Join(temp, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "new" {
			if err := os.Chtimes(filepath.Join(temp, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := os.Open(filepath.Join(temp, "written"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := lock(f); err != nil {
		t.Fatal(err)
	}
	put(t, repository(t, c), "wal/b", nil)
	var left []string
	entries, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	if diff := cmp.Diff([]string{"new", "written"}, left); diff != "" {
		t.Errorf("temporary files (-want +got):\n%s", diff)
	}
}

func TestDirectoryWriterLeavesNoTemporaryFile(t *testing.T) {
	c := inDirectory(t)
	r := repository(t, c)
	put(t, r, "wal/a", nil)
	w, err := r.Create(t.Context(), "wal/b", CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	_, err = r.Create(t.Context(), "wal/a", CreateOptions{IfAbsent: true})
	wantError(t, "Create", err, ErrExists)
	entries, err := os.ReadDir(filepath.Join(directoryOf(c), tempDir))
	if err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestDirectoryFollowsNoLinkThatLeadsOut(t *testing.T) {
	c := inDirectory(t)
	r := repository(t, c)
	put(t, r, "wal/a", nil)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret.zst"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(directoryOf(c), "out")); err != nil {
		t.Fatal(err)
	}
	if f, err := r.ReadStored(t.Context(), "out/secret.zst"); err == nil {
		f.Close()
		t.Error("a link out of the repository is followed")
	}
	w, err := r.Create(t.Context(), "out/new", CreateOptions{})
	if err == nil {
		_, err = w.Commit()
	}
	if _, there := os.Stat(filepath.Join(outside, "new.zst")); err == nil || there == nil {
		t.Errorf("written through a link out of the repository: %v", err)
	}
}

func TestDirectoryWriterSurvivesThatItsDirectoryGoes(t *testing.T) {
	c := inDirectory(t)
	r := repository(t, c)
	stored := put(t, r, "wal/a/x", nil)
	w, err := r.Create(t.Context(), "wal/a/y", CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), stored.Object); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(directoryOf(c), "wal")); err == nil {
		t.Error("an empty directory is left")
	}
	if _, err := w.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := get(r, "wal/a/y"); err != nil || !bytes.Equal(got, []byte("y")) {
		t.Errorf("reads %q, %v", got, err)
	}
}
