package backup

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ramhq/ram/pg/backup/ident"
)

func TestKeyFileRefusals(t *testing.T) {
	dir := t.TempDir()
	key, err := ident.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	secret := key[strings.Index(key, "AGE-SECRET-KEY-"):]
	for _, c := range []struct {
		rule, content string
		mode          os.FileMode
		want          string
	}{
		{"others can read it", key, 0o644, "chmod 0600 "},
		{"its group can read it", key, 0o640, "chmod 0600 "},
		{"no key in it", "# nothing\n", 0o600, "age identities"},
		{"a public key in it", "age1qqqq\n", 0o600, "age identities"},
		{"a key that was cut off", secret[:len(secret)-5], 0o600, "age identities"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(c.rule, " ", "-"))
			if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := readKey(path)
			wantError(t, "readKey", err, ErrKey)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret[:30]) {
				t.Errorf("error is %v; want it to say %q, and no secret", err, c.want)
			}
		})
	}
}

func TestKeyFileThatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir, filepath.Join(dir, "none")} {
		_, err := readKey(path)
		wantError(t, path, err, ErrKey)
	}
}

func TestKeyAfterRotationOpensOldObjects(t *testing.T) {
	c := inDirectory(t)
	c.KeyFile = writeKey(t)
	put(t, repository(t, c), "wal/old", []byte("old"))
	old, err := os.ReadFile(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	added, err := ident.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.KeyFile, []byte(added+string(old)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := repository(t, c)
	put(t, r, "wal/new", []byte("new"))
	for _, name := range []string{"old", "new"} {
		if got, err := get(r, "wal/"+name); err != nil || string(got) != name {
			t.Errorf("%s reads as %q, %v", name, got, err)
		}
	}
	if err := os.WriteFile(c.KeyFile, old, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = get(repository(t, c), "wal/new")
	wantError(t, "with the old key alone, the new object", err, ErrKey)
}

func TestUnencryptedObjectsAreReadByARepositoryWithAKey(t *testing.T) {
	c := inDirectory(t)
	put(t, repository(t, c), "wal/x", []byte("x"))
	c.KeyFile = writeKey(t)
	if got, err := get(repository(t, c), "wal/x"); err != nil || string(got) != "x" {
		t.Errorf("reads %q, %v", got, err)
	}
}
