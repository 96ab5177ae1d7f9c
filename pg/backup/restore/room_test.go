package restore

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ramhq/ram/pg/backup"
)

// smallDisk mounts a file system of some bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, "size="+strconv.Itoa(size)); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("cannot mount here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
	return path
}

func TestFullDiskIsSaidBeforeAnythingIsWritten(t *testing.T) {
	r, e, _ := store(t, backup.Config{}, sample())
	o := options(t, r, e)
	o.Dir = filepath.Join(smallDisk(t, 128<<10), "data")
	wantError(t, Fetch(t.Context(), o), ErrNoSpace, "bytes are needed and", "are available", "choose another place")
	if _, err := os.Lstat(o.Dir); err == nil {
		t.Error("something was made")
	}
}

func TestDiskThatFillsUpMeanwhileIsSaid(t *testing.T) {
	r, e, _ := store(t, backup.Config{}, sample())
	o := options(t, r, e)
	o.Dir = filepath.Join(smallDisk(t, 128<<10), "data")
	for n := range o.Entry.Parts { // it looks smaller than it is
		o.Entry.Parts[n].Plain = 1
	}
	err := Fetch(t.Context(), o)
	wantError(t, err, ErrNoSpace, "no space left on device")
	if !strings.Contains(err.Error(), filepath.Base(o.Dir)) {
		t.Errorf("%q does not say where", err)
	}
	unusable(t, o.Dir)
}
