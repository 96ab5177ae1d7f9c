package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

// failoverFlags are those of failover and of switchover.
type failoverFlags struct {
	runFlags
	to         string
	acceptLoss bool
	at         string
	cancel     bool
	// when is what at says; zero means at once.
	when time.Time
}

func (f *failoverFlags) add(cmd *cobra.Command) {
	f.runFlags.add(cmd)
	f.addApprove(cmd)
	cmd.Flags().StringVar(&f.to, "to", "", "the `NODE` that is to be the primary (default: the best one)")
}

func (a *app) failoverCommand() *cobra.Command {
	var f failoverFlags
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Make a standby the primary when the primary is lost",
		Long: `Make a standby the primary, whatever the present one does. The cluster does this by
itself when the primary is lost, unless failover.automatic is false in its spec; by
hand it is for primaries that are ill and not dead, and for a cluster that waits.

What would happen is shown first: who would become the primary and why, how far
every standby is, and what may be lost. In quorum mode no acknowledged write is lost,
and what cannot be done without a loss is refused. --accept-data-loss is the word to
go ahead all the same; how many bytes it costs, as far as that can be known, is said
before anything is done. With it, --to insists on the node, also on a former primary
when its data are the last that are left.

A term that is open already, since the cluster looks for a primary and waits, can be
given the node with --to, or the word on losses with --accept-data-loss.

Ctrl-C only stops the showing: the cluster goes on. Without a terminal to ask at,
nothing is changed unless --auto-approve is given. Exit code 1 also means that
another node became the primary than the one of --to.`,
		Example: `  ramctrl failover
  ramctrl failover --to c
  ramctrl failover --accept-data-loss`,
		Args: cobra.NoArgs,
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.acceptLoss, "accept-data-loss", false, "go ahead where acknowledged writes may be lost")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		return a.changePrimary(ctx, reconcile.OpenFailover, f)
	})
	return cmd
}

func (a *app) switchoverCommand() *cobra.Command {
	var f failoverFlags
	cmd := &cobra.Command{
		Use:   "switchover",
		Short: "Hand the primary over to another node, in order",
		Long: `Hand over from a primary that is well to a standby. The primary checkpoints and is shut
down in order, so that the standbys have all it wrote; then one of them is promoted,
and the old primary follows it. Sessions on the old primary end, and writes fail or
wait in between. Nothing is lost, and if the standby cannot take over after all, the
old primary is started again.

What would happen is shown first, and what speaks against it: a standby that is far
behind or does not stream, a primary that does not answer, too few standbys.

--at plans it for later, for a week ahead at most: 15:04 is the next time that the
clock here shows that. The cluster looks at everything again then, whoever leads it,
and begins the switchover, or drops it with an event that says why; it does not try
again. Without --to it is dropped when there is another primary by then. What is
planned is in ramctrl status; another --at replaces it, and --cancel cancels it.

Ctrl-C only stops the showing: the cluster goes on. Without a terminal to ask at,
nothing is changed unless --auto-approve is given. Exit code 1 also means that
another node became the primary than the one of --to, or the old one again.`,
		Example: `  ramctrl switchover
  ramctrl switchover --to b --auto-approve
  ramctrl switchover --to b --at 03:00
  ramctrl switchover --cancel`,
		Args: cobra.NoArgs,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.at, "at", "", "begin at this `TIME`, such as 03:00 or 2026-01-31T03:00:00Z (default: now)")
	cmd.Flags().BoolVar(&f.cancel, "cancel", false, "cancel the switchover that is planned")
	for _, other := range []string{"at", "to", "auto-approve", "detach", "timeout"} {
		cmd.MarkFlagsMutuallyExclusive("cancel", other)
	}
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		if f.cancel {
			return a.cancelSwitchover(ctx)
		}
		if f.at != "" {
			var err error
			if f.when, err = a.moment(f.at, time.Now()); err != nil {
				return err
			}
		}
		return a.changePrimary(ctx, reconcile.OpenSwitchover, f)
	})
	return cmd
}

