package instance

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
)

func TestReplicationRole(t *testing.T) {
	n := newPrimary(t).start(t)
	const odd = `Re"plicator`
	stored := func() string {
		return n.sql(t, `SELECT rolpassword FROM pg_authid WHERE rolname = 'Re"plicator'`)
	}
	ensure := func(password string) {
		t.Helper()
		if err := n.EnsureReplicationRole(t.Context(), odd, password); err != nil {
			t.Fatal(err)
		}
	}
	logsIn := func(password string) bool {
		config, err := n.connConfig()
		if err != nil {
			t.Fatal(err)
		}
		config.User, config.Password = odd, password
		config.RuntimeParams = nil
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err == nil {
			conn.Close(context.Background())
		}
		return err == nil
	}

	ensure("first päss")
	if !logsIn("first päss") || logsIn("second") {
		t.Error("it does not log in with this password alone")
	}
	first := stored()
	ensure("first päss")
	if stored() != first {
		t.Error("an unchanged password was written again")
	}
	ensure("second")
	if !logsIn("second") || logsIn("first päss") {
		t.Error("it does not log in with the second password alone")
	}
	second := stored()
	n.sql(t, `ALTER ROLE "Re""plicator" NOREPLICATION NOLOGIN VALID UNTIL '2001-01-01'`)
	ensure("second")
	if got := n.sql(t, `SELECT rolcanlogin AND rolreplication FROM pg_authid WHERE rolname = 'Re"plicator'`); got != "true" || !logsIn("second") {
		t.Error("its rights were not restored")
	}
	if stored() == second {
		t.Error("this test does not see a write")
	}
	log, err := os.ReadFile(n.LogFile())
	if err != nil || strings.Contains(string(log), "first p") || strings.Contains(string(log), "second") || strings.Contains(string(log), "SCRAM") {
		t.Errorf("%v, the log shows the password:\n%s", err, log)
	}
}

func TestVerifierIsPostgreSQLsOwn(t *testing.T) {
	// Made by PostgreSQL 15 for the password "secret".
	n := newPrimary(t).start(t)
	n.sql(t, "CREATE ROLE other PASSWORD 'secret'")
	theirs := n.sql(t, "SELECT rolpassword FROM pg_authid WHERE rolname = 'other'")
	if !verifies(theirs, "secret") || verifies(theirs, "Secret") {
		t.Errorf("%s is not recognised", theirs)
	}
	for _, broken := range []string{"", "md5abc", "SCRAM-SHA-256$x:y$z", "SCRAM-SHA-256$0:AAAA$a:b", "SCRAM-SHA-256$4096:%$a:b"} {
		if verifies(broken, "secret") {
			t.Errorf("%q passes", broken)
		}
	}
}

