package backup

import (
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/pg/backup/ident"
)

func TestWALName(t *testing.T) {
	for file, want := range map[string]string{
		"000000020000000A000000FE":                 "wal/00000002/000000020000000A/000000020000000A000000FE",
		"000000020000000A000000FE.partial":         "wal/00000002/000000020000000A/000000020000000A000000FE.partial",
		"000000020000000A000000FE.00000028.backup": "wal/00000002/000000020000000A/000000020000000A000000FE.00000028.backup",
		"00000002.history":                         "wal/history/00000002.history",
		"000000020000000a000000fe":                 "",
		"000000020000000A000000FE.tmp":             "",
		"../000000020000000A000000FE":              "",
		"00000002.history.tmp":                     "",
		"000000020000000A000000FE\n":               "",
		"":                                         "",
	} {
		if got, err := WALName(file); got != want || (err == nil) != (want != "") {
			t.Errorf("WALName(%q) = %q, %v; want %q", file, got, err, want)
		}
	}
}

func TestIDs(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 999, time.FixedZone("", 3600))
	for name, want := range map[string]string{
		"nightly":               "20260102T020405Z-nightly",
		"0-a-":                  "20260102T020405Z-0-a-",
		strings.Repeat("a", 41): "20260102T020405Z-" + strings.Repeat("a", 41),
		strings.Repeat("a", 42): "",
		"":                      "", "-a": "", "A": "", "a/b": "", "..": "", "a b": "", "a\n": "",
	} {
		got, err := ident.NewID(at, name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ident.NewID(%q) = %q, %v; want %q", name, got, err, want)
		}
		if want != "" && ident.ValidID(got) != nil {
			t.Errorf("ident.ValidID(%q): %v", got, ident.ValidID(got))
		}
	}
	for _, id := range []string{"", "latest", "20260102T020405Z", "20260102T020405Z-", "20261302T020405Z-a", "20260102T020405Z-a/..", "../20260102T020405Z-a", "20260102T020405Z-A"} {
		if ident.ValidID(id) == nil {
			t.Errorf("ident.ValidID(%q) accepts it", id)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	for url, want := range map[string]string{
		"":                                "not a URL",
		"/srv/backups":                    "not a URL",
		"file://srv/backups":              "three slashes",
		"file:///":                        "three slashes",
		"file:///srv/..":                  "three slashes",
		"s3:///prefix":                    "no bucket",
		"ftp://host/x":                    `reached by "ftp"`,
		"s3://user:hunter2@bucket/x":      "credentials",
		"s3://bucket?region=x&nonsense=1": "nonsense",
		"s3://bucket?region=x&use_path_style=maybe": "use_path_style",
	} {
		r, err := Open(t.Context(), Config{URL: url})
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q): %v; want it to say %q", url, err, want)
		}
	}
	if _, err := Open(t.Context(), Config{URL: "file:///srv/x", Compression: "rar"}); err == nil || !strings.Contains(err.Error(), `"zstd"`) {
		t.Errorf("an unknown compression: %v", err)
	}
}
