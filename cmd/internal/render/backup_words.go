package render

import (
	"fmt"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Age is a time span as one says how old something is: 42s, 5m, 3h, 12d.
func Age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// ago is how long ago a moment was, or the moment itself when no clock is at hand.
func (s Style) ago(t time.Time) string {
	if s.Now.IsZero() {
		return s.stamp(t)
	}
	return Age(s.Now.Sub(t)) + " ago"
}

// dated is a moment with its age.
func (s Style) dated(t time.Time) string {
	if t.IsZero() || s.Now.IsZero() {
		return s.stamp(t)
	}
	return fmt.Sprintf("%s (%s)", s.stamp(t), s.ago(t))
}

// upcoming is a moment that is ahead, with the time until then.
func (s Style) upcoming(t time.Time) string {
	if s.Now.IsZero() {
		return s.stamp(t)
	}
	return fmt.Sprintf("in %s (%s)", Age(t.Sub(s.Now)), s.stamp(t))
}

// Moment is a point in time for reading back what somebody asked for: in UTC, and by
// the reader's clock when that is another.
func (s Style) Moment(t time.Time) string {
	const layout = "2006-01-02 15:04:05.999999"
	text := t.UTC().Format(layout) + " UTC"
	if s.Zone == nil {
		return text
	}
	if _, offset := t.In(s.Zone).Zone(); offset == 0 {
		return text
	}
	return fmt.Sprintf("%s, which is %s by this clock", text, t.In(s.Zone).Format(layout+" MST"))
}

// Target is how far a restore goes, in words.
func (s Style) Target(t reconcile.RestoreTarget) string {
	if !t.Time.IsZero() {
		return s.Moment(t.Time)
	}
	return t.String()
}

// Transfer is how far a copy of data has come: 412 MB of 1.2 GB, 53 MB/s, 15s left.
// Rate is in bytes per second; zero when it is not known.
func Transfer(done, total pg.Bytes, rate float64) string {
	if done == 0 && total == 0 {
		return ""
	}
	text := done.Human()
	if total > 0 {
		text += " of " + total.Human()
	}
	if rate < 1 {
		return text
	}
	text += ", " + pg.Bytes(rate).Human() + "/s"
	if total > done {
		text += ", " + Elapsed(left(total-done, rate)) + " left"
	}
	return text
}

// left is how long the rest takes, in whole seconds: it is an estimate.
func left(rest pg.Bytes, rate float64) time.Duration {
	seconds := float64(rest)/rate + 1
	return time.Duration(min(seconds, float64(1000*time.Hour/time.Second))) * time.Second
}

// phaseWords are the parts of a proof and of a restore as nodes call them, in words.
var phaseWords = map[string]string{
	"fetch":      "restoring",
	"recover":    "recovering",
	"flush":      "writing all of it to disk",
	"pages":      "checking pages",
	phaseIndexes: "checking indexes",
}

// phaseIndexes counts what is done in indexes, not in bytes.
const phaseIndexes = "indexes"

// JobPhase is what a job is doing: backing up, 412 MB of 1.2 GB, 53 MB/s, 15s left.
func JobPhase(r *reconcile.JobReport, rate float64) string {
	if r == nil {
		return "not begun yet"
	}
	text := phase(r.Phase)
	if r.Phase == phaseIndexes && r.Total > 0 {
		return fmt.Sprintf("%s, %d of %d", text, int64(r.Done), int64(r.Total))
	}
	if transfer := Transfer(r.Done, r.Total, rate); transfer != "" {
		text += ", " + transfer
	}
	return text
}

// JobPhaseDone is what a job has done, with its mean rate in bytes per second; zero when
// that is not known.
func JobPhaseDone(name string, rate float64) string {
	text := phase(name)
	if name == phaseIndexes || rate < 1 {
		return text
	}
	return fmt.Sprintf("%s, at %s/s", text, pg.Bytes(rate).Human())
}

func phase(name string) string {
	text := oneLine(name)
	if words, known := phaseWords[text]; known {
		return words
	}
	if text == "" {
		return "beginning"
	}
	return text
}

// stored is how much a backup takes, beside what it holds: 412 MB (2.9 : 1).
func stored(size, kept pg.Bytes) string {
	if kept <= 0 || size <= 0 {
		return kept.Human()
	}
	return fmt.Sprintf("%s (%.1f : 1)", kept.Human(), float64(size)/float64(kept))
}

// Volume is how large a backup is: 1.2 GB, stored 412 MB (2.9 : 1).
func Volume(size, kept pg.Bytes) string {
	return size.Human() + ", stored " + stored(size, kept)
}
