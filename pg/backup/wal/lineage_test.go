package wal

import "testing"

func TestLineageStrays(t *testing.T) {
	// Timeline 4 left 1 in the middle of segment 3, and 2 at the end of segment 5.
	l, known, err := NewLineage(4, "1\t0/3800000\tno recovery target specified\n2\t0/6000000\tbefore 2026-11-22\n")
	if err != nil || !known {
		t.Fatal(known, err)
	}
	const size = 16 << 20
	for file, want := range map[string]bool{
		"000000010000000000000002":         false, // before it was left
		"000000010000000000000003":         true,  // it was left in there
		"000000010000000000000004":         true,
		"000000020000000000000005":         false, // all of it
		"000000020000000000000006":         true,
		"000000030000000000000002":         true,  // it was never on 3
		"000000040000000000000009":         false, // its own
		"000000050000000000000009":         false, // nothing is known of what follows
		"00000002.history":                 false,
		"000000010000000000000004.partial": false,
	} {
		if got := l.Strays(file, size); got != want {
			t.Errorf("%s strays: %t, want %t", file, got, want)
		}
	}
	if _, known, err := NewLineage(4, "# reserved\n"); known || err != nil {
		t.Errorf("a history that only reserves its number: known %t, %v", known, err)
	}
}
