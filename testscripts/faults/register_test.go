package faults

import (
	"strings"
	"testing"
	"time"
)

// operations is a history in short: "w 1 0-2" writes 1 between 0 and 2 ms, "r 1 3-4"
// reads it, "? 2 3-4" is a write that was not answered. Each has a client of its own.
func operations(t *testing.T, lines ...string) []Operation {
	t.Helper()
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ms := func(text string) time.Time {
		d, err := time.ParseDuration(text + "ms")
		if err != nil {
			t.Fatal(err)
		}
		return zero.Add(d)
	}
	var history []Operation
	for i, line := range lines {
		f := strings.Fields(line)
		from, to, _ := strings.Cut(f[2], "-")
		history = append(history, Operation{i, f[0] != "r", int64(f[1][0] - '0'), ms(from), ms(to), f[0] == "?"})
	}
	return history
}

func TestCheckRegister(t *testing.T) {
	for _, c := range []struct {
		rule    string
		history []string
		want    string // part of the error; empty for none
	}{
		{"a read sees the last write", []string{"r 0 0-1", "w 1 1-2", "r 1 3-4", "w 2 4-5", "r 2 6-7"}, ""},
		{"a read during a write sees either", []string{"w 1 0-1", "w 2 2-5", "r 1 2-3", "r 2 3-4"}, ""},
		{"but never the older one again", []string{"w 1 0-1", "w 2 2-6", "r 2 2-3", "r 1 4-5"}, "not linearizable"},
		{"a stale read is found", []string{"w 1 0-1", "w 2 2-3", "r 1 4-5"}, "read of 1 at 00:00:00.005000, after 2 was written"},
		{"a lost write is found", []string{"w 1 0-1", "r 0 2-3"}, "read of 0 at 00:00:00.003000, after 1 was written"},
		{"an unanswered write may take effect", []string{"w 1 0-1", "? 2 2-3", "r 2 4-5"}, ""},
		{"late", []string{"w 1 0-1", "? 2 2-3", "r 1 4-5", "r 2 6-7"}, ""},
		{"or never", []string{"w 1 0-1", "? 2 2-3", "r 1 4-5", "w 3 5-6", "r 3 7-8"}, ""},
		{"but not be undone", []string{"w 1 0-1", "? 2 2-3", "r 2 4-5", "r 1 6-7"}, "not linearizable"},
		{"nor be read before it was asked for", []string{"r 2 0-1", "? 2 2-3"}, "not linearizable"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			checkError(t, CheckRegister(operations(t, c.history...)), c.want)
		})
	}
}
