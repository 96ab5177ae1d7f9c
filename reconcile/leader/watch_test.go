package leader

import (
	"context"
	"testing"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

type quiet struct{}

func (quiet) Heard(string) (time.Duration, pg.LSN)                          { return 0, 0 }
func (quiet) Ask(context.Context, string, reconcile.Upstream) (bool, error) { return false, nil }
func (quiet) Bar(context.Context, string, uint64) error                     { return nil }

// Otherwise a switchover whose old primary takes long to shut down would give its
// standbys no time to promise, and end with the old primary.
func TestPromisesAreWaitedForFromWhenTheOldPrimaryHasShutDown(t *testing.T) {
	w := &watch{cluster: quiet{}}
	stopping := &reconcile.Record{Term: 2, Opening: &reconcile.Opening{Deposed: "a", Stopping: true}}
	asked := &reconcile.Record{Term: 2, Opening: &reconcile.Opening{Deposed: "a"}}
	begun := time.Now()
	for _, look := range []struct {
		rec         *reconcile.Record
		after       time.Duration
		open, asked time.Duration
	}{
		{stopping, 0, 0, 0},
		{stopping, 10 * time.Second, 10 * time.Second, 0},
		{asked, 11 * time.Second, 11 * time.Second, 0},
		{asked, 13 * time.Second, 13 * time.Second, 2 * time.Second},
	} {
		if p := w.pulse(look.rec, begun.Add(look.after)); p.Open != look.open || p.Asked != look.asked {
			t.Errorf("after %s: open for %s, asked for %s; want %s and %s", look.after, p.Open, p.Asked, look.open, look.asked)
		}
	}
}