func TestSlots(t *testing.T) {
	a := startPrimary(t)
	slot := func(n *node, name string) *pg.Slot {
		t.Helper()
		for _, s := range probe(t, n).Slots {
			if s.Name == name {
				return &s
			}
		}
		return nil
	}
	t.Run("creating and dropping twice is once", func(t *testing.T) {
		for range 2 {
			if err := a.CreateSlot(t.Context(), "ram_x"); err != nil {
				t.Fatal(err)
			}
		}
		if s := slot(a, "ram_x"); s == nil || s.RestartLSN == 0 || s.WALStatus != "reserved" {
			t.Errorf("it keeps no WAL: %+v", s)
		}
		for range 2 {
			if err := a.DropSlot(t.Context(), "ram_x"); err != nil {
				t.Fatal(err)
			}
		}
		if s := slot(a, "ram_x"); s != nil {
			t.Errorf("still there: %+v", s)
		}
	})

	b := newNode(t, "b").clone(t, a).start(t)
	waitFor(t, "streaming", func() bool { return probe(t, b).Receiver.Streaming() })
	t.Run("one in use is not dropped", func(t *testing.T) {
		wantError(t, a.DropSlot(t.Context(), "ram_b"), ErrSlotActive, "ram_b", "stop the standby")
		if err := a.AdvanceSlot(t.Context(), "ram_b", 1<<40); err != nil {
			t.Errorf("advancing it: %v", err)
		}
	})
	t.Run("on a standby it advances as far as replay, and never back", func(t *testing.T) {
		if err := b.CreateSlot(t.Context(), "ram_c"); err != nil {
			t.Fatal(err)
		}
		before := slot(b, "ram_c").RestartLSN
		a.sql(t, "CREATE TABLE public.t AS SELECT generate_series(1, 10000)")
		end := probe(t, a).LSN
		waitFor(t, "replay", func() bool { return probe(t, b).ReplayLSN >= end })
		middle := before + (end-before)/2
		for _, step := range []struct{ to, atMost pg.LSN }{{middle, middle}, {before, middle}, {end + 1<<40, probe(t, a).LSN}} {
			if err := b.AdvanceSlot(t.Context(), "ram_c", step.to); err != nil {
				t.Fatal(err)
			}
			got := slot(b, "ram_c").RestartLSN
			if got < before || got > step.atMost || got == 0 {
				t.Errorf("advanced to %s: it is at %s", step.to, got)
			}
			if step.to == middle && got != middle {
				t.Errorf("it is at %s, want %s", got, middle)
			}
			before = got
		}
		if before < end {
			t.Errorf("it stopped at %s before %s", before, end)
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		if err := a.AdvanceSlot(t.Context(), "ram_z", 1<<20); err != nil {
			t.Error(err)
		}
	})
	t.Run("a bad name", func(t *testing.T) {
		wantError(t, a.CreateSlot(t.Context(), "Not OK"), nil, "create replication slot")
	})
}

func TestConfigurationFiles(t *testing.T) {
	n := newPrimary(t)
	f := files("work_mem = '5MB'")
	f.Auto, f.Standby = "# by hand\nport = 1\n", true
	if err := n.WriteConfig(f); err != nil {
		t.Fatal(err)
	}
	read := func() pg.ConfigFiles {
		t.Helper()
		got, err := n.ReadConfig()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := read(); got != f {
		t.Errorf("read %+v", got)
	}
	noLeftovers(t, n)
	path := filepath.Join(n.DataDir(), managedFile)
	stat := func() os.FileInfo {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}

	t.Run("what is right is left alone", func(t *testing.T) {
		before := stat()
		if err := n.WriteConfig(f); err != nil {
			t.Fatal(err)
		}
		if !os.SameFile(before, stat()) {
			t.Error("it was written again")
		}
	})
	t.Run("a wrong mode is put right", func(t *testing.T) {
		chmod(t, path, 0o644)
		if err := n.WriteConfig(f); err != nil {
			t.Fatal(err)
		}
		if stat().Mode().Perm() != 0o600 {
			t.Errorf("mode %s", stat().Mode())
		}
	})
	t.Run("a link is replaced and not followed", func(t *testing.T) {
		victim := filepath.Join(n.dir, "victim")
		if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, link := range []string{path, path + tempSuffix} {
			os.Remove(link)
			if err := os.Symlink(victim, link); err != nil {
				t.Fatal(err)
			}
		}
		if got := read().Managed; got != "" {
			t.Errorf("read through the link: %q", got)
		}
		if err := n.WriteConfig(f); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(victim)
		if got := read(); got != f || string(text) != "precious" {
			t.Errorf("victim %q, read %+v", text, got)
		}
	})
	t.Run("standby.signal goes", func(t *testing.T) {
		f.Standby = false
		if err := n.WriteConfig(f); err != nil {
			t.Fatal(err)
		}
		if read().Standby {
			t.Error("it is there")
		}
	})
	t.Run("missing files read as empty", func(t *testing.T) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if got := read(); got.Managed != "" || got.Main == "" {
			t.Errorf("read %+v", got)
		}
	})
}
