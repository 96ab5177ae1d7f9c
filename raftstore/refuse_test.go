package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"hash/crc64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// overwrite damages one byte of a file.
func overwrite(t *testing.T, path string, offset int64, value byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	_, err = file.WriteAt([]byte{value}, offset)
	must(t, err)
}

// closed is a single node that has held some commands and was closed.
func closed(t *testing.T) (*cluster, *node) {
	t.Helper()
	c := bootstrapped(t, "a")
	c.propose("one", "two")
	must(t, c.nodes["a"].Close())
	return c, c.nodes["a"]
}

func TestDirectoryIsRefused(t *testing.T) {
	cases := []struct {
		name    string
		prepare func(t *testing.T, n *node)
		is      error
		says    []string
	}{
		{"of another node", func(_ *testing.T, n *node) { n.config.Name = "b" }, ErrForeign, []string{"node a", "node b", "--data-dir"}},
		{"of another cluster", func(_ *testing.T, n *node) { n.config.Cluster = "orders" }, ErrForeign, []string{"demo", "orders"}},
		{"of a newer format", func(t *testing.T, n *node) {
			must(t, os.WriteFile(n.directory.file(identityFile), []byte(`{"format":2,"cluster":["changed"]}`), 0o600))
		}, ErrNewerFormat, []string{"format 2", "up to 1", "start the newer ramd"}},
		{"without its identity", func(t *testing.T, n *node) {
			must(t, os.Remove(n.directory.file(identityFile)))
		}, ErrDamaged, []string{identityFile, "move " + "/"}},
		{"with a damaged identity", func(t *testing.T, n *node) {
			must(t, os.WriteFile(n.directory.file(identityFile), []byte(`{"form`), 0o600))
		}, ErrDamaged, []string{identityFile, "aside"}},
		{"with half an identity", func(t *testing.T, n *node) {
			must(t, os.WriteFile(n.directory.file(identityFile), []byte(`{"format":1,"cluster":"demo","node":"a"}`), 0o600))
		}, ErrDamaged, []string{identityFile}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			_, n := closed(t)
			tc.prepare(t, n)
			err := n.open(t.Context())
			wantError(t, err, tc.is, append(tc.says, n.config.Dir)...)
		})
	}
}

func TestDirectoryIsUsedByOneProcess(t *testing.T) {
	c := bootstrapped(t, "a")
	second := c.nodes["a"].config
	second.Machine = &ledger{}
	_, err := Open(t.Context(), second)
	wantError(t, err, ErrLocked, "already running", second.Dir)
	c.propose("one")
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	must(t, os.Mkdir(dir, 0o755))
	d, err := openDirectory(dir, "demo", "a")
	must(t, err)
	defer d.close()
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode is %o", info.Mode().Perm())
	}
}

func TestConfigIsRefused(t *testing.T) {
	good := Config{Dir: t.TempDir(), Cluster: "demo", Name: "a", Bind: "127.0.0.1:0", Machine: &ledger{}, Secret: func() []byte { return testSecret }}
	cases := map[string]func(*Config){
		"no directory":       func(c *Config) { c.Dir = "" },
		"no cluster":         func(c *Config) { c.Cluster = "" },
		"no name":            func(c *Config) { c.Name = "" },
		"name with #":        func(c *Config) { c.Name = "a#b" },
		"name with @":        func(c *Config) { c.Name = "a@b" },
		"endless name":       func(c *Config) { c.Name = strings.Repeat("a", 300) },
		"no machine":         func(c *Config) { c.Machine = nil },
		"no secret":          func(c *Config) { c.Secret = nil },
		"address no port":    func(c *Config) { c.Bind = "127.0.0.1" },
		"advertised no port": func(c *Config) { c.Advertise = "host" },
		"lease > heartbeat":  func(c *Config) { c.Timeouts = Timeouts{Heartbeat: time.Second, Lease: time.Minute} },
		"address of others":  func(c *Config) { c.Bind = "192.0.2.1:7400" },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			config := good
			spoil(&config)
			if store, err := Open(t.Context(), config); err == nil {
				store.Close()
				t.Fatal("it was accepted")
			}
		})
	}
	store, err := Open(t.Context(), good)
	must(t, err)
	must(t, store.Close())
}

func TestCommandOfANewerVersionStopsTheStore(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	c.propose("one")
	c.converge("one")
	old := c.follower()
	for _, n := range c.nodes {
		n.machine.mu.Lock()
		n.machine.modern = n != old
		n.machine.mu.Unlock()
	}
	ended := make(chan error, 1)
	go func() { ended <- old.Run(t.Context()) }()
	c.eventually("the command of a newer version", func() bool {
		_, err := c.leader().Propose(t.Context(), []byte("newer command"))
		return err == nil
	})
	c.propose("after")
	select {
	case err := <-ended:
		wantError(t, err, ErrIncompatible, "older than the cluster's log; upgrade it", "entry")
	case <-time.After(patience):
		t.Fatal("the store runs on")
	}
	wantError(t, old.Err(), ErrIncompatible)
	_, err := old.Propose(t.Context(), []byte("x"))
	wantError(t, err, ErrIncompatible)
	if got := old.machine.commands(); len(got) != 1 {
		t.Errorf("the old one has applied %v", got)
	}
	must(t, old.Close())

	// The same program stops again, whenever it learns that the command is
	// committed, and a newer one goes on.
	if err := old.open(t.Context()); err == nil {
		err = old.Run(t.Context())
		wantError(t, err, ErrIncompatible)
		must(t, old.Close())
	} else {
		wantError(t, err, ErrIncompatible)
	}
	old.machine = &ledger{modern: true}
	old.config.Machine = old.machine
	old.Store, err = Open(t.Context(), old.config)
	must(t, err)
	c.converge("one", "newer command", "after")
}

