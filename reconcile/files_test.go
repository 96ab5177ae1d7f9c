package reconcile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

func standbyAssignment() reconcile.Assignment {
	return reconcile.Assignment{
		Serial: 4, Node: "b", Role: reconcile.RoleStandby, Term: 1,
		Upstream: &reconcile.Upstream{Node: "a", Host: "10.0.0.1", Port: 5433, Slot: "ram_b"},
		Settings: map[string]string{"work_mem": "4MB", "max_connections": "100"},
		HBA:      []string{"local all all scram-sha-256"},
	}
}

func TestFilesSayWhatTheyWereWrittenFor(t *testing.T) {
	a := standbyAssignment()
	files := reconcile.Files(a, reconcile.Paths{Passfile: "/p"})
	if got := reconcile.WrittenSerial(files); got != 4 {
		t.Errorf("serial %d", got)
	}
	entries, err := pg.ParseConf(files.Managed)
	if err != nil {
		t.Fatal(err)
	}
	got := pg.EffectiveConf(entries)
	info, err := pg.ParseConninfo(got["primary_conninfo"])
	if err != nil {
		t.Fatal(err)
	}
	if info["host"] != "10.0.0.1" || info["port"] != "5433" || info["application_name"] != "b" || info["passfile"] != "/p" {
		t.Errorf("primary_conninfo %v", info)
	}
	if strings.Contains(got["primary_conninfo"], "password=") {
		t.Error("a password is in the configuration")
	}
	if got["primary_slot_name"] != "ram_b" || got["work_mem"] != "4MB" || !files.Standby {
		t.Errorf("%v %v", got, files.Standby)
	}
	a.Role, a.Upstream = reconcile.RolePrimary, nil
	files = reconcile.Files(a, reconcile.Paths{})
	if files.Standby || strings.Contains(files.Managed, "primary_conninfo") {
		t.Errorf("a primary is told to follow: %+v", files)
	}
	if reconcile.WrittenSerial(pg.ConfigFiles{Managed: "work_mem = '4MB'\n"}) != 0 {
		t.Error("a file that ramd did not write has a serial")
	}
}

func TestDriftIsWhatSomebodyChanged(t *testing.T) {
	a := standbyAssignment()
	for _, rule := range []struct {
		name string
		edit func(*pg.ConfigFiles)
		want []reconcile.Drift
	}{
		{"nothing", func(*pg.ConfigFiles) {}, nil},
		{
			"ALTER SYSTEM", func(f *pg.ConfigFiles) { f.Auto += "work_mem = '1GB'\n" },
			[]reconcile.Drift{{Where: "ALTER SYSTEM", Name: "work_mem", Have: "1GB"}},
		},
		{
			"ALTER SYSTEM of a secret", func(f *pg.ConfigFiles) {
				f.Auto += "primary_conninfo = 'host=x password=hunter2'\nmy.token = 'hunter2'\n"
			},
			[]reconcile.Drift{
				{Where: "ALTER SYSTEM", Name: "my.token", Have: "(sensitive)"},
				{Where: "ALTER SYSTEM", Name: "primary_conninfo", Have: "(sensitive)"},
			},
		},
		{"ALTER SYSTEM taken back", func(f *pg.ConfigFiles) { f.Auto += "# a comment\n" }, nil},
		{
			"an edited setting", func(f *pg.ConfigFiles) { f.Managed = strings.Replace(f.Managed, "4MB", "8MB", 1) },
			[]reconcile.Drift{{Where: "ram.conf", Name: "work_mem", Have: "8MB", Want: "4MB"}},
		},
		{
			"an edited comment", func(f *pg.ConfigFiles) { f.Managed += "# hello\n" },
			[]reconcile.Drift{{Where: "file", Name: "ram.conf", Have: "edited", Want: "as written by ramd"}},
		},
		{
			"postgresql.conf", func(f *pg.ConfigFiles) { f.Main = "" },
			[]reconcile.Drift{{Where: "file", Name: "postgresql.conf", Have: "edited", Want: "as written by ramd"}},
		},
		{
			"pg_hba.conf", func(f *pg.ConfigFiles) { f.HBA += "host all all all trust\n" },
			[]reconcile.Drift{{Where: "file", Name: "pg_hba.conf", Have: "edited", Want: "as written by ramd"}},
		},
		{
			"standby.signal", func(f *pg.ConfigFiles) { f.Standby = false },
			[]reconcile.Drift{{Where: "file", Name: "standby.signal", Have: "absent", Want: "present"}},
		},
	} {
		t.Run(rule.name, func(t *testing.T) {
			files := reconcile.Files(a, reconcile.Paths{})
			rule.edit(&files)
			if diff := cmp.Diff(rule.want, reconcile.FindDrift(a, reconcile.Paths{}, files)); diff != "" {
				t.Error(diff)
			}
		})
	}
	broken := reconcile.Files(a, reconcile.Paths{})
	broken.Managed += "what is this\n"
	if got := reconcile.FindDrift(a, reconcile.Paths{}, broken); len(got) != 1 || got[0].Name != "syntax" {
		t.Errorf("a file that cannot be read: %+v", got)
	}
}
