package devcluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRamdIsTheOneBesideRamctrlThenTheFirstInPath(t *testing.T) {
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	for _, file := range []string{"both/ramctrl", "both/ramd", "alone/ramctrl", "path/ramd"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(at(file)), 0o755), os.WriteFile(at(file), nil, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Mkdir(at("plain"), 0o755), os.WriteFile(at("plain", "ramd"), nil, 0o644),
		os.MkdirAll(at("folder", "ramd"), 0o755),
		os.Symlink(at("both", "ramctrl"), at("ramctrl")),
	); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ rule, ramctrl, path, want string }{
		{"the one beside wins", "both/ramctrl", at("path"), "both/ramd"},
		{"beside is where a link to ramctrl leads", "ramctrl", at("path"), "both/ramd"},
		{"then PATH", "alone/ramctrl", at("nowhere") + ":" + at("path"), "path/ramd"},
		{"what is not executable does not count", "alone/ramctrl", at("plain") + ":" + at("folder") + ":" + at("path"), "path/ramd"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			got, err := ramdProgram(at(test.ramctrl), test.path)
			if err != nil || got != at(test.want) {
				t.Errorf("got %s, %v; want %s", got, err, at(test.want))
			}
		})
	}
	_, err := ramdProgram(at("alone", "ramctrl"), ".:relative:"+at("plain"))
	if err == nil || !strings.Contains(err.Error(), at("alone")) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("no ramd anywhere: %v", err)
	}
}

func TestRamdGetsNothingThatIsMeantForAnother(t *testing.T) {
	got := ramdEnviron([]string{"PATH=/bin", "RAMD_DATA_DIR=/x", "RAMD_LOG_LEVEL=debug", "RAM_TOKEN=secret", "RAM_ADDR=h:1", "ZONE=north"})
	want := []string{"PATH=/bin", "RAMD_LOG_LEVEL=debug", "RAM_ADDR=h:1", "ZONE=north"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestWordsAreReadBackByAShell(t *testing.T) {
	for word, want := range map[string]string{
		"":                   "''",
		"/srv/a-b_c.hcl":     "/srv/a-b_c.hcl",
		"127.0.0.11:8080,::": "127.0.0.11:8080,::",
		"my spec.hcl":        "'my spec.hcl'",
		"it's":               `'it'\''s'`,
		"$(id)":              "'$(id)'",
	} {
		if got := shellWord(word); got != want {
			t.Errorf("shellWord(%q) = %s, want %s", word, got, want)
		}
	}
}
