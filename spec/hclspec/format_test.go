package hclspec_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/spec/hclspec"
)

func TestFormat(t *testing.T) {
	for _, tt := range []struct{ rule, text, want string }{
		{"indents by two and aligns equals signs", "a {\nb=1\n    long   =  2\n}", "a {\n  b    = 1\n  long = 2\n}\n"},
		{"keeps one empty line of several", "a = 1\n\n\n\nb = 2\n", "a = 1\n\nb = 2\n"},
		{"removes empty lines at the edges of blocks and lists", "a {\n\n  b = [\n\n    1,\n\n  ]\n\n}\n", "a {\n  b = [\n    1,\n  ]\n}\n"},
		{"removes empty lines and blanks at the edges of the file", "\n\na = 1  \n\n\n", "a = 1\n"},
		{"keeps comments and the empty lines around them", "# one\n\n# two {\n\na = 1 # three\n", "# one\n\n# two {\n\na = 1 # three\n"},
		{"leaves heredocs alone", "a = <<EOT\n\n\n  x  \n\n}\nEOT\n\n\nb = 1\n", "a = <<EOT\n\n\n  x  \n\n}\nEOT\n\nb = 1\n"},
		{"leaves comments of several lines alone", "/* a\n\n\n b  \n*/\na = 1\n", "/* a\n\n\n b  \n*/\na = 1\n"},
		{"writes line ends of one kind", "a = 1\r\nb = 2\r\n", "a = 1\nb = 2\n"},
		{"makes nothing of nothing", "\n\n", ""},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			got, err := hclspec.Format("x.hcl", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again, err := hclspec.Format("x.hcl", got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(got), string(again)); diff != "" {
				t.Errorf("formatting twice changes more:\n%s", diff)
			}
		})
	}
}

func TestFormatRefusesBrokenSyntax(t *testing.T) {
	_, err := hclspec.Format("x.hcl", []byte("a {\n"))
	found, ok := errors.AsType[hclspec.Diagnostics](err)
	if !ok || !found.HasErrors() || found[0].File != "x.hcl" {
		t.Errorf("got %v, want diagnostics of x.hcl", err)
	}
}

func FuzzFormat(f *testing.F) {
	for _, text := range goldenTexts(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		once, err := hclspec.Format("x.hcl", text)
		if err != nil {
			return
		}
		twice, err := hclspec.Format("x.hcl", once)
		if err != nil {
			t.Fatalf("the formatted text does not parse: %v\n%q", err, once)
		}
		if string(once) != string(twice) {
			t.Fatalf("formatting twice changes more:\n%q\n%q", once, twice)
		}
	})
}
