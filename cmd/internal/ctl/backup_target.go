package ctl

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// targetFlags say how far a restore goes.
type targetFlags struct {
	time, lsn, point string
	end              bool
}

func (f *targetFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.time, "to-time", "", "restore to this `TIME`, RFC 3339 or \"2006-01-02 15:04:05\" by this machine's clock")
	cmd.Flags().StringVar(&f.lsn, "to-lsn", "", "restore to this `LSN`, such as 0/5000060")
	cmd.Flags().StringVar(&f.point, "to-point", "", "restore to the restore point with this `NAME`")
	cmd.Flags().BoolVar(&f.end, "to-backup-end", false, "restore the backup itself and no WAL that follows it")
}

func (f *targetFlags) any() bool { return f.time != "" || f.lsn != "" || f.point != "" || f.end }

// target reads the flags. None is the end of all WAL in the archive.
func (f *targetFlags) target(zone *time.Location) (reconcile.RestoreTarget, error) {
	var t reconcile.RestoreTarget
	var given []string
	for _, flag := range []struct {
		name string
		set  bool
	}{{"--to-time", f.time != ""}, {"--to-lsn", f.lsn != ""}, {"--to-point", f.point != ""}, {"--to-backup-end", f.end}} {
		if flag.set {
			given = append(given, flag.name)
		}
	}
	if len(given) > 1 {
		return t, usagef("%s: there is one point to restore to, so give one of them", strings.Join(given, " and "))
	}
	var err error
	if f.time != "" {
		if t.Time, err = parseMoment(f.time, zone); err != nil {
			return t, err
		}
	}
	if f.lsn != "" {
		if t.LSN, err = pg.ParseLSN(f.lsn); err != nil || t.LSN == 0 {
			return t, usagef("--to-lsn %q is not of the form 0/16B3748", f.lsn)
		}
	}
	if len(f.point) > maxPointName {
		return t, usagef("--to-point: the name of a restore point has %d bytes at most", maxPointName)
	}
	t.Point, t.Immediate = f.point, f.end
	return t, nil
}

// maxPointName is PostgreSQL's limit (MAXFNAMELEN, with the byte that ends it).
const maxPointName = 63

// localLayouts are how people write a time by their own clock. Fractions of a second
// may follow the seconds.
var localLayouts = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04"}

// parseMoment reads a time, in zone when it does not say its own. A time that a clock
// showed twice, or never, when it was put forward or back is not guessed at.
func parseMoment(text string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	if t, err := time.Parse("2006-01-02 15:04:05Z07:00", text); err == nil {
		return t.UTC(), nil
	}
	if zone == nil {
		zone = time.UTC
	}
	for _, layout := range localLayouts {
		t, err := time.ParseInLocation(layout, text, zone)
		if err != nil {
			continue
		}
		switch wall := t.Format(layout); {
		case !strings.HasPrefix(text, wall):
			return t, usagef("--to-time %q: clocks in %s were put forward then and never showed it; write it with its offset, as in %s", text, zone, t.Format(time.RFC3339))
		case t.Add(time.Hour).Format(layout) == wall, t.Add(-time.Hour).Format(layout) == wall:
			return t, usagef("--to-time %q: clocks in %s were put back then and showed it twice; write it with its offset, as in %s", text, zone, t.Format(time.RFC3339))
		}
		return t.UTC(), nil
	}
	return time.Time{}, usagef(`--to-time %q is not a time: write "2006-01-02 15:04:05" by this machine's clock, or 2006-01-02T15:04:05Z`, text)
}
