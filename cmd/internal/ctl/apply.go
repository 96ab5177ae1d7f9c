package ctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

// runFlags say how a run that a command begins is followed.
type runFlags struct {
	autoApprove bool
	detach      bool
	timeout     time.Duration
}

func (f *runFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.detach, "detach", false, "return as soon as it has begun")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "stop following after this `TIME`, such as 10m, with exit code 1; the cluster goes on (0: never)")
}

func (f *runFlags) addApprove(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.autoApprove, "auto-approve", false, "do not ask")
}

type applyFlags struct {
	runFlags
	allowDestroy bool
	message      string
}

func (f *applyFlags) add(cmd *cobra.Command) {
	f.runFlags.add(cmd)
	f.addApprove(cmd)
	cmd.Flags().BoolVar(&f.allowDestroy, "allow-destroy", false, "agree to what the plan destroys")
	cmd.Flags().StringVarP(&f.message, "message", "m", "", "why, kept with the revision as `TEXT`")
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	var s specFlags
	var follow uint64
	cmd := &cobra.Command{
		Use:   "apply [SPEC|PLANFILE]",
		Short: "Make the cluster what the spec says",
		Long: `Show the plan, ask for yes, and have the cluster carry it out. The run is shown
while it goes on. It is the cluster's own: Ctrl-C only stops the showing, and the
run goes on whatever happens to ramctrl or to any single node.

SPEC is found as by ramctrl plan. A file saved by ramctrl plan --out is applied as it
was shown, or refused when the cluster has moved on since.

A changed spec that ramd watches and that waits for --allow-destroy is what
--allow-destroy applies when no other spec is found.

Without a terminal to ask at, nothing is changed unless --auto-approve is given.
Exit code 1 also means that a step keeps failing or that something is in the way:
the reason is said, and the cluster keeps trying.`,
		Example: `  ramctrl apply cluster.hcl
  ramctrl apply cluster.hcl --auto-approve --message "more connections"
  ramctrl apply next.plan
  ramctrl apply --allow-destroy without-node-c.hcl
  ramctrl apply --follow 7`,
		Args: cobra.MaximumNArgs(1),
	}
	s.add(cmd)
	f.add(cmd)
	cmd.Flags().Uint64Var(&follow, "follow", 0, "apply nothing, show the `RUN` with this number")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		if follow != 0 {
			if len(args) > 0 {
				return usagef("--follow takes no spec: it applies nothing")
			}
			return a.followOnly(ctx, follow, f.runFlags)
		}
		p, err := a.propose(s, args, true)
		if err != nil {
			return err
		}
		p.cause, p.message = reconcile.CauseApply, f.message
		return a.apply(ctx, p, f)
	})
	return cmd
}

// maxReplans bounds how often an apply that need not ask plans again because
// the cluster has moved on.
const maxReplans = 10

// apply plans, asks, applies and follows.
func (a *app) apply(ctx context.Context, p proposal, f applyFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	if p.spec == nil && f.allowDestroy {
		if p, err = a.proposeWaiting(ctx, client, p); err != nil {
			return err
		}
	}
	for range maxReplans {
		plan, err := a.agree(ctx, client, p, f)
		if err != nil || plan == nil {
			return err
		}
		answer, err := client.Apply(ctx, api.ApplyRequest{
			Spec: p.spec, Source: p.source, Message: p.message, By: a.sys.User,
			Base: &plan.Base, AllowDestroy: f.allowDestroy, Cause: p.cause,
		})
		if err == nil {
			return a.accepted(ctx, client, answer, f.runFlags)
		}
		if !a.movedOn(ctx, client, err, p, plan.Base) {
			return err
		}
		if p.plan != nil {
			return fmt.Errorf("the plan is stale: the cluster has moved on since it was saved; plan again (%w)", err)
		}
		a.say("The cluster has moved on since this plan was made. The plan is now:\n")
	}
	return errors.New("the cluster keeps changing while it is planned, nothing was changed: see ramctrl events, and try again")
}

// proposeWaiting makes a watched spec that waits for --allow-destroy the proposal.
func (a *app) proposeWaiting(ctx context.Context, client *api.Client, p proposal) (proposal, error) {
	answer, err := client.Spec(ctx)
	if err != nil || answer.Waiting == nil {
		return p, err
	}
	p.spec, p.source = answer.Waiting.Spec, answer.Waiting.Source
	a.say("No spec is named: this is the watched one that waits, %s.\n", answer.Waiting.Reason)
	return p, nil
}

