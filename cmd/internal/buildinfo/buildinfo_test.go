package buildinfo

import "testing"

func TestDescribeLeavesOutWhatIsUnknown(t *testing.T) {
	cases := []struct{ name, version, commit, date, want string }{
		{"plain go build", "dev", "", "", "dev"},
		{"no date", "dev", "0123456789ab", "", "dev (commit 0123456789ab)"},
		{
			"stamped release", "v1.2.0", "0123456789ab", "2026-11-22T00:47:00Z",
			"v1.2.0 (commit 0123456789ab, 2026-11-22T00:47:00Z)",
		},
		{"a date says nothing without its commit", "v1.2.0", "", "2026-11-22T00:47:00Z", "v1.2.0"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := describe(c.version, c.commit, c.date); got != c.want {
				t.Errorf("describe = %q, want %q", got, c.want)
			}
		})
	}
}