// changePrimary shows what would happen, asks, begins it and follows it.
func (a *app) changePrimary(ctx context.Context, cause reconcile.OpenReason, f failoverFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	request := api.FailoverRequest{To: f.to, AcceptLoss: f.acceptLoss, At: f.when, By: a.sys.User}
	p, err := client.Preflight(ctx, cause, request)
	if err != nil {
		return err
	}
	if err := render.Preflight(a.people(), p, a.style()); err != nil {
		return err
	}
	result := failoverResult{Cause: cause, Term: p.Term, Deposed: p.Primary, Preflight: &p}
	if p.Refused() {
		result.Outcome, result.Reason = outcomeRefused, strings.Join(p.Refusals, "; ")
		if err := a.failedOver(result); err != nil {
			return err
		}
		return fmt.Errorf("the %s is refused, nothing was changed: see above", cause)
	}
	if err := a.confirm(ctx, a.failoverQuestion(p), f.autoApprove); err != nil {
		return err
	}
	if f.when.IsZero() {
		request.Term = &p.Term // what was shown is about it
	}
	answer, err := client.Failover(ctx, cause, request)
	if err != nil {
		return err
	}
	result.Term, result.Deposed = answer.Term, answer.Deposed
	if answer.Planned != nil {
		return a.planned(answer, result)
	}
	if f.detach {
		a.say("Term %d is open. Follow it with: %s", answer.Term, followFailover)
		result.Outcome = outcomeDetached
		return a.failedOver(result)
	}
	a.say("Term %d:", answer.Term)
	return a.followFailover(ctx, client, result, f)
}

// followFailover is how to see how a failover goes on that is not followed any more.
const followFailover = "ramctrl status --watch"

func (a *app) failoverQuestion(p reconcile.Preflighted) string {
	if !p.At.IsZero() {
		return fmt.Sprintf("\nPlan it for %s, which is in %s?", a.style().Moment(p.At), render.Elapsed(time.Until(p.At)))
	}
	if p.Loss != nil {
		return fmt.Sprintf("\nMake node %s the primary, and lose what is said above?", p.To)
	}
	return fmt.Sprintf("\nMake node %s the primary instead of %s?", p.To, p.Primary)
}

// What became of a failover or switchover, besides the outcomes of an apply.
const (
	outcomeRefused    = "refused"    // nothing was begun
	outcomeOther      = "other"      // another node is the primary than was asked for
	outcomeBack       = "back"       // the old primary is the primary again
	outcomeSuperseded = "superseded" // a later term was opened meanwhile
)

// failoverResult is failover -o json and switchover -o json.
type failoverResult struct {
	Format  int                  `json:"format"`
	Cause   reconcile.OpenReason `json:"cause"`
	Outcome string               `json:"outcome"`
	Term    uint64               `json:"term"`
	Deposed string               `json:"deposed"`
	// Primary is the new one; empty when it is not known.
	Primary string `json:"primary"`
	// Reason is why the outcome is not as hoped for, or why the primary was chosen.
	Reason    string                 `json:"reason,omitempty"`
	MayLose   string                 `json:"may_lose,omitempty"`
	Event     uint64                 `json:"event,omitempty"`
	ElapsedMS int64                  `json:"elapsed_ms,omitempty"`
	Phases    []phaseResult          `json:"phases,omitempty"`
	Preflight *reconcile.Preflighted `json:"preflight,omitempty"`
	// Planned is the switchover that begins later, or that was cancelled.
	Planned *reconcile.PlannedSwitchover `json:"planned_switchover,omitempty"`
}

// phaseResult is one phase. DoneMS counts from the beginning of the first, and is zero
// unless State is done.
type phaseResult struct {
	Phase  string              `json:"phase"`
	State  reconcile.StepState `json:"state"`
	DoneMS int64               `json:"done_ms"`
}

func (a *app) failedOver(r failoverResult) error {
	if !a.json() {
		return nil
	}
	r.Format = outputFormat
	return a.printJSON(r)
}