// agree shows the plan and asks. The plan is nil when there is nothing to do.
func (a *app) agree(ctx context.Context, client *api.Client, p proposal, f applyFlags) (*reconcile.Plan, error) {
	plan := p.plan
	if plan == nil {
		answer, err := client.Plan(ctx, api.PlanRequest{Spec: p.spec})
		if err != nil {
			return nil, err
		}
		plan = &answer.Plan
	}
	if err := render.Plan(a.people(), *plan, a.style()); err != nil {
		return nil, err
	}
	switch {
	case plan.Refused():
		return nil, errors.New("the spec is refused for the reasons above, nothing was changed")
	case plan.Empty() && len(plan.Blocked) > 0:
		return nil, errors.New("nothing can be done now for the reasons above; the cluster goes on by itself when they are gone")
	case plan.Empty():
		return nil, a.applied(applyResult{Outcome: outcomeNothing, Revision: plan.Revision, Plan: plan})
	case plan.Summary.Destructive && !f.allowDestroy:
		return nil, errors.New("the plan destroys something, nothing was changed: look at it above, and add --allow-destroy to agree")
	}
	return plan, a.confirm(ctx, "\nApply this plan?", f.autoApprove)
}

// movedOn reports whether a refusal is because the plan is no longer current.
func (a *app) movedOn(ctx context.Context, client *api.Client, refusal error, p proposal, base reconcile.Base) bool {
	if !errors.Is(refusal, api.ErrConflict) {
		return false
	}
	now, err := client.Plan(ctx, api.PlanRequest{Spec: p.spec})
	return err == nil && now.Plan.Base != base
}

// accepted follows the run that an apply began.
func (a *app) accepted(ctx context.Context, client *api.Client, answer api.ApplyAnswer, f runFlags) error {
	result := applyResult{Revision: answer.Revision, Run: answer.Run, Plan: &answer.Plan}
	switch {
	case answer.Run == 0 && len(answer.Plan.Blocked) > 0:
		result.Outcome, result.Reason = outcomeBlocked, answer.Plan.Blocked[0].Reason
		if err := a.applied(result); err != nil {
			return err
		}
		return fmt.Errorf("revision %d is in force, and nothing can be done now: %s; the cluster goes on by itself when this is put right", answer.Revision, result.Reason)
	case answer.Run == 0:
		a.say("Revision %d is in force; no node had anything to do.", answer.Revision)
		result.Outcome = outcomeDone
		return a.applied(result)
	case f.detach:
		a.say("Revision %d is accepted, run %d has begun. Follow it with: ramctrl apply --follow %d", answer.Revision, answer.Run, answer.Run)
		result.Outcome = outcomeDetached
		return a.applied(result)
	}
	a.say("Revision %d is accepted, run %d:", answer.Revision, answer.Run)
	return a.follow(ctx, client, result, f)
}

// What became of an apply.
const (
	outcomeNothing  = "nothing"  // there was nothing to do
	outcomeDone     = "done"     // the cluster is as the spec says
	outcomeDetached = "detached" // it goes on, unwatched
	outcomeTimeout  = "timeout"  // it goes on after --timeout
	outcomeBlocked  = "blocked"  // it cannot get on now; the cluster keeps trying
	outcomeUnknown  = "unknown"  // the cluster could not say
)

// applyResult is apply -o json, and that of every command that begins a run.
type applyResult struct {
	Format   int    `json:"format"`
	Outcome  string `json:"outcome"`
	Revision uint64 `json:"revision,omitempty"`
	Run      uint64 `json:"run,omitempty"`
	// Reason is why the outcome is not as hoped for.
	Reason    string              `json:"reason,omitempty"`
	ElapsedMS int64               `json:"elapsed_ms,omitempty"`
	Steps     []reconcile.RunStep `json:"steps,omitempty"`
	Plan      *reconcile.Plan     `json:"plan,omitempty"`
}

func (a *app) applied(r applyResult) error {
	if !a.json() {
		return nil
	}
	r.Format = outputFormat
	return a.printJSON(r)
}
