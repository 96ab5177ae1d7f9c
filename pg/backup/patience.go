package backup

import (
	"context"
	"errors"
	"time"
)

// patience is how long a store may take before it counts as not answering. Zero
// values are not used.
type patience struct {
	request time.Duration // for a request that carries little: open, list, remove, or the next bytes of a reader
	upload  time.Duration // for taking some megabytes, retries included
}

func defaultPatience() patience { return patience{request: 2 * time.Minute, upload: 5 * time.Minute} }

// errNoAnswer is why a watch cancelled its context.
var errNoAnswer = errors.New("it does not answer")

// A watch cancels a context when one thing takes too long. It is used by one
// goroutine.
type watch struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// watched returns a context for work of which each step, which is what runs between
// begin and end, may take so long. The watch's cancel must be called.
func watched(ctx context.Context, limit time.Duration) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(errNoAnswer) })
	timer.Stop()
	return ctx, &watch{cancel: cancel, timer: timer, limit: limit}
}

func (w *watch) begin() { w.timer.Reset(w.limit) }
func (w *watch) end()   { w.timer.Stop() }
