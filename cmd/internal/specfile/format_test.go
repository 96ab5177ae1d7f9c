package specfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/specfile"
)

func TestFormatDirectory(t *testing.T) {
	dir := inDir(t, "-- bad.hcl --\na {\nb=1\n}\n-- broken.hcl --\na {\n-- good.hcl --\na = 1\n")
	formatted, broken, err := specfile.Format([]string{dir}, specfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range formatted {
		got[filepath.Base(f.Path)] = f.Changed()
	}
	if diff := cmp.Diff(map[string]bool{"bad.hcl": true, "good.hcl": false}, got); diff != "" {
		t.Errorf("changed files (-want +got):\n%s", diff)
	}
	if len(broken) == 0 || filepath.Base(broken[0].File) != "broken.hcl" {
		t.Errorf("broken: %v", broken)
	}
}

func TestSaveKeepsPermissionsAndLinks(t *testing.T) {
	dir := inDir(t, "-- real/cluster.hcl --\na {\nb=1\n}\n")
	target, link := filepath.Join(dir, "real", "cluster.hcl"), filepath.Join(dir, "cluster.hcl")
	if err := os.Chmod(target, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	formatted, _, err := specfile.Format([]string{link}, specfile.Options{})
	if err != nil || len(formatted) != 1 {
		t.Fatal(formatted, err)
	}
	if err := formatted[0].Save(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(target)
	if err != nil || string(text) != "a {\n  b = 1\n}\n" {
		t.Errorf("got %q, %v", text, err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("permissions are %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info.Mode(), err)
	}
}

func TestFormatStandardInput(t *testing.T) {
	formatted, _, err := specfile.Format([]string{"-"}, specfile.Options{Stdin: strings.NewReader("a=1")})
	if err != nil || len(formatted) != 1 || string(formatted[0].After) != "a = 1\n" {
		t.Fatal(formatted, err)
	}
	if err := formatted[0].Save(); err == nil {
		t.Error("standard input was saved")
	}
}
