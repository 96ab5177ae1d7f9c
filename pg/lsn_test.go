package pg

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLSNsHavePostgreSQLsForm(t *testing.T) {
	for text, want := range map[string]LSN{
		"":                  0,
		"0/0":               0,
		"0/16B3748":         0x16B3748,
		"16/B374D848":       0x16B374D848,
		"16/b374d848":       0x16B374D848,
		"FFFFFFFF/FFFFFFFF": 1<<64 - 1,
	} {
		if got, err := ParseLSN(text); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"16", "/", "0/", "/0", "x/0", "0/x", "-1/0", "0/100000000", "0/0/0", " 0/0"} {
		if got, err := ParseLSN(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}

func TestBehindIsNeverNegative(t *testing.T) {
	for _, c := range []struct {
		own, other LSN
		want       Bytes
	}{{5, 5, 0}, {4, 5, 1}, {6, 5, 0}, {0, 1 << 40, 1 << 40}} {
		if got := c.own.Behind(c.other); got != c.want {
			t.Errorf("%s is %d behind %s, want %d", c.own, got, c.other, c.want)
		}
	}
}

func TestValuesSurviveJSON(t *testing.T) {
	type values struct {
		LSN    LSN      `json:"lsn"`
		System SystemID `json:"system"`
		Size   Bytes    `json:"size"`
	}
	for want, v := range map[string]values{
		`{"lsn":"16/B374D848","system":"7710791588047540883","size":"16MB"}`: {0x16B374D848, 7710791588047540883, 16 * MB},
		`{"lsn":"","system":"","size":"0B"}`:                                 {},
	} {
		text, err := json.Marshal(v)
		if err != nil || string(text) != want {
			t.Errorf("got %s (%v), want %s", text, err, want)
		}
		var back values
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(v, back); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSystemIdentifiersAreDecimal(t *testing.T) {
	for _, text := range []string{"x", "-1", "0x10", "18446744073709551616"} {
		if id, err := ParseSystemID(text); err == nil {
			t.Errorf("%q was read as %s", text, id)
		}
	}
}

func TestSizesAreWrittenAsPostgreSQLWritesThem(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "16MB": 16 * MB, " 1 kB ": KB, "5B": 5, "100": 100, "8388607TB": 8388607 * TB,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"16mb":      `size "16mb" is not a whole number with a unit of B, kB, MB, GB or TB`,
		"1.5GB":     `size "1.5GB" is not a whole number with a unit of B, kB, MB, GB or TB`,
		"":          `size "" is not a whole number with a unit of B, kB, MB, GB or TB`,
		"-1MB":      `size "-1MB" is negative`,
		"8388608TB": `size "8388608TB" is too large`,
	} {
		if got, err := ParseBytes(text); err == nil || err.Error() != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for size, want := range map[Bytes]string{0: "0B", 1: "1B", KB: "1kB", 1536 * KB: "1536kB", 16 * MB: "16MB", 3 * TB: "3TB"} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %s, want %s", size, got, want)
		}
	}
	for size, want := range map[Bytes]string{0: "0 B", 1023: "1023 B", 1288490189: "1.2 GB", 412 * MB: "412 MB", KB: "1.0 kB"} {
		if got := size.Human(); got != want {
			t.Errorf("%d: got %s, want %s", size, got, want)
		}
	}
}

func FuzzLSNTextIsReadAgain(f *testing.F) {
	f.Add("16/B374D848")
	f.Fuzz(func(t *testing.T, text string) {
		lsn, err := ParseLSN(text)
		if err != nil {
			return
		}
		if again, err := ParseLSN(lsn.String()); err != nil || again != lsn {
			t.Fatalf("%q became %s, then %s (%v)", text, lsn, again, err)
		}
	})
}

func FuzzSizeTextIsReadAgain(f *testing.F) {
	f.Add("1536kB")
	f.Fuzz(func(t *testing.T, text string) {
		size, err := ParseBytes(text)
		if err != nil {
			return
		}
		if again, err := ParseBytes(size.String()); err != nil || again != size {
			t.Fatalf("%q became %s, then %s (%v)", text, size, again, err)
		}
	})
}
