package take

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

func TestRefusedBeforeAnythingIsStored(t *testing.T) {
	s := startPrimary(t, "max_wal_senders=1", "max_replication_slots=1")
	s.sql(t, "CREATE ROLE guarded LOGIN REPLICATION PASSWORD 'right'", "CREATE ROLE plain LOGIN")
	holdSlot := func(t *testing.T) {
		s.sql(t, "SELECT pg_create_physical_replication_slot('other', true)")
		t.Cleanup(func() { s.sql(t, "SELECT pg_drop_replication_slot('other')") })
	}
	holdSender := func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), s.conninfo("postgres").String()+" replication=yes sslmode=disable default_query_exec_mode=simple_protocol")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			conn.Close(context.Background())
			waitFor(t, "the walsender to go", func() bool { return s.sql(t, "SELECT count(*) FROM pg_stat_replication") == "0" })
		})
	}
	for _, test := range []struct {
		rule    string
		prepare func(t *testing.T)
		change  func(o *Options)
		says    []string
	}{
		{"another cluster's server", nil, func(o *Options) { o.SystemID++ }, []string{"another cluster's server", s.dir}},
		{"a wrong password", nil, func(o *Options) { o.Conninfo, o.Password = s.conninfo("guarded"), "wrong" }, []string{"check the password of role guarded"}},
		{"a role that may not replicate", nil, func(o *Options) { o.Conninfo = s.conninfo("plain") }, []string{"give role plain the attribute REPLICATION"}},
		{"no server", nil, func(o *Options) { o.Conninfo = pg.Conninfo{"host": s.dir, "port": "5433", "user": "postgres"} }, []string{"see that the server runs"}},
		{"no slot", holdSlot, nil, []string{"raise max_replication_slots"}},
		{"no walsender", holdSender, nil, []string{"raise max_wal_senders"}},
		{"a rate below PostgreSQL's", nil, func(o *Options) { o.MaxRate = 31 * pg.KB }, []string{"max_rate 31kB", "32kB to 1GB"}},
		{"a rate above PostgreSQL's", nil, func(o *Options) { o.MaxRate = 2 * pg.GB }, []string{"max_rate 2GB"}},
		{"an ID with a path trick", nil, func(o *Options) { o.ID = "../x" }, []string{"not the identifier of a backup"}},
		{"an unknown system identifier", nil, func(o *Options) { o.SystemID = 0 }, []string{"not known yet"}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			repository, _ := newRepository(t, "zstd", false)
			o := options(t, s, repository)
			if test.prepare != nil {
				test.prepare(t)
			}
			if test.change != nil {
				test.change(&o)
			}
			entry, err := Take(t.Context(), o)
			wantError(t, err, nil, test.says...)
			wantNothing(t, repository, entry)
			if strings.Contains(err.Error(), "wrong") {
				t.Errorf("the password is in %q", err)
			}
		})
	}
	t.Run("the right password is accepted", func(t *testing.T) {
		repository, _ := newRepository(t, "zstd", false)
		o := options(t, s, repository)
		o.Conninfo, o.Password = s.conninfo("guarded"), "right"
		if _, err := Take(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Run("an ID is used once", func(t *testing.T) {
			before, _ := repository.List(t.Context(), "")
			_, err := Take(t.Context(), o)
			wantError(t, err, backup.ErrExists, "under another name")
			after, _ := repository.List(t.Context(), "")
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the first backup was touched: %s", diff)
			}
		})
	})
}
