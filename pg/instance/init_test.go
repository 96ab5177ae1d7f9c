package instance

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ramhq/ram/pg"
)

func TestFirstServerFromNothing(t *testing.T) {
	n := newNode(t, "a")
	if got := inspect(t, n).State; got != pg.DirAbsent {
		t.Errorf("before: %s", got)
	}
	options := InitOptions{Generation: 7, Files: files()}
	if err := n.Init(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	made := inspect(t, n)
	want := pg.DataDirectory{State: pg.DirCluster, Version: n.cfg.Major, Timeline: 1, ControlState: "shut down", Generation: 7}
	want.Least = pg.StandbyLeast{MaxConnections: 100, MaxLocksPerTransaction: 64, MaxWALSenders: 10, MaxWorkerProcesses: 8} // initdb's
	if diff := cmp.Diff(want, made, cmpopts.IgnoreFields(pg.DataDirectory{}, "SystemID", "Checkpoint")); diff != "" {
		t.Error(diff)
	}
	if made.SystemID == 0 || made.Checkpoint == 0 {
		t.Errorf("system identifier %s, checkpoint %s", made.SystemID, made.Checkpoint)
	}
	if got, err := n.ReadConfig(); err != nil || got != options.Files {
		t.Errorf("configuration: %v: %s", err, cmp.Diff(options.Files, got))
	}
	noLeftovers(t, n)

	t.Run("it starts, takes the password and has checksums", func(t *testing.T) {
		n.start(t)
		for name, want := range map[string]string{"data_checksums": "on", "password_encryption": "scram-sha-256", "server_encoding": "UTF8"} {
			if got := n.sql(t, "SHOW "+name); got != want {
				t.Errorf("%s is %s", name, got)
			}
		}
		n.stop(t)
	})
	t.Run("the same once more changes nothing", func(t *testing.T) {
		if err := n.Init(t.Context(), options); err != nil {
			t.Error(err)
		}
		if got := inspect(t, n).SystemID; got != made.SystemID {
			t.Error("another cluster was made")
		}
	})
	t.Run("another one is refused", func(t *testing.T) {
		wantError(t, n.Init(t.Context(), InitOptions{Generation: 8}), ErrExists, "move it away")
	})
}

func TestInitSaysWhatInitdbSays(t *testing.T) {
	n := newNode(t, "a")
	wantError(t, n.Init(t.Context(), InitOptions{Locale: "xx_XX"}), nil, "initdb: exit status 1", "invalid locale name")
	if got := inspect(t, n).State; got != pg.DirAbsent {
		t.Errorf("afterwards: %s", got)
	}
	if err := n.Init(t.Context(), InitOptions{Locale: "C", Files: files()}); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
	noLeftovers(t, n)
}

// noLeftovers makes sure that nothing is beside the data directory, that no password
// is left, and that all belongs to PostgreSQL's user alone.
func noLeftovers(t *testing.T, n *node) {
	t.Helper()
	beside, _ := filepath.Glob(n.DataDir() + "*")
	secrets, _ := filepath.Glob(filepath.Join(n.SocketDir(), "*password*"))
	if len(beside) != 1 || len(secrets) != 0 {
		t.Errorf("left: %v %v", beside, secrets)
	}
	err := filepath.WalkDir(n.DataDir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != n.user.uid || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s belongs to %d and has mode %s", path, uid, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestForeignDirectoryIsNeverTouched(t *testing.T) {
	for name, fill := range map[string]func(path string) error{
		"a directory with files": func(path string) error {
			return os.MkdirAll(filepath.Join(path, "photos"), 0o755)
		},
		"a file": func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "a")
			if err := fill(n.DataDir()); err != nil {
				t.Fatal(err)
			}
			if got := inspect(t, n).State; got != pg.DirForeign {
				t.Errorf("it is %s", got)
			}
			wantError(t, n.Init(t.Context(), InitOptions{}), ErrForeign, "move it away")
			wantError(t, n.Clone(t.Context(), CloneOptions{}), ErrForeign, "move it away")
			wantError(t, n.Start(t.Context(), StartOptions{}), ErrForeign)
			if got := inspect(t, n).State; got != pg.DirForeign {
				t.Errorf("afterwards it is %s", got)
			}
		})
	}
}

