package faults

import (
	"strings"
	"testing"
	"time"
)

// script is a ledger in short: "ack 1 a 10-12" is number 1, acknowledged by reign a,
// sent at 10 ms and answered at 12 ms; "maybe" and "no" have no reign.
func script(t *testing.T, lines ...string) *Ledger {
	t.Helper()
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ms := func(text string) time.Time {
		d, err := time.ParseDuration(text + "ms")
		if err != nil {
			t.Fatal(err)
		}
		return zero.Add(d)
	}
	l := &Ledger{Table: "ledger", Begun: zero}
	for _, line := range lines {
		f := strings.Fields(line)
		from, to, _ := strings.Cut(f[len(f)-1], "-")
		w := Write{Number: int64(f[1][0] - '0'), Sent: ms(from), Ended: ms(to)}
		switch f[0] {
		case "ack":
			w.Outcome, w.Reign = Acknowledged, f[2]
		case "no":
			w.Outcome, w.Reason = Refused, "read-only"
		}
		l.Writes = append(l.Writes, w)
		l.End = w.Ended
	}
	return l
}

func TestLedgerCheck(t *testing.T) {
	for _, c := range []struct {
		rule    string
		ledger  []string
		present []int64
		want    string // part of the error; empty for none
	}{
		{"what is acknowledged is there", []string{"ack 1 a 0-1", "ack 2 a 1-2"}, []int64{2, 1}, ""},
		{"a lost write is found", []string{"ack 1 a 0-1", "ack 2 a 1-2"}, []int64{1}, "write 2, acknowledged at 00:00:00.002000 by a, is lost"},
		{"also when it is the only one", []string{"ack 1 a 0-1"}, nil, "write 1, acknowledged at 00:00:00.001000 by a, is lost"},
		{"an unknown one may be there", []string{"maybe 1 0-1"}, []int64{1}, ""},
		{"or not", []string{"maybe 1 0-1"}, nil, ""},
		{"a refused one is not", []string{"no 1 0-1"}, nil, ""},
		{"a refused one that is there is found", []string{"no 1 0-1"}, []int64{1}, "write 1, refused at 00:00:00.001000 (read-only), is there"},
		{"no number is there twice", []string{"ack 1 a 0-1"}, []int64{1, 1}, "write 1 is there 2 times"},
		{"nor is one that nobody wrote", []string{"ack 1 a 0-1"}, []int64{1, 7}, "number 7 is there, and nobody wrote it"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			checkError(t, script(t, c.ledger...).Check(c.present), c.want)
		})
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil && want != "":
		t.Errorf("no error, want %q", want)
	case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestLedgerLongestOutage(t *testing.T) {
	for _, c := range []struct {
		rule   string
		ledger []string
		want   time.Duration
	}{
		{"between two acknowledgements", []string{"ack 1 a 0-1", "ack 2 a 1-9", "ack 3 a 9-10"}, 8 * time.Millisecond},
		{"other outcomes do not end it", []string{"ack 1 a 0-1", "maybe 2 1-5", "no 3 5-6", "ack 4 b 6-9"}, 8 * time.Millisecond},
		{"before the first", []string{"no 1 0-7", "ack 2 a 7-8", "ack 3 a 8-9"}, 8 * time.Millisecond},
		{"after the last", []string{"ack 1 a 0-1", "maybe 2 1-9"}, 8 * time.Millisecond},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := script(t, c.ledger...).LongestOutage().Length(); got != c.want {
				t.Errorf("longest outage %s, want %s", got, c.want)
			}
		})
	}
}

func TestLedgerLongestOutageSince(t *testing.T) {
	l := script(t, "ack 1 a 0-1", "ack 2 a 1-9", "ack 3 a 9-10", "ack 4 a 10-15")
	for after, want := range map[int]int{0: 8, 8: 8, 9: 5, 14: 5} {
		got := l.LongestOutageSince(l.Begun.Add(time.Duration(after) * time.Millisecond)).Length()
		if got != time.Duration(want)*time.Millisecond {
			t.Errorf("the longest outage that ended after %d ms is %s, want %d ms", after, got, want)
		}
	}
}

func TestCheckOnePrimary(t *testing.T) {
	for _, c := range []struct {
		rule  string
		one   []string
		other []string
		want  string
	}{
		{"one reign after the other", []string{"ack 1 a 0-1", "ack 2 a 1-2", "ack 3 b 5-6"}, []string{"ack 1 b 4-5", "ack 2 b 7-8"}, ""},
		{
			"two reigns that overlap",
			[]string{"ack 1 a 0-1", "ack 2 a 7-8"},
			[]string{"ack 1 b 4-5", "ack 2 b 9-10"},
			"a accepted writes from 00:00:00.001000 to 00:00:00.007000, and b from 00:00:00.005000 to 00:00:00.009000",
		},
		{"a single write in another's reign", []string{"ack 1 a 0-1", "ack 2 a 7-8"}, []string{"ack 1 b 4-5"}, "b accepted one at 00:00:00.005000"},
		{"a write that may have been before", []string{"ack 1 a 2-3", "ack 2 a 7-8"}, []string{"ack 1 b 1-5"}, ""},
		{"a write that may have been after", []string{"ack 1 a 0-1", "ack 2 a 5-8"}, []string{"ack 1 b 4-9"}, ""},
		{"a primary that comes back has another reign", []string{"ack 1 a 0-1", "ack 2 a 2-3", "ack 3 A 7-8"}, []string{"ack 1 b 4-5"}, ""},
		{"writes that are not acknowledged prove nothing", []string{"ack 1 a 0-1", "ack 2 a 7-8"}, []string{"maybe 1 4-5", "no 2 5-6"}, ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			checkError(t, CheckOnePrimary(script(t, c.one...), script(t, c.other...)), c.want)
		})
	}
}
