package daemon

import (
	"context"
	"net/http"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

// Runs is api.Backend's, newest last.
func (b backend) Runs(context.Context) ([]reconcile.Run, error) {
	l, err := b.now()
	if err != nil {
		return nil, err
	}
	rec := l.machine.Record()
	runs := append([]reconcile.Run{}, rec.Runs...)
	if rec.Run != nil {
		runs = append(runs, *rec.Run)
	}
	return runs, nil
}

// Run is api.Backend's.
func (b backend) Run(_ context.Context, id uint64) (api.RunAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.RunAnswer{}, err
	}
	rec := l.machine.Record()
	if rec.Run != nil && rec.Run.ID == id {
		return l.liveRun(*rec.Run, time.Now()), nil
	}
	for _, r := range rec.Runs {
		if r.ID == id {
			answer := api.RunAnswer{Run: r, Elapsed: r.Finished.Sub(r.Started), StepElapsed: stepTimes(r, r.Finished)}
			if id == rec.LastRun && rec.Spec != nil {
				// It left no step, but perhaps something that no step can change.
				answer.Blocked = l.leader.Plan(rec.Spec).Blocked
			}
			return answer, nil
		}
	}
	return api.RunAnswer{}, api.Errorf(http.StatusNotFound, "there is no run %d, or it is too long ago", id)
}

func (l *life) liveRun(run reconcile.Run, now time.Time) api.RunAnswer {
	rec, obs := l.machine.Record(), l.leader.Observed()
	plan := reconcile.Diff(rec.Spec, rec, obs)
	if !l.leader.Informed() {
		plan.Blocked = nil // a new leader has not heard of the nodes yet
	}
	answer := api.RunAnswer{
		Run: run, Elapsed: now.Sub(run.Started), StepElapsed: stepTimes(run, now),
		Activities: map[string]reconcile.Activity{}, Problems: map[string]reconcile.Problem{}, Waits: map[string]string{},
		Blocked: plan.Blocked,
	}
	for name, v := range obs.Nodes {
		if v.Report.Activity != nil {
			answer.Activities[name] = *v.Report.Activity
		}
		if v.Report.Problem != nil {
			answer.Problems[name] = *v.Report.Problem
		}
	}
	for _, s := range plan.Steps {
		if s.Waits != "" {
			answer.Waits[s.ID] = s.Waits
		}
	}
	return answer
}

func stepTimes(run reconcile.Run, now time.Time) []time.Duration {
	times := make([]time.Duration, len(run.Steps))
	for i, s := range run.Steps {
		switch {
		case s.Started.IsZero():
		case s.Finished.IsZero():
			times[i] = now.Sub(s.Started)
		default:
			times[i] = s.Finished.Sub(s.Started)
		}
	}
	return times
}

// Ask is api.Backend's.
func (b backend) Ask(ctx context.Context, cause reconcile.Cause, r api.NodesRequest) (api.RunStarted, error) {
	l, err := b.now()
	if err != nil {
		return api.RunStarted{}, err
	}
	rec := l.machine.Record()
	if rec.Spec == nil {
		return api.RunStarted{}, api.Errorf(http.StatusConflict, "no spec has been applied yet: ramctrl apply")
	}
	if rec.Pause != nil {
		return api.RunStarted{}, api.Errorf(http.StatusConflict, "the cluster is paused by %s: ramctrl resume first", rec.Pause.By)
	}
	nodes, err := askedNodes(rec, cause, r.Nodes)
	if err != nil {
		return api.RunStarted{}, err
	}
	if r.Restore != nil {
		found, err := l.depot().find(r.Restore.Repository)
		if err != nil {
			return api.RunStarted{}, api.Errorf(http.StatusBadRequest, "%s", err)
		}
		r.Restore.Repository = found.Name
	}
	after, err := l.ledger().propose(ctx, reconcile.Command{
		At: time.Now().UTC(), By: r.By, Ask: &reconcile.Ask{Cause: cause, Nodes: nodes, Restore: r.Restore},
	})
	if err != nil {
		return api.RunStarted{}, err
	}
	return api.RunStarted{Run: after.LastRun}, nil
}

// askedNodes are the nodes with data that a request names, or all of them.
func askedNodes(rec *reconcile.Record, cause reconcile.Cause, names []string) ([]string, error) {
	if len(names) == 0 && cause == reconcile.CauseReinit {
		return nil, api.Errorf(http.StatusBadRequest, "reinit needs the name of a node")
	}
	if len(names) == 0 {
		for _, n := range rec.Spec.Nodes {
			if !n.Witness {
				names = append(names, n.Name)
			}
		}
		return names, nil
	}
	for _, name := range names {
		n, ok := rec.Spec.Node(name)
		switch {
		case !ok:
			return nil, api.Errorf(http.StatusNotFound, "the spec has no node %q; it has %s", name, nodeNames(rec.Spec))
		case n.Witness:
			return nil, api.Errorf(http.StatusConflict, "node %s is a witness and has no PostgreSQL", name)
		case cause == reconcile.CauseReinit && name == rec.Primary:
			return nil, api.Errorf(http.StatusConflict, "node %s is the primary and has the only copy that counts: it cannot be reinitialised", name)
		}
	}
	return names, nil
}
