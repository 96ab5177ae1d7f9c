package render

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Elapsed is a duration as it is shown beside what goes on: 0.4s, 8s, 2m05s, 1h02m.
func Elapsed(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// count says how many, with the plural made right: 1 clone, 2 clones.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

var bareValue = regexp.MustCompile(`^(-?[0-9]+(\.[0-9]+)?|true|false|on|off|\(sensitive\))$`)

// value is an attribute's value as a spec would have it.
func value(v string) string {
	if bareValue.MatchString(v) {
		return v
	}
	return strconv.Quote(v)
}

// stamp is a moment by the reader's clock.
func (s Style) stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	zone := s.Zone
	if zone == nil {
		zone = time.UTC
	}
	return t.In(zone).Format("2006-01-02 15:04:05")
}

// oneLine keeps text that others wrote on one line and free of escapes, so
// that it cannot redraw the terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0:
			return -1
		}
		return r
	}, strings.TrimSpace(text))
}
