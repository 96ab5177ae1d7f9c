package agent

import (
	"context"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// reporting tells the leader how things are, at once when something changed. It
// begins when there is something to tell.
func (a *Agent) reporting(ctx context.Context) error {
	if a.cfg.Host != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-a.first:
		}
	}
	ticker := time.NewTicker(a.cfg.Interval)
	defer ticker.Stop()
	for {
		answer, err := a.send(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			a.cfg.Logger.Debug().Err(err).Msg("no leader took the report")
			if !pause(ctx, retryReport) {
				return nil
			}
		default:
			a.accept(answer)
			a.employ(ctx, answer.Job)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.report:
		case <-ticker.C:
		}
	}
}

// retryReport is the least time between two reports when no leader takes them.
const retryReport = 200 * time.Millisecond

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (a *Agent) send(ctx context.Context) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, max(2*time.Second, a.cfg.Interval))
	defer cancel()
	return a.cfg.Upward.Report(ctx, a.Last())
}

// Last is the report as it would be sent now.
func (a *Agent) Last() reconcile.Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.local
	r := reconcile.Report{
		Node: a.cfg.Name, Incarnation: a.cfg.Incarnation, Ramd: a.cfg.Version,
		Serial: a.assignment.Serial, Settled: l.Settled,
		Data: l.Data, Server: l.Server, Launched: l.Launched, SyncSince: l.SyncSince, Hung: a.hung(), Apart: a.apart(time.Now()),
		Written: l.Written, Loaded: l.Loaded, Started: l.Started, Drift: l.Drift, Watch: a.watch,
		Retired: a.looked && a.assignment.Role == reconcile.RoleRetired && l.Data.State == pg.DirAbsent && l.Server.State == pg.ServerStopped,
	}
	if a.activity != nil {
		r.Activity = &reconcile.Activity{
			Step: a.activity.step, Done: a.activity.done, Total: a.activity.total, For: time.Since(a.activity.begun),
		}
	}
	r.Problem = a.problem.report(time.Now())
	r.Job = a.jobReport(time.Now())
	if a.cfg.Extra != nil {
		a.cfg.Extra(&r)
	}
	return r
}

// news reports whether two looks differ in more than positions.
func news(a, b reconcile.Local) bool {
	return a.Data != b.Data || a.Server.State != b.Server.State || a.Server.Recovery != b.Server.Recovery ||
		a.Server.Receiver.Streaming() != b.Server.Receiver.Streaming() ||
		a.Server.WALComplete != b.Server.WALComplete || (a.Server.Receiver == nil) != (b.Server.Receiver == nil) ||
		a.Launched != b.Launched || a.SyncSince != b.SyncSince || trailing(a) != trailing(b) ||
		a.Written != b.Written || a.Loaded != b.Loaded || a.Started != b.Started || a.Settled != b.Settled ||
		len(a.Drift) != len(b.Drift) || len(a.Server.PendingRestart) != len(b.Server.PendingRestart) ||
		len(a.Server.Slots) != len(b.Server.Slots) || len(a.Server.Senders) != len(b.Server.Senders)
}

// trailing reports whether a follower has yet to receive what was written before
// the sync set changed: the leader waits for that.
func trailing(l reconcile.Local) bool {
	return l.SyncSince != 0 && slices.ContainsFunc(l.Server.Senders, func(s pg.WALSender) bool { return s.FlushLSN < l.SyncSince })
}
