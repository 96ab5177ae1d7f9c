package ctl

import (
	"context"
	"errors"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
)

// ending is how following something ended. The zero ending means that it goes on.
type ending struct {
	outcome string
	reason  string
	cause   error
}

// lookout asks a cluster about something again and again until that has come to an
// end, the operator has gone, or time is up.
type lookout[T any] struct {
	view *render.Progress
	// every is the time between two looks, timeout that until it gives up; zero never.
	every, timeout time.Duration
	ask            func(context.Context) (T, error)
	// read takes in an answer, and shows it.
	read func(now time.Time, answer T) ending
	// silent is told that no answer came; nil when that is of no account.
	silent func()
	// unknown is how long what is asked for may be unknown: a leader that was just
	// elected may not have read all of the log.
	unknown time.Duration

	missing time.Time // since when it is unknown; zero while it is known
}

func (l *lookout[T]) watch(ctx context.Context) ending {
	var late <-chan time.Time
	if l.timeout > 0 {
		timer := time.NewTimer(l.timeout)
		defer timer.Stop()
		late = timer.C
	}
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		if end := l.look(ctx); end.outcome != "" {
			return end
		}
		select {
		case <-ctx.Done():
			return ending{outcome: outcomeDetached}
		case <-late:
			return ending{outcome: outcomeTimeout, reason: "not done in time"}
		case <-tick.C:
		}
	}
}

// look asks once.
func (l *lookout[T]) look(ctx context.Context) ending {
	answer, err := l.ask(ctx)
	now := time.Now()
	switch {
	case ctx.Err() != nil:
		return ending{}
	case errors.Is(err, api.ErrUnreachable), errors.Is(err, api.ErrUnavailable):
		l.view.Lost(now, err)
		if l.silent != nil {
			l.silent()
		}
		return ending{}
	case errors.Is(err, api.ErrNotFound) && l.patient(now):
		return ending{}
	case err != nil:
		return ending{outcome: outcomeUnknown, reason: err.Error(), cause: err}
	}
	l.missing = time.Time{}
	return l.read(now, answer)
}

func (l *lookout[T]) patient(now time.Time) bool {
	if l.missing.IsZero() {
		l.missing = now
	}
	return now.Sub(l.missing) < l.unknown
}

// obstacle is what has been in the way, and since when.
type obstacle struct {
	since time.Time
	what  string
}

// lasts reports whether the same has been in the way for that long.
func (o *obstacle) lasts(now time.Time, what string, patience time.Duration) bool {
	if o.what != what {
		o.since, o.what = now, what
	}
	return now.Sub(o.since) >= patience
}

// progress is a view of something that is followed.
func (a *app) progress(title string, uncounted bool) *render.Progress {
	return render.NewProgress(a.people(), render.ProgressConfig{
		Style: a.style(), Live: a.sys.InteractiveOut && !a.json(), Size: a.sys.Size, Every: a.pace.report,
		Title: title, Uncounted: uncounted,
	})
}
