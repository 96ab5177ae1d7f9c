package pg

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
)

func TestRenderedSettingsAreSortedAndQuoted(t *testing.T) {
	got := RenderConf("Written by ramd.\n\nDo not edit.", map[string]string{
		"work_mem":                 "64MB",
		"DateStyle":                "ISO, DMY",
		"archive_command":          `test ! -f '/a b/%f' && cp "%p" \\host\share`,
		"shared_preload_libraries": "",
		"ram.text":                 "two\r\nlines # and no comment",
	})
	want := `# Written by ramd.
#
# Do not edit.
archive_command = 'test ! -f ''/a b/%f'' && cp "%p" \\\\host\\share'
DateStyle = 'ISO, DMY'
ram.text = 'two\r\nlines # and no comment'
shared_preload_libraries = ''
work_mem = '64MB'
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// confCases are files, with their entries as name=value@line or their error.
var confCases = []struct{ rule, text, want string }{
	{"an empty file says nothing", "", ""},
	{"comments and blank lines say nothing", "# a\n\n  \t# b\r\n", ""},
	{"the equals sign is optional", "a=1\nb = 2\nc 3\nd\t'4'", "a=1@1 b=2@2 c=3@3 d=4@4"},
	{"the last line needs no end", "a = 1", "a=1@1"},
	{"a comment may follow the value", "a = 1 # one\nb = '#2'#two", "a=1@1 b=#2@2"},
	{"names keep their case and may repeat", "Work_Mem = 1\nwork_mem = 2", "Work_Mem=1@1 work_mem=2@2"},
	{"extension parameters have one dot", "plpgsql.check_asserts = on", "plpgsql.check_asserts=on@1"},
	{"more dots are an error", "a.b.c = 1", "line 1: a.b.c is not a parameter name"},
	{"numbers take units", "a = 5min\nb = -1\nc = 0x1F\nd = 0.5\ne = .5e-3\nf = +7kB", "a=5min@1 b=-1@2 c=0x1F@3 d=0.5@4 e=.5e-3@5 f=+7kB@6"},
	{"a fraction takes no unit without quotes", "a = 0.5GB", "line 1: unexpected GB after the value of a; write the value in single quotes"},
	{"words have punctuation when they begin with a letter", "a = C.UTF-8\nb = x/y:z", "a=C.UTF-8@1 b=x/y:z@2"},
	{"a word like a.b needs quotes", "a = server.crt", "line 1: write the value server.crt in single quotes"},
	{"an address needs quotes", "a = 127.0.0.1", "line 1: unexpected .0 after the value of a; write the value in single quotes"},
	{"quotes are doubled or escaped", `a = 'it''s' ` + "\n" + `b = 'it\'s'`, "a=it's@1 b=it's@2"},
	{"C escapes are undone", `a = '\b\f\n\r\t\\\q\101\7x'`, "a=\b\f\n\r\t\\qA\ax@1"},
	{"a quoted value ends on its line", "a = 'x\ny'", "line 1: a quoted value does not end\nline 2: a quoted value does not end"},
	{"a value is needed", "a\nb =\nc", "line 1: a has no value\nline 2: b has no value\nline 3: c has no value"},
	{"one value only", "a = 1 2", "line 1: unexpected 2 after the value of a; write the value in single quotes"},
	{"one equals sign only", "a == 1", "line 1: a has two equals signs"},
	{"a name comes first", "= 1\n'a' = 1\n5 = 1", "line 1: = is not a parameter name\nline 2: 'a' is not a parameter name\nline 3: 5 is not a parameter name"},
	{"no punctuation outside quotes", "a = $x", "line 1: syntax error near \"$x\"; write the value in single quotes"},
	{"include directives are entries", "include 'ram.conf'\ninclude_dir = 'conf.d'", "include=ram.conf@1 include_dir=conf.d@2"},
}

func confNotation(entries []ConfEntry, err error) string {
	if err != nil {
		return err.Error()
	}
	words := make([]string, len(entries))
	for i, e := range entries {
		words[i] = e.Name + "=" + e.Value + "@" + string(rune('0'+e.Line))
	}
	return strings.Join(words, " ")
}

func TestParseConfFollowsPostgreSQLsRules(t *testing.T) {
	for _, c := range confCases {
		t.Run(c.rule, func(t *testing.T) {
			if diff := cmp.Diff(c.want, confNotation(ParseConf(c.text))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheLastLineOfANameCounts(t *testing.T) {
	entries, err := ParseConf("Work_Mem = 1\ninclude = 'x'\nport = 5\nwork_mem = '2'\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"work_mem": "2", "port": "5"}, EffectiveConf(entries)); diff != "" {
		t.Error(diff)
	}
}

func FuzzWhatIsRenderedIsParsedAgain(f *testing.F) {
	f.Add("note", "work_mem", "64MB", "ram.x", `it's \n a "test" # 1`)
	f.Add("two\nlines", "a", "\r\n\t\v\\", "b_1", "é'\\'")
	f.Fuzz(func(t *testing.T, header, name1, value1, name2, value2 string) {
		settings := map[string]string{}
		for name, value := range map[string]string{name1: value1, name2: value2} {
			if !customName("x."+name) || strings.ContainsRune(value, 0) {
				return
			}
			settings[name] = value
			settings["ram."+name] = value
		}
		text := RenderConf(header, settings)
		entries, err := ParseConf(text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		got := map[string]string{}
		for _, e := range entries {
			got[e.Name] = e.Value
		}
		if diff := cmp.Diff(settings, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParseConfTakesAnyText(f *testing.F) {
	for _, c := range confCases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, _ := ParseConf(text)
		for _, e := range entries {
			if e.Name == "" || e.Line < 1 || e.Line > strings.Count(text, "\n")+1 {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// checkConf lets the server read files and compares what it found.
func (s *scratch) checkConf(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	texts := []string{RenderConf("nasty", nastySettings)}
	for _, c := range confCases {
		texts = append(texts, c.text)
	}
	for range 300 {
		texts = append(texts, confMutation(random, confCases[random.IntN(len(confCases))].text))
	}
	for _, text := range texts {
		entries, err := ParseConf(text)
		if slices.ContainsFunc(entries, ConfEntry.Include) {
			continue
		}
		found, sound := s.fileSettings(t, text)
		if sound != (err == nil) {
			t.Errorf("ParseConf says %v, unlike the server, of\n%s", err, text)
			continue
		}
		if diff := cmp.Diff(found, entries, cmpopts.EquateEmpty()); err == nil && diff != "" {
			t.Errorf("(-server +ParseConf) %s\nof\n%s", diff, text)
		}
	}
}

var nastySettings = map[string]string{
	"ram.quote":     `it's "quoted" and \escaped\`,
	"ram.lines":     "one\ntwo\r\nthree\ttab",
	"ram.comment":   "# none",
	"ram.empty":     "",
	"ram.space":     "  around  ",
	"ram.accents":   "Zürich – 東京",
	"ram.control":   "\x01\x1b\x7f",
	"ram.octal":     `\101`,
	"cluster_name":  "a'b",
	"ram.equals":    "= = =",
	"ram.long":      strings.Repeat("0123456789", 200),
	"ram.quotes":    "''''",
	"ram.backslash": `\\\'`,
}

func confMutation(random *rand.Rand, text string) string {
	const alphabet = "ab1.0='\\\n #-+x_/:é\tn7eE\r"
	runes := []rune(text)
	for range 1 + random.IntN(4) {
		c := []rune(alphabet)[random.IntN(len([]rune(alphabet)))]
		runes = slices.Insert(runes, random.IntN(len(runes)+1), c)
	}
	return string(runes)
}

// fileSettings is what the server reads in the file; sound is false when it
// finds a syntax error.
func (s *scratch) fileSettings(t *testing.T, text string) (entries []ConfEntry, sound bool) {
	file := filepath.Join(s.data(), "postgresql.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// Rows without a line tell of settings that the file no longer has.
	rows, err := s.conn.Query(t.Context(), `
		SELECT coalesce(name, ''), coalesce(setting, ''), sourceline
		FROM pg_file_settings WHERE sourceline IS NOT NULL ORDER BY seqno`)
	if err != nil {
		t.Fatal(err)
	}
	entries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ConfEntry])
	if err != nil {
		t.Fatal(err)
	}
	// A syntax error has a line, but no name.
	broken := slices.ContainsFunc(entries, func(e ConfEntry) bool { return e.Name == "" })
	return entries, !broken
}
