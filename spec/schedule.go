package spec

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Schedule is a cron line of five fields (minute, hour, day of month, month, day
// of week) in a time zone. It is immutable and safe for concurrent use.
//
// Fields are `*`, numbers, names of months and weekdays, ranges, steps and lists
// of them; 7 is Sunday as well as 0. When both days are restricted a day
// that matches either is meant, as in every cron since Vixie's.
//
// Where clocks change, the rules of cron(8) on Debian hold: a time that is
// skipped fires at the moment of the change, a time that comes twice fires
// the first time only, and a line for every hour follows real time.
type Schedule struct {
	minutes, hours, days, months, weekdays uint64
	// eitherDay is set when day of month and day of week are both restricted.
	eitherDay bool
	location  *time.Location
}

type cronField struct {
	name     string
	min, max int
	names    []string // of min, min+1, ...
}

func cronFields() [5]cronField {
	return [5]cronField{
		{name: "minute", min: 0, max: 59},
		{name: "hour", min: 0, max: 23},
		{name: "day of month", min: 1, max: 31},
		{name: "month", min: 1, max: 12, names: strings.Fields("jan feb mar apr may jun jul aug sep oct nov dec")},
		{name: "day of week", min: 0, max: 7, names: strings.Fields("sun mon tue wed thu fri sat")},
	}
}

const everyHour = 1<<24 - 1

// ParseSchedule reads a cron line. A line that can never fire, such as one for
// 31 February, is an error. A nil location is UTC.
func ParseSchedule(line string, location *time.Location) (*Schedule, error) {
	words := strings.Fields(line)
	if len(words) != 5 {
		return nil, fmt.Errorf("cron line %q has not five fields", line)
	}
	var sets [5]uint64
	for i, field := range cronFields() {
		set, err := field.parse(words[i])
		if err != nil {
			return nil, fmt.Errorf("cron line %q: %w", line, err)
		}
		sets[i] = set
	}
	if location == nil {
		location = time.UTC
	}
	s := &Schedule{
		minutes: sets[0], hours: sets[1], days: sets[2], months: sets[3],
		weekdays:  sets[4]&0x7f | sets[4]>>7, // 7 is Sunday
		eitherDay: !strings.HasPrefix(words[2], "*") && !strings.HasPrefix(words[4], "*"),
		location:  location,
	}
	if !s.eitherDay && !s.hasDate() {
		return nil, fmt.Errorf("cron line %q never fires: no such day in any of its months", line)
	}
	return s, nil
}

func (f cronField) parse(text string) (uint64, error) {
	var set uint64
	for part := range strings.SplitSeq(text, ",") {
		one, err := f.parsePart(part)
		if err != nil {
			return 0, err
		}
		set |= one
	}
	return set, nil
}

func (f cronField) parsePart(part string) (uint64, error) {
	span, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		n, err := strconv.Atoi(stepText)
		if err != nil || n < 1 {
			return 0, fmt.Errorf("%s %q: the step after / must be a positive number", f.name, part)
		}
		step = n
	}
	low, high, err := f.parseSpan(span, stepped)
	if err != nil {
		return 0, err
	}
	var set uint64
	for v := low; v <= high; v += step {
		set |= 1 << v
	}
	return set, nil
}

func (f cronField) parseSpan(span string, stepped bool) (low, high int, err error) {
	if span == "*" {
		if f.max == 7 {
			return 0, 6, nil
		}
		return f.min, f.max, nil
	}
	from, to, isRange := strings.Cut(span, "-")
	low, err = f.value(from)
	switch {
	case err != nil:
		return 0, 0, err
	case isRange:
		high, err = f.value(to)
	case stepped:
		high = f.max
	default:
		high = low
	}
	if err == nil && high < low {
		err = fmt.Errorf("%s range %q runs backwards", f.name, span)
	}
	return low, high, err
}

func (f cronField) value(text string) (int, error) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.min + i, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q is neither a number nor *", f.name, text)
	}
	if n < f.min || n > f.max {
		return 0, fmt.Errorf("%s %d is not between %d and %d", f.name, n, f.min, f.max)
	}
	return n, nil
}