func TestSnapshotOfANewerFormatIsRefused(t *testing.T) {
	c := bootstrapped(t, "a")
	a := c.nodes["a"]
	c.propose("one")
	must(t, a.Snapshot(t.Context()))
	must(t, a.Close())
	rewriteSnapshot(t, a, func(content []byte) []byte {
		return bytes.Replace(content, []byte(`"format":1,"writer":"0.1"`), []byte(`"format":7,"writer":"9.9"`), 1)
	})
	wantError(t, a.open(t.Context()), ErrIncompatible, "9.9", "format 7", "up to 1", "upgrade it")
}

func TestSnapshotThatTheMachineRefusesStopsTheStart(t *testing.T) {
	c := bootstrapped(t, "a")
	a := c.nodes["a"]
	c.propose("one")
	must(t, a.Snapshot(t.Context()))
	must(t, a.Close())
	for _, reason := range []error{errors.New("record of version 9"), ErrIncompatible} {
		a.config.Machine = &ledger{refuse: reason}
		_, err := Open(t.Context(), a.config)
		wantError(t, err, reason)
	}
	c.open(a)
	c.converge("one")
}

// rewriteSnapshot changes the newest snapshot's content, with raft's own checksum
// made right again.
func rewriteSnapshot(t *testing.T, n *node, change func([]byte) []byte) {
	t.Helper()
	stored, err := n.snapshots.List()
	must(t, err)
	dir := filepath.Join(n.directory.file(snapshotsDir), stored[0].ID)
	content, err := os.ReadFile(filepath.Join(dir, "state.bin"))
	must(t, err)
	changed := change(bytes.Clone(content))
	if bytes.Equal(content, changed) {
		t.Fatal("nothing was changed")
	}
	must(t, os.WriteFile(filepath.Join(dir, "state.bin"), changed, 0o600))
	var meta map[string]any
	text, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	must(t, err)
	must(t, json.Unmarshal(text, &meta))
	meta["CRC"], meta["Size"] = crc64Of(changed), len(changed)
	text, err = json.Marshal(meta)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "meta.json"), text, 0o600))
}

func TestDamagedSnapshot(t *testing.T) {
	type place struct{ file, what string }
	for _, at := range []place{{"state.bin", "content"}, {"meta.json", "raft's own note"}} {
		damage := func(t *testing.T, n *node) {
			stored, err := n.snapshots.List()
			must(t, err)
			overwrite(t, filepath.Join(n.directory.file(snapshotsDir), stored[0].ID, at.file), 0, '?')
		}
		t.Run(at.what+" is reported when the log is compacted", func(t *testing.T) {
			c := bootstrapped(t, "a")
			a := c.nodes["a"]
			a.config.Compaction.Trailing = 2
			c.reopen(a)
			c.leader()
			c.propose(commands("x", 10)...)
			must(t, a.Snapshot(t.Context()))
			must(t, a.Close())
			damage(t, a)
			wantError(t, a.open(t.Context()), ErrDamaged, a.config.Dir, "move", "rejoins")
		})
		t.Run(at.what+" is made up for by a log that still holds all", func(t *testing.T) {
			c := bootstrapped(t, "a")
			a := c.nodes["a"]
			c.propose("one")
			must(t, a.Snapshot(t.Context()))
			c.propose("two")
			must(t, a.Snapshot(t.Context()))
			must(t, a.Close())
			damage(t, a)
			c.open(a)
			c.leader()
			c.converge("one", "two")
			if c.log.count("raft snapshot is damaged") == 0 {
				t.Error("nobody was told")
			}
		})
	}
}

func TestLostSnapshotIsReported(t *testing.T) {
	c := bootstrapped(t, "a")
	a := c.nodes["a"]
	a.config.Compaction.Trailing = 2
	c.reopen(a)
	c.leader()
	c.propose(commands("x", 10)...)
	must(t, a.Snapshot(t.Context()))
	must(t, a.Close())
	must(t, os.RemoveAll(a.directory.file(snapshotsDir)))
	wantError(t, a.open(t.Context()), ErrDamaged, "begins at")
}

func TestHalfWrittenSnapshotIsRemoved(t *testing.T) {
	_, a := closed(t)
	half := filepath.Join(a.directory.file(snapshotsDir), "9-99-1.tmp")
	must(t, os.MkdirAll(half, 0o700))
	must(t, a.open(t.Context()))
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there (%v)", err)
	}
}

func crc64Of(content []byte) []byte {
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	sum.Write(content)
	return sum.Sum(nil)
}
