package daemon

import (
	"context"
	"net/http"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// wanted is the spec that a request is about.
func (l *life) wanted(given *spec.Cluster) (want *spec.Cluster, source string) {
	rec := l.machine.Record()
	switch {
	case given != nil:
		return given, ""
	case rec.Spec != nil:
		return rec.Spec, rec.History[len(rec.History)-1].Source
	}
	return l.start.spec, l.start.loaded.Text()
}

// Plan is api.Backend's.
func (b backend) Plan(_ context.Context, r api.PlanRequest) (api.PlanAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.PlanAnswer{}, err
	}
	if err := check(r.Spec); err != nil {
		return api.PlanAnswer{}, err
	}
	want, _ := l.wanted(r.Spec)
	return api.PlanAnswer{Plan: l.leader.Plan(want), Spec: want}, nil
}

// check is the last word on a spec that came over the network.
func check(c *spec.Cluster) error {
	if c == nil {
		return nil
	}
	for _, p := range c.Validate() {
		if p.Severity == spec.SeverityError {
			return api.Errorf(http.StatusBadRequest, "the spec is not valid: %s: %s", p.Path, p.Summary)
		}
	}
	return nil
}

// Apply is api.Backend's.
func (b backend) Apply(ctx context.Context, r api.ApplyRequest) (api.ApplyAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.ApplyAnswer{}, err
	}
	if err := check(r.Spec); err != nil {
		return api.ApplyAnswer{}, err
	}
	return l.apply(ctx, r)
}

// apply plans again and accepts the spec when the plan is still the one that was
// shown and destroys nothing that it may not.
func (l *life) apply(ctx context.Context, r api.ApplyRequest) (api.ApplyAnswer, error) {
	want, source := l.wanted(r.Spec)
	if r.Source == "" {
		r.Source = source
	}
	if r.Cause == "" {
		r.Cause = reconcile.CauseApply
	}
	plan := l.leader.Plan(want)
	answer := api.ApplyAnswer{Revision: plan.Revision, Plan: plan}
	rec := l.machine.Record()
	if rec.Pause != nil {
		return answer, api.Errorf(http.StatusConflict, "the cluster is paused by %s: ramctrl resume first", rec.Pause.By)
	}
	if plan.Refused() {
		return answer, api.Errorf(http.StatusConflict, "%s", plan.Blocked[0].Reason)
	}
	if r.Base != nil && *r.Base != plan.Base {
		return answer, api.Errorf(http.StatusConflict, "the plan is stale: it was made for revision %d, in force is revision %d, or a node has changed since; plan again", r.Base.Revision, plan.Base.Revision)
	}
	if plan.Summary.Destructive && !r.AllowDestroy {
		return answer, api.Errorf(http.StatusConflict, "the plan destroys %s: repeat with --allow-destroy if that is meant", destroyed(plan))
	}
	if plan.Empty() {
		return answer, nil
	}
	cmd := reconcile.Command{At: time.Now().UTC(), By: r.By, Accept: &reconcile.Accept{
		Spec: want, Source: r.Source, Message: r.Message, Base: plan.Base.Revision, Cause: r.Cause,
		Steps: reconcile.RunSteps(plan),
	}}
	after, err := l.ledger().propose(ctx, cmd)
	if err != nil {
		return answer, err
	}
	answer.Revision = after.Revision
	if len(plan.Steps) > 0 && after.Run != nil {
		answer.Run = after.Run.ID
	}
	return answer, nil
}

func destroyed(p reconcile.Plan) string {
	for _, s := range p.Steps {
		if s.Destroys != "" {
			return s.Destroys
		}
	}
	return "something"
}
