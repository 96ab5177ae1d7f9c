package ctl

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

var jobKinds = []string{
	string(reconcile.JobBackup), string(reconcile.JobVerify), string(reconcile.JobPrune), string(reconcile.JobPoint),
}

type jobsFlags struct {
	runFlags
	kind   string
	limit  int
	follow uint64
}

func (a *app) backupJobsCommand() *cobra.Command {
	var f jobsFlags
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "List what was done on backups and what is under way, or follow it",
		Long: `List the latest jobs, oldest first, the one under way last: backups, proofs, deletions
and restore points, of schedules and of operators, with what became of each.

--follow shows one until it ends, as the command that began it did.`,
		Example: `  ramctrl backup jobs
  ramctrl backup jobs --kind verify --limit 5
  ramctrl backup jobs --follow 12`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&f.kind, "kind", "", "only jobs of this `KIND`: "+strings.Join(jobKinds, ", "))
	cmd.Flags().IntVarP(&f.limit, "limit", "n", 20, "how many of the latest, a `NUMBER` (0: all)")
	cmd.Flags().Uint64Var(&f.follow, "follow", 0, "list nothing, show the `JOB` with this number")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "stop following after this `TIME`, such as 10m, with exit code 1; the job goes on (0: never)")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(jobKinds, cobra.ShellCompDirectiveNoFileComp))
	a.completeFlagBy(cmd, "follow", a.jobNumbers)
	cmd.RunE = a.do(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		if f.kind != "" && !slices.Contains(jobKinds, f.kind) {
			return usagef("--kind %s: write one of %s", f.kind, strings.Join(jobKinds, ", "))
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("follow") {
			return a.followJobAgain(ctx, client, f)
		}
		return a.jobs(ctx, client, f)
	})
	return cmd
}

func (a *app) followJobAgain(ctx context.Context, client *api.Client, f jobsFlags) error {
	answer := api.JobAnswer{Job: reconcile.Job{ID: f.follow}}
	last, end := a.followJob(ctx, client, answer, f.timeout)
	return a.tellJob(last, end)
}

// jobsOutput is backup jobs -o json.
type jobsOutput struct {
	Format int             `json:"format"`
	Jobs   []api.JobAnswer `json:"jobs"`
}

func (a *app) jobs(ctx context.Context, client *api.Client, f jobsFlags) error {
	jobs, err := client.Jobs(ctx)
	if err != nil {
		return err
	}
	if f.kind != "" {
		jobs = slices.DeleteFunc(jobs, func(j api.JobAnswer) bool { return string(j.Job.Kind) != f.kind })
	}
	if f.limit > 0 && len(jobs) > f.limit {
		jobs = jobs[len(jobs)-f.limit:]
	}
	if a.json() {
		return a.printJSON(jobsOutput{outputFormat, append([]api.JobAnswer{}, jobs...)})
	}
	if len(jobs) == 0 {
		a.say("There was no such job yet. Take a backup with: ramctrl backup create")
		return nil
	}
	return render.Jobs(a.sys.Stdout, jobs, a.style())
}

func (a *app) backupCancelCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "cancel [JOB]",
		Short: "Give up the job that is under way",
		Long: `Give up a backup, a proof or a deletion, the one under way when no number is given,
and wait until its node has stopped it. What a cancelled backup has stored is never
to be seen as a backup, and is removed later.`,
		Example: `  ramctrl backup cancel
  ramctrl backup cancel 12`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeArgs(1, a.jobUnderWay),
	}
	f.add(cmd)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		r := api.CancelRequest{By: a.sys.User}
		if len(args) == 1 {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || id == 0 {
				return usagef("%q is not the number of a job: see ramctrl backup jobs", args[0])
			}
			r.Job = id
		}
		return a.cancelJob(ctx, r, f)
	})
	return cmd
}

func (a *app) cancelJob(ctx context.Context, r api.CancelRequest, f runFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	answer, err := client.CancelJob(ctx, r)
	if err != nil {
		return err
	}
	if f.detach {
		a.say("%s is being given up.", capital(jobCalled(answer.Job)))
		return a.jobEnded(answer, ending{outcome: outcomeDetached})
	}
	last, end := a.followJob(ctx, client, answer, f.timeout)
	switch end.outcome {
	case outcomeCancelled:
		a.say("%s is cancelled: %s.", capital(jobCalled(last.Job)), afterCancel(last.Job))
		return a.jobEnded(last, end)
	case outcomeDone, outcomeFailed:
		if err := a.jobEnded(last, end); err != nil {
			return err
		}
		return fmt.Errorf("%s had ended before it could be given up: it is %s; see ramctrl backup jobs", jobCalled(last.Job), last.Job.State)
	}
	return a.tellJob(last, end)
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
