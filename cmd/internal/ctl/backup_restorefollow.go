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

// followRestore shows a restore of the cluster until the cluster has converged, or what
// is left cannot be done now.
func (a *app) followRestore(ctx context.Context, client *api.Client, result restoreResult, before reconcile.Status, f restoreFlags) error {
	w := &restoreWatcher{
		before: before, node: result.Primary, aborted: result.Aborted, pace: a.pace, began: time.Now(),
		view: a.progress("restore", true), from: map[string]time.Time{}, until: map[string]time.Time{},
	}
	l := lookout[reconcile.Status]{view: w.view, every: a.pace.poll, timeout: f.timeout, ask: client.Status, read: w.read}
	end := l.watch(ctx)
	w.view.End()
	result.Outcome, result.Reason, result.ElapsedMS = end.outcome, end.reason, w.elapsed().Milliseconds()
	if s := w.last; s.Primary != "" {
		result.Primary, result.Timeline = s.Primary, uint64(s.Timeline)
	}
	if err := a.restoreEnded(result); err != nil {
		return err
	}
	return a.tellRestore(result, w, end)
}

// restoreWatcher reads statuses as a restore: one node is restored, then the others
// are copied from it.
type restoreWatcher struct {
	before  reconcile.Status // as it was when the restore was asked for
	node    string           // the one that is restored; empty for the primary of the time
	aborted bool
	pace    pace
	view    *render.Progress

	began    time.Time
	last     reconcile.Status
	restored bool   // there is a primary that takes writes
	left     string // why not all is back although the cluster takes writes
	stuck    obstacle

	steps       []reconcile.RunStep
	from, until map[string]time.Time // by step
}

func (w *restoreWatcher) elapsed() time.Duration { return time.Since(w.began) }

func (w *restoreWatcher) read(now time.Time, s reconcile.Status) ending {
	if !s.Raft.HasQuorum || s.Term <= w.before.Term {
		return ending{} // it is of before, or from a ramd without a leader
	}
	w.last = s
	if w.node == "" {
		w.node = s.Primary
	}
	w.phases(now, s)
	w.view.Update(now, w.shown(now, s))
	return w.judge(now, s)
}

// phases reads how far every node has come.
func (w *restoreWatcher) phases(now time.Time, s reconcile.Status) {
	w.steps = w.steps[:0]
	p := primaryOf(s)
	runs := s.Opening == nil && p.Name != "" && p.Role == reconcile.RolePrimary && p.State == reconcile.NodeRunning
	// A server of before may still be seen to run; the restored one has a timeline of its own.
	if runs && (w.aborted || p.Timeline > w.before.Timeline) {
		w.restored = true
	}
	text := restoringText(w.aborted, w.node, nodeDoing(s, w.node))
	if w.restored {
		text = fmt.Sprintf("%s takes writes, on timeline %d", p.Name, p.Timeline)
	}
	w.step(now, w.node, true, w.restored, text)
	for _, n := range s.Nodes {
		if n.Name == w.node || n.Role == reconcile.RoleWitness {
			continue
		}
		follows := w.restored && n.Role == reconcile.RoleStandby && n.Healthy && n.Timeline == p.Timeline
		w.step(now, n.Name, w.restored || follows, follows, followText(n, p.Name, follows))
	}
}

func restoringText(aborted bool, node, doing string) string {
	switch {
	case aborted && doing != "":
		doing = "going back to the data of before, " + doing
	case aborted:
		doing = "going back to the data of before"
	case doing == "":
		doing = "restoring"
	}
	return "node " + node + ": " + doing
}

// nodeDoing is what a node does at this moment, in words; empty when that is not known.
func nodeDoing(s reconcile.Status, name string) string {
	n, _ := nodeOf(s, name)
	if n.Activity == nil {
		return ""
	}
	return render.Activity(*n.Activity, "")
}

func followText(n reconcile.NodeStatus, primary string, done bool) string {
	switch {
	case done:
		return fmt.Sprintf("%s follows %s", n.Name, primary)
	case n.Activity != nil && n.Activity.Step == reconcile.StepClone:
		return fmt.Sprintf("node %s: %s", n.Name, render.Activity(*n.Activity, primary))
	case n.Activity != nil:
		return fmt.Sprintf("node %s: %s", n.Name, render.Activity(*n.Activity, ""))
	}
	return fmt.Sprintf("node %s: is to follow %s, it is %s", n.Name, primary, n.State)
}

// step notes the state of one node's part. What was seen to be done stays so.
func (w *restoreWatcher) step(now time.Time, id string, begun, done bool, text string) {
	state := reconcile.StepPending
	if _, was := w.until[id]; was {
		begun, done = true, true
	}
	if begun || done {
		state = reconcile.StepRunning
		if _, known := w.from[id]; !known {
			w.from[id] = now
		}
	}
	if done {
		state = reconcile.StepDone
		if _, known := w.until[id]; !known {
			w.until[id] = now
		}
	}
	w.steps = append(w.steps, reconcile.RunStep{ID: id, Summary: text, State: state})
}

func (w *restoreWatcher) shown(now time.Time, s reconcile.Status) api.RunAnswer {
	out := api.RunAnswer{Run: reconcile.Run{Steps: w.steps}, Elapsed: now.Sub(w.began), Blocked: s.Blocked}
	for _, step := range w.steps {
		var took time.Duration
		if from, begun := w.from[step.ID]; begun {
			took = now.Sub(from)
			if until, done := w.until[step.ID]; done {
				took = until.Sub(from)
			}
		}
		out.StepElapsed = append(out.StepElapsed, took)
	}
	return out
}

func (w *restoreWatcher) judge(now time.Time, s reconcile.Status) ending {
	switch {
	case w.restored && s.Converged:
		return ending{outcome: outcomeDone}
	case len(s.Blocked) == 0:
		w.stuck = obstacle{}
		return ending{}
	}
	var list []string
	for _, b := range s.Blocked {
		list = append(list, b.Reason)
	}
	for _, n := range s.Nodes {
		if n.Activity != nil && w.restored {
			w.stuck = obstacle{}
			return ending{} // others still get on
		}
	}
	reason := strings.Join(list, "; ")
	if !w.stuck.lasts(now, "blocked", w.pace.patience) {
		return ending{}
	}
	if w.restored {
		w.left = reason
		return ending{outcome: outcomeDone}
	}
	return ending{outcome: outcomeBlocked, reason: reason}
}
