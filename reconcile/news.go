package reconcile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ramhq/ram/pg"
)

// News reports whether a decision may come out otherwise after the second report
// than after the first. Positions, sizes and ages move on by themselves; what
// follows from them is looked at at intervals.
func News(a, b Report) bool {
	return a.Incarnation != b.Incarnation || a.Serial != b.Serial || a.Settled != b.Settled ||
		a.Written != b.Written || a.Loaded != b.Loaded || a.Started != b.Started || a.Launched != b.Launched ||
		a.Data != b.Data || a.Retired != b.Retired || a.Watch != b.Watch || a.SyncSince != b.SyncSince ||
		(a.Hung > 0) != (b.Hung > 0) || (a.Apart > apartLimit) != (b.Apart > apartLimit) || !slices.Equal(a.Drift, b.Drift) ||
		jobOf(a) != jobOf(b) || problemOf(a) != problemOf(b) || activityOf(a) != activityOf(b) || serverNews(a.Server, b.Server, b.SyncSince)
}

// jobOf is what of a job's progress is news.
func jobOf(r Report) string {
	if r.Job == nil {
		return ""
	}
	return fmt.Sprintf("%d %s", r.Job.ID, r.Job.State)
}

func problemOf(r Report) Problem {
	if r.Problem == nil {
		return Problem{}
	}
	return Problem{Step: r.Problem.Step, Text: r.Problem.Text, Impossible: r.Problem.Impossible}
}

func activityOf(r Report) StepKind {
	if r.Activity == nil {
		return ""
	}
	return r.Activity.Step
}

func serverNews(a, b pg.Server, since pg.LSN) bool {
	return a.State != b.State || a.PID != b.PID || a.Guarded != b.Guarded || a.Recovery != b.Recovery || a.Timeline != b.Timeline ||
		a.WALComplete != b.WALComplete || receiverOf(a) != receiverOf(b) || !maps.Equal(a.Settings, b.Settings) ||
		!slices.Equal(a.PendingRestart, b.PendingRestart) ||
		!slices.EqualFunc(a.Slots, b.Slots, func(x, y pg.Slot) bool { return x.Name == y.Name && x.WALStatus == y.WALStatus }) ||
		!slices.EqualFunc(a.Senders, b.Senders, func(x, y pg.WALSender) bool {
			return x.Application == y.Application && x.State == y.State && (x.FlushLSN < since) == (y.FlushLSN < since)
		})
}

func receiverOf(s pg.Server) pg.WALReceiver {
	if s.Receiver == nil {
		return pg.WALReceiver{}
	}
	return *s.Receiver
}
