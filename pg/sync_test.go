package pg

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestSyncNamesHaveOneText(t *testing.T) {
	for _, c := range []struct {
		rule  string
		names SyncNames
		want  string
	}{
		{"nobody is waited for", SyncNames{}, ""},
		{"no members, no wait", SyncNames{K: 1}, ""},
		{"zero of some is no wait", SyncNames{Members: []string{"a"}}, ""},
		{"members are sorted and quoted", SyncNames{K: 1, Members: []string{"b", "a"}}, `ANY 1 ("a","b")`},
		{"a member counts once", SyncNames{K: 2, Members: []string{"a", "b", "a"}}, `ANY 2 ("a","b")`},
		{"names may hold anything", SyncNames{K: 1, Members: []string{`db-1 "x", *`}}, `ANY 1 ("db-1 ""x"", *")`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := c.names.String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestSyncNamesAreReadInAnySpelling(t *testing.T) {
	const form = " is not of the form ANY k (names)"
	for _, c := range []struct {
		text, err string
		want      SyncNames
	}{
		{text: ""},
		{text: "  "},
		{text: `ANY 1 ("a","b")`, want: SyncNames{K: 1, Members: []string{"a", "b"}}},
		{text: "any 2(b , a, 7)", want: SyncNames{K: 2, Members: []string{"7", "a", "b"}}},
		{text: `ANY 1 ("x""y")`, want: SyncNames{K: 1, Members: []string{`x"y`}}},
		{text: "FIRST 1 (a)", err: `synchronous_standby_names "FIRST 1 (a)"` + form},
		{text: "a, b", err: `synchronous_standby_names "a, b"` + form},
		{text: "*", err: `synchronous_standby_names "*"` + form},
		{text: "ANY 1 (*)", err: `synchronous_standby_names "ANY 1 (*)"` + form},
		{text: "ANY 0 (a)", err: `synchronous_standby_names "ANY 0 (a)"` + form},
		{text: "ANY 1 ()", err: `synchronous_standby_names "ANY 1 ()"` + form},
		{text: "ANY 1 (a,)", err: `synchronous_standby_names "ANY 1 (a,)"` + form},
		{text: "ANY 1 (a b)", err: `synchronous_standby_names "ANY 1 (a b)"` + form},
		{text: "ANY 1 (a) b", err: `synchronous_standby_names "ANY 1 (a) b"` + form},
		{text: `ANY 1 ("a)`, err: "synchronous_standby_names has a quoted name that does not end"},
	} {
		got, err := ParseSyncNames(c.text)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.text, diff)
		}
		if err != nil && err.Error() != c.err || err == nil && c.err != "" {
			t.Errorf("%s: got error %v, want %q", c.text, err, c.err)
		}
	}
}

// checkSyncNames lets the server judge what String writes and ParseSyncNames reads.
func (s *scratch) checkSyncNames(t *testing.T) {
	for _, text := range []string{
		SyncNames{}.String(),
		SyncNames{K: 2, Members: []string{"b", "a-1", `x"y`, "ä *"}}.String(),
		"any 2(b , a, 7)",
		"ANY 1 (a,)", "ANY 1 (a b)", "ANY 0 (a)", `ANY 1 ("a)`, "ANY 1 ()", "ANY 1 (a$1)", "ANY 1 ($a)", "ANY 1 (12a)", "ANY 1 (_)",
	} {
		_, parsed := ParseSyncNames(text)
		_, refused := s.conn.Exec(t.Context(), "ALTER SYSTEM SET synchronous_standby_names = "+quoteLiteral(text))
		if (parsed == nil) != (refused == nil) {
			t.Errorf("%s: the server says %v, ParseSyncNames says %v", text, refused, parsed)
		}
	}
}

func FuzzSyncNamesAreReadAgain(f *testing.F) {
	f.Add(`ANY 1 ("a","b")`)
	f.Add("any 2 (b,a, \"x\"\"y\")")
	f.Fuzz(func(t *testing.T, text string) {
		names, err := ParseSyncNames(text)
		if err != nil {
			return
		}
		again, err := ParseSyncNames(names.String())
		if diff := cmp.Diff(names, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("%q: %v %s", text, err, diff)
		}
	})
}