func (s *Schedule) hasDate() bool {
	longest := [13]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	first := bits.TrailingZeros64(s.days)
	for month := 1; month <= 12; month++ {
		if s.months&(1<<month) != 0 && first <= longest[month] {
			return true
		}
	}
	return false
}

// Next is the first time after t at which the schedule fires, in its location.
func (s *Schedule) Next(t time.Time) time.Time {
	local := t.In(s.location)
	// The day before is looked at too: where midnight is skipped, its last
	// hour fires on the next day's clock.
	year, month, day := local.AddDate(0, 0, -1).Date()
	// 29 February on a given weekday comes back within 40 years.
	for offset := range 40 * 366 {
		date := time.Date(year, month, day+offset, 12, 0, 0, 0, time.UTC)
		if !s.matchesDay(date) {
			continue
		}
		if next := s.firstOn(date, t); !next.IsZero() {
			return next
		}
	}
	panic("spec: a schedule that parsed fires within 40 years")
}

func (s *Schedule) matchesDay(date time.Time) bool {
	if s.months&(1<<date.Month()) == 0 {
		return false
	}
	day := s.days&(1<<date.Day()) != 0
	weekday := s.weekdays&(1<<date.Weekday()) != 0
	if s.eitherDay {
		return day || weekday
	}
	return day && weekday
}

// firstOn is the earliest firing later than t among those of one calendar day,
// or the zero time.
func (s *Schedule) firstOn(date, t time.Time) time.Time {
	var first time.Time
	for hour := range 24 {
		if s.hours&(1<<hour) == 0 {
			continue
		}
		for minute := range 60 {
			if s.minutes&(1<<minute) == 0 {
				continue
			}
			for _, at := range s.instants(date, hour, minute) {
				if at.After(t) && (first.IsZero() || at.Before(first)) {
					first = at
				}
			}
		}
	}
	return first
}

// instants are the moments at which a wall clock that shows hour and minute on
// a date fires: none or one, or both of an hour that comes twice.
func (s *Schedule) instants(date time.Time, hour, minute int) []time.Time {
	year, month, day := date.Date()
	wall := time.Date(year, month, day, hour, minute, 0, 0, time.UTC)
	// The offsets in force on either side of any change near this wall time.
	before := s.at(wall, offsetAt(wall.Add(-24*time.Hour), s.location))
	after := s.at(wall, offsetAt(wall.Add(24*time.Hour), s.location))
	shows := func(at time.Time) bool {
		return at.Hour() == hour && at.Minute() == minute && at.Day() == day
	}
	switch {
	case shows(before) && shows(after) && !before.Equal(after) && s.hours == everyHour:
		return []time.Time{before, after}
	case shows(before):
		return []time.Time{before}
	case shows(after):
		return []time.Time{after}
	case s.hours == everyHour:
		return nil // real time goes on: the hours around the gap are there
	default:
		return []time.Time{changeBetween(after, before)}
	}
}

func (s *Schedule) at(wall time.Time, offset int) time.Time {
	return wall.Add(-time.Duration(offset) * time.Second).In(s.location)
}

func offsetAt(t time.Time, location *time.Location) int {
	_, offset := t.In(location).Zone()
	return offset
}

// changeBetween is the moment within (from, to] at which the clocks changed.
func changeBetween(from, to time.Time) time.Time {
	_, old := from.Zone()
	for to.Sub(from) > time.Second {
		middle := from.Add(to.Sub(from) / 2).Truncate(time.Second)
		if _, offset := middle.Zone(); offset == old {
			from = middle
		} else {
			to = middle
		}
	}
	return to
}

// LoadTimezone finds a zone of the IANA database by name, such as UTC or
// Europe/Stockholm. "Local" is refused: it differs between hosts.
func LoadTimezone(name string) (*time.Location, error) {
	if name == "" || strings.EqualFold(name, "local") {
		return nil, errors.New("a time zone is a name of the IANA database, such as \"UTC\" or \"Europe/Stockholm\"")
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("unknown time zone %q; use a name of the IANA database, such as \"UTC\" or \"Europe/Stockholm\"", name)
	}
	return location, nil
}
