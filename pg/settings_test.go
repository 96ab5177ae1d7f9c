package pg

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
)

// checkTable compares the table with pg_settings, in both directions.
func (s *scratch) checkTable(t *testing.T) {
	rows, err := s.conn.Query(t.Context(), `
		SELECT name, vartype, coalesce(unit, ''), context, coalesce(min_val, ''), coalesce(max_val, ''), enumvals
		FROM pg_settings WHERE name NOT LIKE '%.%'`)
	if err != nil {
		t.Fatal(err)
	}
	var shown Setting
	names := []string{}
	_, err = pgx.ForEachRow(rows, []any{
		&shown.Name, &shown.Type, &shown.Unit, &shown.Context, &shown.Min, &shown.Max, &shown.Enum,
	}, func() error {
		names = append(names, shown.Name)
		known, ok := LookupSetting(shown.Name, s.major)
		if !ok {
			t.Errorf("%s is missing", shown.Name)
			return nil
		}
		if diff := cmp.Diff(asBuilt(shown, known), known, cmpopts.IgnoreUnexported(Setting{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-server +table):\n%s", shown.Name, diff)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range SettingNames(s.major) {
		// Debian's packages have one of their own.
		if name != "extension_destdir" && !slices.Contains(names, name) {
			t.Errorf("%s is not a setting of PostgreSQL %d", name, s.major)
		}
	}
}

// asBuilt lifts the differences that come from how a server was compiled: the
// table holds what any build may offer.
func asBuilt(shown, known Setting) Setting {
	switch shown.Name {
	case "server_version_num":
		shown.Min, shown.Max = known.Min, known.Max
	case "wal_compression", "default_toast_compression", "io_method":
		if !slices.ContainsFunc(shown.Enum, func(v string) bool { return !slices.Contains(known.Enum, v) }) {
			shown.Enum = known.Enum
		}
	}
	return shown
}

// checkValues sets values, sensible ones and mutations of them, and expects the
// server to accept and to show what Check and Normalize foretell.
func (s *scratch) checkValues(t *testing.T) {
	_, err := s.conn.Exec(t.Context(), `
		CREATE FUNCTION pg_temp.shown(name text, value text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE before text := current_setting(name); shown text;
		BEGIN
			PERFORM set_config(name, value, false);
			shown := current_setting(name);
			PERFORM set_config(name, before, false);
			RETURN shown;
		EXCEPTION WHEN OTHERS THEN RETURN NULL;
		END $$`)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(15, 18))
	values := slices.Clone(spellings)
	for range 1000 {
		values = append(values, mutate(random, spellings[random.IntN(len(spellings))]))
	}
	for _, name := range []string{
		"work_mem", "effective_cache_size", "temp_buffers", "statement_timeout", "idle_in_transaction_session_timeout",
		"extra_float_digits", "vacuum_cost_delay", "seq_page_cost", "cpu_tuple_cost", "jit_above_cost", "geqo_seed",
		"enable_seqscan", "client_min_messages", "synchronous_commit", "track_functions", "log_min_messages",
		"vacuum_cost_limit", "commit_delay", "commit_siblings", "gin_pending_list_limit", "log_temp_files",
	} {
		s.checkValuesOf(t, name, values)
	}
}

func (s *scratch) checkValuesOf(t *testing.T, name string, values []string) {
	setting, ok := LookupSetting(name, s.major)
	if !ok {
		t.Fatalf("%s is missing", name)
	}
	rows, err := s.conn.Query(t.Context(), "SELECT pg_temp.shown($1, value) FROM unnest($2::text[]) WITH ORDINALITY AS v (value, n) ORDER BY n", name, values)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range values {
		err := setting.Check(value)
		if (err == nil) != (shown[i] != nil) {
			t.Errorf("%s = %q: Check says %v, unlike the server", name, value, err)
			continue
		}
		if got := setting.Normalize(value); err == nil && got != *shown[i] {
			t.Errorf("%s = %q: the server shows %q, Normalize gives %q", name, value, *shown[i], got)
		}
	}
}

var spellings = []string{
	"on", "off", "true", "false", "yes", "no", "1", "0", "t", "f", "o", "of", "y", "n", "TRUE", "oN", "", " on", "onn", "2",
	"64MB", "65536kB", "64 MB", " 64MB", "64MB ", "64mb", "64M", "0.5GB", "1.5MB", "30.1GB", "1025B", "1TB", "8kB", "12kB", "100",
	"5min", "300s", "1.5h", "90 s", "1d", "250us", "0.5", "1e3", "1e3kB", "1E2", "0x10", "0X1F", "0x1.8", "010", "08", "0", "-1", "-5", "+7",
	"2147483647", "2147483648", "-2147483649", "99999999999999999999", "1e400", "1e-400", "0.0001", ".5", "5.", ".", "-", "e", "0x",
	"inf", "nan", "Infinity", "1.5.5", "1 000", "1_000", "\t5\n", "5 ms s", "5msx",
	"debug", "debug5", "DEBUG1", "Warning", "info", "error", "remote_apply", "LOCAL", "pl", "all", "panic",
}

func mutate(random *rand.Rand, s string) string {
	const alphabet = "0123456789.eExXkMGTBmshdu +-on"
	b := []byte(s)
	for range 1 + random.IntN(3) {
		at, c := random.IntN(len(b)+1), alphabet[random.IntN(len(alphabet))]
		if at < len(b) && random.IntN(2) == 0 {
			b[at] = c
		} else {
			b = slices.Insert(b, at, c)
		}
	}
	return string(b)
}

func TestEveryLineOfTheSettingsTableIsWellFormed(t *testing.T) {
	types := []SettingType{SettingBool, SettingInteger, SettingReal, SettingString, SettingEnum}
	contexts := []Context{
		ContextInternal, ContextPostmaster, ContextSighup, ContextSuperuserBackend, ContextBackend, ContextSuperuser, ContextUser,
	}
	for line := range strings.Lines(settingsText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if columns := strings.Count(line, "\t") + 1; columns != 9 {
			t.Fatalf("%d columns in %q", columns, line)
		}
		setting, since, until := parseSetting(strings.TrimSuffix(line, "\n"))
		if since > until || !slices.Contains(types, setting.Type) || !slices.Contains(contexts, setting.Context) {
			t.Errorf("bad line %q", line)
		}
		if units, _ := unitFamily(setting.Unit); setting.Unit != "" && units == nil {
			t.Errorf("unknown unit in %q", line)
		}
	}
}

func TestSettingsFollowTheMajorVersion(t *testing.T) {
	for _, c := range []struct {
		name  string
		major int
		want  string
	}{
		{"max_connections", 15, "max_connections integer postmaster"},
		{"MAX_CONNECTIONS", 15, "max_connections integer postmaster"},
		{"datestyle", 15, "DateStyle string user"},
		{"restore_command", 13, "restore_command string postmaster"},
		{"restore_command", 14, "restore_command string sighup"},
		{"wal_compression", 14, "wal_compression bool superuser"},
		{"wal_compression", 15, "wal_compression enum superuser"},
		{"vacuum_defer_cleanup_age", 15, "vacuum_defer_cleanup_age integer sighup"},
		{"vacuum_defer_cleanup_age", 16, "unknown"},
		{"transaction_timeout", 16, "unknown"},
		{"transaction_timeout", 17, "transaction_timeout integer user"},
		{"autovacuum_max_workers", 17, "autovacuum_max_workers integer postmaster"},
		{"autovacuum_max_workers", 18, "autovacuum_max_workers integer sighup"},
		{"io_method", 19, "io_method enum postmaster"}, // a newer major is answered as the newest known
		{"pg_stat_statements.max", 15, "pg_stat_statements.max string user custom"},
		{"max_conections", 15, "unknown"},
		{"1.2", 15, "unknown"},
		{"a..b", 15, "unknown"},
		{"", 15, "unknown"},
	} {
		t.Run(fmt.Sprintf("%s in %d", c.name, c.major), func(t *testing.T) {
			got := "unknown"
			if s, ok := LookupSetting(c.name, c.major); ok {
				got = fmt.Sprintf("%s %s %s", s.Name, s.Type, s.Context)
				if s.Custom {
					got += " custom"
				}
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestNearestSettingIsWhatWasMeant(t *testing.T) {
	for _, c := range []struct {
		name  string
		major int
		want  string
	}{
		{"max_conections", 15, "max_connections"},
		{"Shared_Bufers", 15, "shared_buffers"},
		{"work-mem", 15, "work_mem"},
		{"wal_keep_segments", 15, "wal_keep_size"},
		{"sort_mem", 15, "work_mem"},
		{"force_parallel_mode", 16, "debug_parallel_query"},
		{"debug_parallel_query", 15, "force_parallel_mode"},
		{"trigger_file", 15, "promote_trigger_file"},
		{"trigger_file", 16, ""},
		{"server_version", 15, ""}, // it cannot be set, so it is not suggested
		{"favourite_colour", 15, ""},
		{"", 15, ""},
	} {
		if got := NearestSetting(c.name, c.major); got != c.want {
			t.Errorf("%q in %d: got %q, want %q", c.name, c.major, got, c.want)
		}
	}
}

func TestCheckSaysWhatToWriteInstead(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"max_connections", "200", ""},
		{"max_connections", "0", `max_connections = "0" is out of range; use 1 to 262143`},
		{"max_connections", "many", `max_connections = "many" is not a whole number`},
		{"max_connections", "5kB", `max_connections has no unit; leave out "kB"`},
		{"shared_buffers", "256MB", ""},
		{"shared_buffers", "256mb", `shared_buffers has no unit "mb"; use one of B, kB, MB, GB, TB (upper and lower case matter)`},
		{"shared_buffers", "64kB", `shared_buffers = "64kB" is out of range; use 16 to 1073741823, counted in 8kB`},
		{"checkpoint_timeout", "soon", `checkpoint_timeout = "soon" is not a whole number with an optional unit of us, ms, s, min, h, d`},
		{"hot_standby", "maybe", `hot_standby = "maybe" is not a boolean; use on or off`},
		{"wal_level", "hot_standby", ""},
		{"wal_level", "full", `wal_level = "full" is not one of its values; use one of minimal, replica, logical`},
		{"server_version", "15", "server_version is reported by PostgreSQL and cannot be set; remove it"},
		{"ssl_max_protocol_version", "", ""},
		{"cluster_name", "a\x00b", "cluster_name contains a NUL byte; remove it"},
		{"pg_stat_statements.max", "anything", ""},
	} {
		setting, ok := LookupSetting(c.name, 15)
		if !ok {
			t.Fatalf("%s is missing", c.name)
		}
		got := ""
		if err := setting.Check(c.value); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestEqualComparesMeaning(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		want       bool
	}{
		{"shared_buffers", "256MB", "262144kB", true},
		{"shared_buffers", "256MB", "32768", true},
		{"shared_buffers", "256MB", "255MB", false},
		{"hot_standby", "on", "true", true},
		{"hot_standby", "on", "0", false},
		{"checkpoint_timeout", "5min", "300s", true},
		{"checkpoint_timeout", "300", "5min", true},
		{"checkpoint_completion_target", "0.9", "9e-1", true},
		{"synchronous_commit", "true", "ON", true},
		{"wal_level", "archive", "replica", true},
		{"log_file_mode", "0600", "384", true},
		{"TimeZone", "utc", "UTC", true},
		{"DateStyle", "iso,mdy", "ISO, MDY", true},
		{"client_encoding", "utf8", "UTF-8", true},
		{"shared_preload_libraries", "a", "A", false},
		{"work_mem", "much", "much", true},
		{"work_mem", "much", "more", false},
	} {
		setting, _ := LookupSetting(c.name, 15)
		if got := setting.Equal(c.a, c.b); got != c.want {
			t.Errorf("%s: %q equals %q is %v", c.name, c.a, c.b, got)
		}
	}
}

func TestServerChosenValuesProveNothing(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        bool
	}{
		{"wal_buffers", "-1", true},
		{"wal_buffers", "16MB", false},
		{"transaction_buffers", "0", true},
		{"transaction_buffers", "1MB", false},
		{"work_mem", "-1", false},
	} {
		setting, _ := LookupSetting(c.name, 17)
		if got := setting.ServerChosen(c.value); got != c.want {
			t.Errorf("%s = %s: %v", c.name, c.value, got)
		}
	}
}

func FuzzNormalizeIsAFixedPointThatMeansTheSame(f *testing.F) {
	for _, value := range spellings {
		f.Add("work_mem", value)
		f.Add("vacuum_cost_delay", value)
		f.Add("client_min_messages", value)
		f.Add("hot_standby", value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		setting, ok := LookupSetting(name, 15)
		if !ok || setting.Check(value) != nil {
			return
		}
		normal := setting.Normalize(value)
		if err := setting.Check(normal); err != nil {
			t.Fatalf("%q became %q: %v", value, normal, err)
		}
		if again := setting.Normalize(normal); again != normal || !setting.Equal(value, normal) {
			t.Fatalf("%q became %q, then %q", value, normal, again)
		}
	})
}
