package render

import "time"

// Style says how text may look. The zero Style is plain.
type Style struct {
	// Color adds ANSI escapes for a terminal.
	Color bool
	// Zone is where the reader's clock hangs; nil is UTC.
	Zone *time.Location
	// Now is what it shows, for telling how old things are; moments stand for
	// themselves when it is zero.
	Now time.Time
}

type ink string

const (
	bold   ink = "\x1b[1m"
	faint  ink = "\x1b[2m"
	red    ink = "\x1b[31m"
	green  ink = "\x1b[32m"
	yellow ink = "\x1b[33m"
	cyan   ink = "\x1b[36m"
	reset      = "\x1b[0m"
)

func (s Style) paint(i ink, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return string(i) + text + reset
}

// Bold is for what heads a text.
func (s Style) Bold(text string) string { return s.paint(bold, text) }

// Faint is for what may be overlooked.
func (s Style) Faint(text string) string { return s.paint(faint, text) }

// Good is for what is as it should be, or is added.
func (s Style) Good(text string) string { return s.paint(green, text) }

// Notice is for what changes, and for warnings.
func (s Style) Notice(text string) string { return s.paint(yellow, text) }

// Bad is for what is lost, wrong or in the way.
func (s Style) Bad(text string) string { return s.paint(red, text) }
