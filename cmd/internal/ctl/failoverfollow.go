package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

// followFailover shows the phases of a failover until there is a primary and the old
// one follows it, or cannot, and tells the outcome.
func (a *app) followFailover(ctx context.Context, client *api.Client, result failoverResult, f failoverFlags) error {
	w := failoverWatcher{
		client: client, pace: a.pace, phases: newPhases(result, time.Now()),
		view: a.progress(fmt.Sprintf("term %d", result.Term), false),
	}
	end := w.watch(ctx, f.timeout)
	w.view.End()
	result.Outcome, result.Reason, result.Primary = end.outcome, end.reason, w.primary
	result.Phases, result.ElapsedMS = w.phases.results(), time.Since(w.phases.began).Milliseconds()
	if result.Outcome == outcomeDone {
		a.judge(ctx, client, &result, f.to)
	}
	if err := a.failedOver(result); err != nil {
		return err
	}
	return a.tell(result, w, end)
}

// judge compares who became the primary with what was asked for.
func (a *app) judge(ctx context.Context, client *api.Client, result *failoverResult, to string) {
	// Ctrl-C may have come since: the choice has been made, and it is asked for once.
	choice, err := client.Verdict(context.WithoutCancel(ctx), 0)
	if err == nil && choice.Verdict.Term == result.Term {
		result.Reason, result.MayLose, result.Event = choice.Verdict.Reason, choice.Verdict.MayLose, choice.Event
	}
	switch {
	case result.Primary == result.Deposed:
		result.Outcome = outcomeBack
	case to != "" && result.Primary != to:
		result.Outcome = outcomeOther
	}
}

// tell ends the command with a sentence, or with an error that says what to do.
func (a *app) tell(r failoverResult, w failoverWatcher, end ending) error {
	explain := "ramctrl explain"
	if r.Event != 0 {
		explain += fmt.Sprintf(" %d", r.Event)
	}
	again := "follow it with: " + followFailover
	switch r.Outcome {
	case outcomeDone:
		if r.MayLose != "" {
			a.warn("Acknowledged writes may have been lost: %s.", r.MayLose)
		}
		if w.left != "" {
			a.warn("Node %s does not follow yet: %s. The cluster keeps trying.", r.Deposed, w.left)
		}
		a.say("Done: node %s is the primary of term %d after %s. Why: %s", r.Primary, r.Term, render.Elapsed(w.phases.at(phasePromote)), explain)
		return nil
	case outcomeBack:
		return fmt.Errorf("node %s is the primary again: %s; see %s", r.Primary, r.Reason, explain)
	case outcomeOther:
		return fmt.Errorf("node %s is the primary, and not the one that was asked for: %s; see %s", r.Primary, r.Reason, explain)
	case outcomeSuperseded:
		return fmt.Errorf("a later term was opened meanwhile: see ramctrl events; %s", again)
	case outcomeDetached:
		return fmt.Errorf("detached, term %d goes on; %s", r.Term, again)
	case outcomeTimeout:
		return fmt.Errorf("term %d has no primary that works after --timeout, and goes on; %s", r.Term, again)
	case outcomeBlocked:
		return fmt.Errorf("term %d has no primary: it waits for %s\nThe cluster goes on when this is put right; %s", r.Term, r.Reason, again)
	}
	return end.cause
}

// failoverWatcher looks at the status again and again.
type failoverWatcher struct {
	client *api.Client
	pace   pace
	phases *phases
	view   *render.Progress

	primary string
	// left is why the old primary does not follow although there is a new one.
	left  string
	stuck obstacle
}

func (w *failoverWatcher) watch(ctx context.Context, timeout time.Duration) ending {
	l := lookout[reconcile.Status]{view: w.view, every: w.pace.phase, timeout: timeout, ask: w.client.Status, read: w.read}
	end := l.watch(ctx)
	if end.outcome == outcomeTimeout && w.phases.done(phasePromote) {
		w.left = "it was not back before --timeout"
		return ending{outcome: outcomeDone}
	}
	return end
}

func (w *failoverWatcher) read(now time.Time, s reconcile.Status) ending {
	w.phases.read(now, s)
	w.view.Update(now, w.phases.answer(now))
	return w.judge(now, s)
}

func (w *failoverWatcher) judge(now time.Time, s reconcile.Status) ending {
	if !s.Raft.HasQuorum || s.Term < w.phases.term {
		return ending{} // what a ramd without a leader knows is not the last word
	}
	if s.Term > w.phases.term {
		return ending{outcome: outcomeSuperseded, reason: fmt.Sprintf("it is term %d by now", s.Term)}
	}
	w.primary = s.Primary
	switch {
	case s.Opening != nil:
		if s.Opening.Waits != "" && w.stuck.lasts(now, s.Opening.Waits, w.pace.patience) && !s.Opening.Stopping {
			return ending{outcome: outcomeBlocked, reason: s.Opening.Waits}
		}
		return ending{}
	case !w.phases.done(phasePromote):
		return ending{}
	case w.primary == w.phases.deposed || w.phases.done(phaseFollow):
		return ending{outcome: outcomeDone}
	}
	return w.awaitOld(now, s)
}

// awaitOld gives up on an old primary that does not answer, or does not get on: it is
// brought back when it can be, and nobody has to watch.
func (w *failoverWatcher) awaitOld(now time.Time, s reconcile.Status) ending {
	old, _ := nodeOf(s, w.phases.deposed)
	why, patience := old.Reason, w.pace.patience
	if old.State == reconcile.NodeUnreachable || old.State == "" {
		patience = w.pace.election
	}
	if old.Activity == nil && why != "" && w.stuck.lasts(now, why, patience) {
		w.left = why
		return ending{outcome: outcomeDone}
	}
	return ending{}
}
