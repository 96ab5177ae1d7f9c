package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

// followOnly shows a run that was begun before.
func (a *app) followOnly(ctx context.Context, run uint64, f runFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	return a.follow(ctx, client, applyResult{Run: run}, f)
}

// follow shows a run until it ends or cannot get on, and tells the outcome.
func (a *app) follow(ctx context.Context, client *api.Client, result applyResult, f runFlags) error {
	w := watcher{
		client: client, pace: a.pace, run: result.Run, timeout: f.timeout,
		view: a.progress("", false),
	}
	end := w.watch(ctx)
	w.view.End()
	result.Run, result.Outcome, result.Reason = w.run, end.outcome, end.reason
	result.Steps, result.ElapsedMS = w.last.Run.Steps, w.last.Elapsed.Milliseconds()
	if result.Revision == 0 {
		result.Revision = w.last.Run.Revision
	}
	if err := a.applied(result); err != nil {
		return err
	}
	if end.outcome == outcomeDone {
		a.say("Done: revision %d, run %d, %s.", result.Revision, result.Run, render.Elapsed(w.last.Elapsed))
		return nil
	}
	return end.err(w.run)
}

// err says of a run that was not followed to its end why, and what to do.
func (e ending) err(run uint64) error {
	again := fmt.Sprintf("follow it again with: ramctrl apply --follow %d", run)
	switch e.outcome {
	case outcomeDetached:
		return fmt.Errorf("detached, run %d goes on; %s", run, again)
	case outcomeTimeout:
		return fmt.Errorf("run %d is not done after --timeout and goes on; %s", run, again)
	case outcomeBlocked:
		return fmt.Errorf("run %d cannot get on: %s\nThe cluster keeps trying and goes on when this is put right; %s", run, e.reason, again)
	}
	return e.cause
}

// watcher looks at a run again and again.
type watcher struct {
	client  *api.Client
	pace    pace
	run     uint64
	timeout time.Duration
	view    *render.Progress

	last api.RunAnswer
	// stuck is since when nothing but trouble has been seen; zero while it gets on.
	stuck time.Time
}

func (w *watcher) watch(ctx context.Context) ending {
	l := lookout[api.RunAnswer]{
		view: w.view, every: w.pace.poll, timeout: w.timeout, unknown: w.pace.election,
		ask:    func(ctx context.Context) (api.RunAnswer, error) { return w.client.Run(ctx, w.run) },
		read:   w.read,
		silent: func() { w.stuck = time.Time{} },
	}
	return l.watch(ctx)
}

func (w *watcher) read(now time.Time, answer api.RunAnswer) ending {
	w.last = answer
	w.view.Update(now, answer)
	return w.judge(now, answer)
}

func (w *watcher) judge(now time.Time, answer api.RunAnswer) ending {
	switch answer.Run.State {
	case reconcile.RunSuperseded:
		w.run++ // the one that took over what was left
		w.stuck = time.Time{}
		return ending{}
	case reconcile.RunDone:
		if len(answer.Blocked) > 0 {
			return ending{outcome: outcomeBlocked, reason: reasons(answer)}
		}
		return ending{outcome: outcomeDone}
	}
	if !failing(answer) {
		w.stuck = time.Time{}
		return ending{}
	}
	if w.stuck.IsZero() {
		w.stuck = now
	}
	if now.Sub(w.stuck) < w.pace.patience {
		return ending{}
	}
	return ending{outcome: outcomeBlocked, reason: reasons(answer)}
}

// manyAttempts is from where on a failure is no longer taken for a passing one.
const manyAttempts = 3

// failing reports whether a step fails again and again, or nothing is under way
// because all that is left is blocked.
func failing(answer api.RunAnswer) bool {
	for _, problem := range answer.Problems {
		if problem.Attempts >= manyAttempts {
			return true
		}
	}
	for _, s := range answer.Run.Steps {
		if s.State == reconcile.StepRunning {
			return false
		}
	}
	return len(answer.Blocked) > 0
}

func reasons(answer api.RunAnswer) string {
	return strings.Join(render.Troubles(answer), "; ")
}
