package leader

import (
	"context"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// handOver begins the planned switchover when its time has come, or drops it. It
// reports whether it did something, so that what is known is old.
func (r *round) handOver(ctx context.Context, rec *reconcile.Record, obs reconcile.Observed) (bool, error) {
	due := reconcile.DueOf(rec, obs, time.Now())
	switch {
	case due.Open != nil:
		r.cfg.Logger.Info().Uint64("term", due.Open.Term+1).Str("deposed", due.Open.Opening.Deposed).Str("reason", due.Open.Opening.Reason).Msg("opening a term")
		return r.decide(ctx, reconcile.Command{Open: due.Open}, due.Open.Assign)
	case due.Drop != nil:
		r.cfg.Logger.Warn().Str("reason", due.Drop.Dropped).Msg("the planned switchover is dropped")
		return r.decide(ctx, reconcile.Command{Planned: due.Drop}, nil)
	}
	return false, nil
}
