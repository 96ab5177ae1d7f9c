package pg

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgpassfile"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestConninfoIsRenderedInOneOrder(t *testing.T) {
	for _, c := range []struct {
		rule string
		info Conninfo
		want string
	}{
		{"nothing set", nil, ""},
		{
			"the usual keywords come first, others by alphabet",
			Conninfo{"sslmode": "require", "connect_timeout": "2", "dbname": "postgres", "user": "ram", "port": "5432", "host": "a,b"},
			"host=a,b port=5432 user=ram dbname=postgres connect_timeout=2 sslmode=require",
		},
		{"empty and spaced values are quoted", Conninfo{"host": "", "user": "a b"}, "host='' user='a b'"},
		{"quotes and backslashes are escaped", Conninfo{"password": `it's \ x`}, `password='it\'s \\ x'`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := c.info.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestRedactedConninfoHoldsNoSecret(t *testing.T) {
	info := Conninfo{"host": "a", "password": "hush", "sslpassword": "hush"}
	if got, want := info.Redacted(), "host=a password=******** sslpassword=********"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseConninfoFollowsLibpq(t *testing.T) {
	for _, c := range []struct {
		text string
		want Conninfo
		err  string
	}{
		{text: "", want: Conninfo{}},
		{text: " host = a\tport= 5432 ", want: Conninfo{"host": "a", "port": "5432"}},
		{text: `user='a b'dbname=x\ y`, want: Conninfo{"user": "a b", "dbname": "x y"}},
		{text: `user='it\'s \\'`, want: Conninfo{"user": `it's \`}},
		{text: "host='' user=", want: Conninfo{"host": "", "user": ""}},
		{text: "host=a host=b", want: Conninfo{"host": "b"}},
		{text: "host", err: "connection string is not made of keyword=value pairs"},
		{text: "a b=c", err: "connection string is not made of keyword=value pairs"},
		{text: "=c", err: "connection string is not made of keyword=value pairs"},
		{text: "password='hush", err: "connection string: password has a quoted value that does not end"},
	} {
		got, err := ParseConninfo(c.text)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.text, diff)
		}
		if err != nil && err.Error() != c.err || err == nil && c.err != "" {
			t.Errorf("%s: got error %v, want %q", c.text, err, c.err)
		}
	}
}

func TestURINamesEveryHost(t *testing.T) {
	for _, c := range []struct {
		rule string
		info Conninfo
		want string
	}{
		{"nothing set", nil, "postgresql:///"},
		{
			"several hosts",
			Conninfo{"host": "a,b", "port": "5432,5433", "dbname": "postgres", "target_session_attrs": "read-write"},
			"postgresql://a:5432,b:5433/postgres?target_session_attrs=read-write",
		},
		{"one port for all hosts", Conninfo{"host": "a,b", "port": "6000"}, "postgresql://a:6000,b:6000/"},
		{"IPv6 in brackets", Conninfo{"host": "::1", "port": "5432"}, "postgresql://[::1]:5432/"},
		{"user, password and name are encoded", Conninfo{"host": "h", "user": "a@b", "password": "p:/?#", "dbname": "x y"}, "postgresql://a%40b:p%3A%2F%3F%23@h/x%20y"},
		{"socket directories are in the query", Conninfo{"host": "/run/pg", "port": "5432", "dbname": "d"}, "postgresql:///d?host=/run/pg&port=5432"},
		{"a password without a user is in the query", Conninfo{"host": "h", "password": "p+q"}, "postgresql://h/?password=p%2Bq"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := c.info.URI(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestPgxReadsBothForms(t *testing.T) {
	for _, info := range []Conninfo{
		{"host": "a,b,c", "port": "5432,5433,5434", "user": "ram", "dbname": "postgres", "sslmode": "disable", "target_session_attrs": "read-write"},
		{"host": "a", "port": "5432", "user": `o'neil \ co`, "password": `p@ss:w/o?r#d% +'"`, "dbname": "näme x", "sslmode": "disable", "application_name": "a&b=c +d"},
		{"host": "::1", "port": "5432", "user": "u", "dbname": "d", "sslmode": "disable"},
		{"host": "/run/pg sql", "port": "5432", "user": "u", "dbname": "d", "sslmode": "disable"},
	} {
		pairs, err := pgconn.ParseConfig(info.String())
		if err != nil {
			t.Fatalf("%s: %v", info, err)
		}
		uri, err := pgconn.ParseConfig(info.URI())
		if err != nil {
			t.Fatalf("%s: %v", info.URI(), err)
		}
		for form, config := range map[string]*pgconn.Config{info.String(): pairs, info.URI(): uri} {
			got := Conninfo{
				"host": config.Host, "user": config.User, "password": config.Password, "dbname": config.Database,
				"application_name": config.RuntimeParams["application_name"],
			}
			want := Conninfo{
				"host": strings.Split(info["host"], ",")[0], "user": info["user"], "password": info["password"], "dbname": info["dbname"],
				"application_name": info["application_name"],
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", form, diff)
			}
			if hosts := strings.Count(info["host"], ","); len(config.Fallbacks) != hosts {
				t.Errorf("%s: %d fallbacks for %d further hosts", form, len(config.Fallbacks), hosts)
			}
		}
	}
}

// checkConninfo connects with libpq itself.
func (s *scratch) checkConninfo(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		skip(t, "psql is not installed")
	}
	for _, application := range []string{"plain", `it's \a "b"`, " a&b=c +d%20#? ", "a,b:c/d"} {
		info := Conninfo{"host": s.dir, "port": "5432", "user": "postgres", "dbname": "postgres", "application_name": application}
		for _, form := range []string{info.String(), info.URI()} {
			out, err := exec.CommandContext(t.Context(), psql, "-XAt", "-d", form, "-c", "SHOW application_name").CombinedOutput()
			if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != application {
				t.Errorf("%s: %q, %v", form, got, err)
			}
		}
	}
}

func FuzzConninfoIsParsedAgain(f *testing.F) {
	f.Add("host", "a", "user", `it's \ `)
	f.Add("a", "", "b", "\n\t'\\")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		info := Conninfo{}
		for keyword, value := range map[string]string{k1: v1, k2: v2} {
			if nameLength(keyword) != len(keyword) || keyword == "" {
				return
			}
			info[keyword] = value
		}
		got, err := ParseConninfo(info.String())
		if diff := cmp.Diff(info, got); err != nil || diff != "" {
			t.Fatalf("%s: %v %s", info, err, diff)
		}
	})
}

func FuzzParseConninfoTakesAnyText(f *testing.F) {
	f.Add("host=a user='x' b=\\")
	f.Fuzz(func(t *testing.T, text string) {
		info, err := ParseConninfo(text)
		if err != nil {
			return
		}
		again, err := ParseConninfo(info.String())
		if diff := cmp.Diff(info, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("%q became %q: %v %s", text, info, err, diff)
		}
	})
}

func TestPassfileLinesAreEscaped(t *testing.T) {
	for _, c := range []struct {
		entry PassfileEntry
		want  string
	}{
		{PassfileEntry{Host: "a", Port: "5432", Database: "replication", User: "ram", Password: "x"}, "a:5432:replication:ram:x\n"},
		{PassfileEntry{User: "ram", Password: `p:\*`}, `*:*:*:ram:p\:\\*` + "\n"},
		{PassfileEntry{Host: "::1", Database: "*", User: "#u", Password: "*"}, `\:\:1:*:\*:#u:*` + "\n"},
		{PassfileEntry{Host: "#h", Password: ""}, `\#h:*:*:*:` + "\n"},
	} {
		got, err := c.entry.Line()
		if err != nil || got != c.want {
			t.Errorf("got %q (%v), want %q", got, err, c.want)
		}
	}
	if line, err := (PassfileEntry{Password: "hush\nx"}).Line(); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("a line end in a password: %q, %v", line, err)
	}
}

func TestDriversFindThePasswordInALine(t *testing.T) {
	entry := PassfileEntry{Host: "::1", Port: "5432", Database: `d:b\`, User: "us:er", Password: `s:e\cret`}
	line, err := entry.Line()
	if err != nil {
		t.Fatal(err)
	}
	passfile, err := pgpassfile.ParsePassfile(strings.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	if got := passfile.FindPassword(entry.Host, entry.Port, entry.Database, entry.User); got != entry.Password {
		t.Errorf("found %q in %s", got, line)
	}
}