func TestWhatIsInTheWayOfANewDirectoryIsNotRemoved(t *testing.T) {
	n := newNode(t, "a")
	precious := filepath.Join(n.newDir(), "precious")
	if err := os.MkdirAll(precious, 0o755); err != nil {
		t.Fatal(err)
	}
	wantError(t, n.Init(t.Context(), InitOptions{}), nil, "is in the way", "move it away")
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestPlacesThatCannotHoldADataDirectory(t *testing.T) {
	t.Run("mount point", func(t *testing.T) {
		n := newNode(t, "a")
		mount(t, n.DataDir(), 0)
		wantError(t, n.Init(t.Context(), InitOptions{}), ErrPlace, "is a mount point", filepath.Join(n.DataDir(), "data"))
	})
	t.Run("parent that cannot be written", func(t *testing.T) {
		parent := ""
		n := newNode(t, "a", func(c *Config) {
			parent = filepath.Join(filepath.Dir(c.DataDir), "parent")
			c.DataDir = filepath.Join(parent, "data")
		})
		mount(t, parent, syscall.MS_RDONLY)
		wantError(t, n.Init(t.Context(), InitOptions{}), ErrPlace, "cannot be written", "change data_dir")
	})
	t.Run("behind a directory that PostgreSQL's user cannot enter", func(t *testing.T) {
		n := newNode(t, "a", func(c *Config) { c.DataDir = filepath.Join(filepath.Dir(c.DataDir), "closed", "data") })
		if !n.user.change {
			t.Skip("ramd and PostgreSQL are the same user")
		}
		if err := os.Mkdir(filepath.Dir(n.DataDir()), 0o700); err != nil {
			t.Fatal(err)
		}
		wantError(t, n.Init(t.Context(), InitOptions{}), nil, "cannot enter", "chmod o+x")
	})
}

// mount makes path a mount point of itself; an ordinary user cannot do that.
func mount(t *testing.T, path string, flags uintptr) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(path, path, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
	if flags != 0 {
		if err := syscall.Mount("", path, "", syscall.MS_BIND|syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Skipf("cannot mount here: %v", err)
		}
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	good := newNode(t, "a").plain()
	for name, test := range map[string]struct {
		change func(*Config)
		root   bool
		says   []string
	}{
		"no such version":     {func(c *Config) { c.Major = 3 }, false, []string{"version 3", "/usr/lib/postgresql/3/bin", "apt-get install postgresql-3"}},
		"no such directory":   {func(c *Config) { c.BinDir = "/nonexistent" }, false, []string{"/nonexistent (not there)", "bin_dir"}},
		"a program missing":   {func(c *Config) { c.BinDir = "/bin" }, false, []string{"/bin (no postgres)"}},
		"state path too long": {func(c *Config) { c.StateDir = "/tmp/" + strings.Repeat("x", 90) }, false, []string{"too long", "--data-dir"}},
		"no port":             {func(c *Config) { c.Port = 0 }, false, []string{"port 0"}},
		"no data directory":   {func(c *Config) { c.DataDir = "" }, false, []string{"set data_dir"}},
		"user who is root":    {func(c *Config) { c.User = "root" }, true, []string{"refuses to run as root", "postgres.user"}},
		"user who is nobody":  {func(c *Config) { c.User = "no-such-user" }, true, []string{`"no-such-user"`, "does not exist", "useradd"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.root && os.Geteuid() != 0 {
				t.Skip("who is not root runs PostgreSQL as themselves")
			}
			cfg := good
			test.change(&cfg)
			_, err := Open(cfg)
			wantError(t, err, nil, test.says...)
		})
	}
	t.Run("another version in the given directory", func(t *testing.T) {
		_, err := Find(newNode(t, "a").binaries.Dir, 12)
		wantError(t, err, ErrNoBinaries, "(version ")
	})
}

func TestDataDirectoryBehindALinkIsTheDirectoryItself(t *testing.T) {
	n := newNode(t, "a", func(c *Config) {
		dir := filepath.Dir(c.DataDir)
		if err := os.Mkdir(filepath.Join(dir, "disk"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(dir, "disk"), filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		c.DataDir = filepath.Join(dir, "link", "data")
	})
	if want := filepath.Join(n.dir, "disk", "data"); n.DataDir() != want {
		t.Errorf("%s, want %s", n.DataDir(), want)
	}
}
