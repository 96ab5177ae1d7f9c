package faults

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is what a client knows of its write. The zero Outcome is Maybe.
type Outcome int

const (
	// Maybe is a write whose answer did not come, or came with a WARNING: PostgreSQL
	// says by one that a commit is not on the standbys that it was to wait for.
	Maybe Outcome = iota
	// Acknowledged is a write that must never be lost.
	Acknowledged
	// Refused is a write that must never appear.
	Refused
)

// Write is one write of a client: one transaction that inserts one number.
type Write struct {
	Number      int64
	Sent, Ended time.Time
	Outcome     Outcome
	// Reign names the server that acknowledged the write, the start of its process
	// and its timeline. A server is primary without a break between any two writes of
	// one reign, for it has to be started again to be anything else.
	Reign string
	// Reason is the error or warning of a write that is not acknowledged.
	Reason string
}

// Ledger is what one client knows of its writes, in the order of their ends, and
// when it began and ended to write.
type Ledger struct {
	// Table is where the numbers are, in a column of that name.
	Table      string
	Writes     []Write
	Begun, End time.Time
}

// Acknowledged are the numbers of acknowledged writes.
func (l *Ledger) Acknowledged() []int64 { return l.numbers(Acknowledged) }

func (l *Ledger) numbers(o Outcome) []int64 {
	var numbers []int64
	for _, w := range l.Writes {
		if w.Outcome == o {
			numbers = append(numbers, w.Number)
		}
	}
	return numbers
}

// Reigns are the servers that acknowledged writes, in the order of their first one; a
// server that was started again counts anew.
func (l *Ledger) Reigns() []string {
	var reigns []string
	for _, w := range l.Writes {
		if w.Outcome == Acknowledged && !slices.Contains(reigns, w.Reign) {
			reigns = append(reigns, w.Reign)
		}
	}
	return reigns
}

// Check compares the ledger with the numbers that a server has. The error names
// acknowledged writes that are lost, refused ones that are there, and numbers that
// nobody wrote.
func (l *Ledger) Check(present []int64) error {
	there := make(map[int64]int, len(present))
	for _, n := range present {
		there[n]++
	}
	var wrong []string
	for _, w := range l.Writes {
		times := there[w.Number]
		delete(there, w.Number)
		switch {
		case w.Outcome == Acknowledged && times == 0:
			wrong = append(wrong, fmt.Sprintf("write %d, acknowledged at %s by %s, is lost", w.Number, clock(w.Ended), w.Reign))
		case w.Outcome == Refused && times > 0:
			wrong = append(wrong, fmt.Sprintf("write %d, refused at %s (%s), is there", w.Number, clock(w.Ended), w.Reason))
		case times > 1:
			wrong = append(wrong, fmt.Sprintf("write %d is there %d times", w.Number, times))
		}
	}
	for n := range there {
		wrong = append(wrong, fmt.Sprintf("number %d is there, and nobody wrote it", n))
	}
	return complaint(l.Table, wrong)
}

// complaint is an error with the first of many faults; nil when there is none.
func complaint(of string, wrong []string) error {
	const most = 20
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%s: %d faults:\n  %s", of, len(wrong), strings.Join(wrong[:min(most, len(wrong))], "\n  "))
}

func clock(t time.Time) string { return t.Format("15:04:05.000000") }

// Outage is a time without an acknowledgement.
type Outage struct{ From, To time.Time }

// Length of the outage.
func (o Outage) Length() time.Duration { return o.To.Sub(o.From) }

// LongestOutage is the longest time between two acknowledgements that follow one
// another, or between one and the ledger's begin or end.
func (l *Ledger) LongestOutage() Outage { return l.LongestOutageSince(l.Begun) }

// LongestOutageSince is the longest outage that ended after a time.
func (l *Ledger) LongestOutageSince(begin time.Time) Outage {
	longest, last := Outage{}, l.Begun
	look := func(t time.Time) {
		if t.After(begin) && t.Sub(last) > longest.Length() {
			longest = Outage{last, t}
		}
		last = t
	}
	for _, w := range l.Writes {
		if w.Outcome == Acknowledged {
			look(w.Ended)
		}
	}
	look(l.End)
	return longest
}

// String is a ledger in one line.
func (l *Ledger) String() string {
	return fmt.Sprintf("%s: %d acknowledged, %d refused, %d maybe, longest outage %s",
		l.Table, len(l.Acknowledged()), len(l.numbers(Refused)), len(l.numbers(Maybe)),
		l.LongestOutage().Length().Round(time.Millisecond))
}

// reign is when a server has surely been accepting writes: from before first to after
// last. Each is a time between a write's being sent and acknowledged.
type reign struct {
	name        string
	first, last time.Time
}

// CheckOnePrimary looks for two servers that accepted writes at the same time, by
// what any number of clients know.
func CheckOnePrimary(ledgers ...*Ledger) error {
	var writes []Write
	for _, l := range ledgers {
		for _, w := range l.Writes {
			if w.Outcome == Acknowledged && w.Reign != "" {
				writes = append(writes, w)
			}
		}
	}
	var wrong []string
	reigns := reignsOf(writes)
	for i, r := range reigns {
		for _, other := range reigns[:i] {
			if other.last.After(r.first) && r.last.After(other.first) {
				wrong = append(wrong, fmt.Sprintf("%s accepted writes from %s to %s, and %s from %s to %s",
					other.name, clock(other.first), clock(other.last), r.name, clock(r.first), clock(r.last)))
			}
		}
		for _, w := range writes {
			if w.Reign != r.name && w.Sent.After(r.first) && w.Ended.Before(r.last) {
				wrong = append(wrong, fmt.Sprintf("%s accepted writes from %s to %s, and %s accepted one at %s",
					r.name, clock(r.first), clock(r.last), w.Reign, clock(w.Ended)))
			}
		}
	}
	return complaint("two primaries at once", wrong)
}

// reignsOf are the reigns that writes prove, the earliest first.
func reignsOf(writes []Write) []reign {
	found := map[string]reign{}
	for _, w := range writes {
		r, known := found[w.Reign]
		if !known {
			r = reign{w.Reign, w.Ended, w.Sent}
		}
		if w.Ended.Before(r.first) {
			r.first = w.Ended
		}
		if w.Sent.After(r.last) {
			r.last = w.Sent
		}
		found[w.Reign] = r
	}
	var reigns []reign
	for _, r := range found {
		reigns = append(reigns, r)
	}
	slices.SortFunc(reigns, func(a, b reign) int {
		return cmp.Or(a.first.Compare(b.first), cmp.Compare(a.name, b.name))
	})
	return reigns
}
