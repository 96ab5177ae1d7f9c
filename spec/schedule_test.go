package spec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/spec"
)

// Times are written as "2026-03-08 01:30 EST", and expectations are the next firings
// after "from", one after the other.
func TestScheduleFires(t *testing.T) {
	for _, tt := range []struct{ rule, zone, line, from, want string }{
		{"every day at an hour", "UTC", "0 2 * * *", "2026-11-20 02:00 UTC", "11-21 02:00 UTC, 11-22 02:00 UTC"},
		{"strictly after", "UTC", "30 4 * * *", "2026-11-20 04:29 UTC", "11-20 04:30 UTC, 11-21 04:30 UTC"},
		{"steps and lists", "UTC", "*/20,7 0 * * *", "2026-11-20 00:00 UTC", "11-20 00:07 UTC, 11-20 00:20 UTC, 11-20 00:40 UTC, 11-21 00:00 UTC"},
		{"a step from a number goes to the end", "UTC", "50/5 3 * * *", "2026-11-20 00:00 UTC", "11-20 03:50 UTC, 11-20 03:55 UTC, 11-21 03:50 UTC"},
		{"names of months and weekdays", "UTC", "0 0 * Feb Mon-tue", "2026-01-01 00:00 UTC", "02-02 00:00 UTC, 02-03 00:00 UTC, 02-09 00:00 UTC"},
		{"7 is Sunday too", "UTC", "0 5 * * 7", "2026-11-20 00:00 UTC", "11-22 05:00 UTC, 11-29 05:00 UTC"},
		{"a range may end in 7", "UTC", "0 5 * * 6-7", "2026-11-20 00:00 UTC", "11-21 05:00 UTC, 11-22 05:00 UTC, 11-28 05:00 UTC"},
		{"day of month or day of week", "UTC", "0 0 13 * fri", "2026-11-10 00:00 UTC", "11-13 00:00 UTC, 11-20 00:00 UTC, 11-27 00:00 UTC, 12-04 00:00 UTC, 12-11 00:00 UTC, 12-13 00:00 UTC"},
		{"a stepped star restricts both", "UTC", "0 0 */10 * mon", "2026-01-01 00:00 UTC", "05-11 00:00 UTC, 06-01 00:00 UTC"},
		{"29 February waits for its year", "UTC", "0 0 29 2 *", "2026-01-01 00:00 UTC", "02-29 00:00 UTC, 02-29 00:00 UTC"},
		{"31 skips short months", "UTC", "0 0 31 * *", "2026-01-31 00:00 UTC", "03-31 00:00 UTC, 05-31 00:00 UTC"},

		{"a skipped time fires at the change", "America/New_York", "30 2 * * *", "2026-03-07 12:00 EST", "03-08 03:00 EDT, 03-09 02:30 EDT"},
		{"all skipped times fire once", "America/New_York", "*/15 2 * * *", "2026-03-08 01:00 EST", "03-08 03:00 EDT, 03-09 02:00 EDT"},
		{"a time that comes twice fires first", "America/New_York", "30 1 * * *", "2026-10-31 12:00 EDT", "11-01 01:30 EDT, 11-02 01:30 EST"},
		{"every hour follows real time into the gap", "America/New_York", "0 * * * *", "2026-03-08 00:30 EST", "03-08 01:00 EST, 03-08 03:00 EDT, 03-08 04:00 EDT"},
		{"every hour follows real time through the repeat", "America/New_York", "30 * * * *", "2026-11-01 00:00 EDT", "11-01 00:30 EDT, 11-01 01:30 EDT, 11-01 01:30 EST, 11-01 02:30 EST"},
		{"midnight that is skipped", "America/Santiago", "0 0 * * *", "2026-09-05 12:00 -04", "09-06 01:00 -03, 09-07 00:00 -03"},
		{"a zone of half an hour's change", "Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00 +1030", "10-04 02:30 +11, 10-05 02:15 +11"},
		{"a day that is skipped", "Pacific/Apia", "0 12 30 12 *", "2011-12-01 00:00 -10", "12-31 00:00 +14, 12-30 12:00 +14"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			location, err := spec.LoadTimezone(tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			s, err := spec.ParseSchedule(tt.line, location)
			if err != nil {
				t.Fatal(err)
			}
			at := readTime(t, tt.from, location)
			var got []string
			for range strings.Split(tt.want, ", ") {
				at = s.Next(at)
				got = append(got, at.Format("01-02 15:04 MST"))
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, ", ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func readTime(t *testing.T, text string, location *time.Location) time.Time {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04 MST", text, location)
	if err != nil {
		at, err = time.ParseInLocation("2006-01-02 15:04 -07", text, location)
	}
	if err != nil {
		at, err = time.ParseInLocation("2006-01-02 15:04 -0700", text, location)
	}
	if err != nil {
		t.Fatal(err)
	}
	return at.In(location)
}

// Over a year around changes of the clock, a daily line fires once on each day
// and never goes back.
func TestDailyScheduleFiresOnceADay(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Stockholm", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca"} {
		for _, line := range []string{"0 0 * * *", "30 1 * * *", "15 2 * * *", "59 23 * * *"} {
			location, err := spec.LoadTimezone(zone)
			if err != nil {
				t.Fatal(err)
			}
			s, err := spec.ParseSchedule(line, location)
			if err != nil {
				t.Fatal(err)
			}
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, location)
			fired := map[string]int{}
			for {
				next := s.Next(at)
				if !next.After(at) {
					t.Fatalf("%s in %s: %s is not after %s", line, zone, next, at)
				}
				if at = next; at.Year() > 2026 {
					break
				}
				fired[at.Format(time.DateOnly)]++
			}
			for day := time.Date(2026, 1, 2, 12, 0, 0, 0, location); day.Year() == 2026; day = day.AddDate(0, 0, 1) {
				if n := fired[day.Format(time.DateOnly)]; n != 1 {
					t.Errorf("%s in %s fires %d times on %s", line, zone, n, day.Format(time.DateOnly))
				}
			}
		}
	}
}

func TestScheduleRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":                  "not five fields",
		"0 2 * * * *":       "not five fields",
		"@daily":            "not five fields",
		"TZ=UTC 2 * * *":    "neither a number",
		"60 * * * *":        "minute 60",
		"* 24 * * *":        "hour 24",
		"* * 0 * *":         "day of month 0",
		"* * * 13 *":        "month 13",
		"* * * * 8":         "day of week 8",
		"-1 * * * *":        "minute",
		"*/0 * * * *":       "step",
		"*/x * * * *":       "step",
		"5-2 * * * *":       "backwards",
		"1,,2 * * * *":      "neither a number",
		"* * L * *":         "neither a number",
		"0 0 31 2 *":        "never fires",
		"0 0 30 2 *":        "never fires",
		"0 0 31 4,6,9,11 *": "never fires",
		"0 0 31 */12 *":     "", // January, which has one
	} {
		_, err := spec.ParseSchedule(line, nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q is refused: %v", line, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, want an error with %q", line, err, want)
		}
	}
}

func TestTimezones(t *testing.T) {
	for _, name := range []string{"", "Local", "local", "Mars/Olympus", "../etc/passwd"} {
		if _, err := spec.LoadTimezone(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	for _, line := range []string{"0 2 * * *", "*/15 1-5,7 29 2 mon", "0 0 31 2 *", "5/7 * * jan-dec/3 7"} {
		f.Add(line, int64(1_800_000_000))
	}
	f.Fuzz(func(t *testing.T, line string, from int64) {
		location, err := spec.LoadTimezone("America/Santiago")
		if err != nil {
			t.Fatal(err)
		}
		s, err := spec.ParseSchedule(line, location)
		if err != nil {
			return
		}
		at := time.Unix(from%4_000_000_000, 0)
		if next := s.Next(at); !next.After(at) {
			t.Fatalf("%q after %s fires at %s", line, at, next)
		}
	})
}
