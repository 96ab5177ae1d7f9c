package pg

import (
	"fmt"
	"testing"
)

func TestVersionIsReadFromWhatProgramsPrint(t *testing.T) {
	const wrong = " is not what a PostgreSQL program prints with --version; check bin_dir"
	for text, want := range map[string]string{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": "15 18 15.18",
		"pg_ctl (PostgreSQL) 18.4":                               "18 4 18.4",
		"postgres (PostgreSQL) 19devel":                          "19 0 19devel",
		"postgres (PostgreSQL) 18beta2 (Ubuntu 18~beta2)":        "18 0 18beta2",
		"postgres (PostgreSQL) 17rc1":                            "17 0 17rc1",
		"postgres (PostgreSQL) 9.6.24":                           "9 6 9.6.24",
		"postgres (EnterpriseDB) 15.4.0":                         "15 4 15.4.0",
		"":                                                       `""` + wrong,
		"postgres: command not found":                            `"postgres: command not found"` + wrong,
		"postgres (PostgreSQL) fifteen":                          `"postgres (PostgreSQL) fifteen"` + wrong,
		"postgres (PostgreSQL) 15.18x":                           `"postgres (PostgreSQL) 15.18x"` + wrong,
	} {
		v, err := ParseVersion(text)
		got := fmt.Sprintf("%d %d %s", v.Major, v.Minor, v)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	if got := (Version{}).String(); got != "unknown" {
		t.Errorf("the zero version prints as %q", got)
	}
}

func FuzzParseVersionTakesAnyText(f *testing.F) {
	f.Add("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)")
	f.Add("postgres (PostgreSQL) 19devel")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseVersion(text)
		if err != nil {
			return
		}
		if again, err := ParseVersion("postgres (PostgreSQL) " + v.String()); err != nil || again != v {
			t.Fatalf("%q gave %+v, then %+v (%v)", text, v, again, err)
		}
	})
}
