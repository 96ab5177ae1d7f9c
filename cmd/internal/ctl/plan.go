package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

type planFlags struct {
	specFlags
	out, observed, saveObserved string
	detailed                    bool
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan [SPEC]",
		Short: "Show what would change to make the cluster what the spec says",
		Long: `Show what an apply would do: which objects change (+ ~ -), the steps in their
order with the reason for each, what restarts, what is cloned and how large it is,
whether writes are interrupted, what is destroyed, and what is in the way.
Nothing is changed.

SPEC is a file or a directory of *.hcl files. Without it, --spec, RAM_SPEC and
./cluster.hcl are looked at, in this order; without any of them the spec in force
is planned, which shows drift.

With --observed, the plan is made on this machine from a file that
--save-observed has written, and no ramd is asked.

With --detailed-exitcode: 0 nothing to do, 1 error (also when something is in the
way and nothing can be done), 2 changes.`,
		Example: `  ramctrl plan cluster.hcl
  ramctrl plan cluster.hcl --out next.plan && ramctrl apply next.plan
  ramctrl plan --detailed-exitcode
  ramctrl plan cluster.hcl --save-observed now.json
  ramctrl plan other.hcl --observed now.json`,
		Args: cobra.MaximumNArgs(1),
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.out, "out", "", "save the plan to a `FILE` for ramctrl apply FILE")
	cmd.Flags().StringVar(&f.observed, "observed", "", "plan offline, from a `FILE` that --save-observed wrote")
	cmd.Flags().StringVar(&f.saveObserved, "save-observed", "", "save what plans are made from to a `FILE`")
	cmd.Flags().BoolVar(&f.detailed, "detailed-exitcode", false, "exit with 2 when there are changes")
	cmd.MarkFlagsMutuallyExclusive("observed", "save-observed")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		return a.plan(ctx, f, args)
	})
	return cmd
}

func (a *app) plan(ctx context.Context, f planFlags, args []string) error {
	p, err := a.propose(f.specFlags, args, false)
	if err != nil {
		return err
	}
	answer, err := a.planOf(ctx, f, p)
	if err != nil {
		return err
	}
	if err := a.showPlan(answer.Plan); err != nil {
		return err
	}
	if answer.Plan.Refused() {
		return errors.New("the spec is refused for the reasons above")
	}
	if f.out != "" {
		if err := a.savePlan(f.out, answer, p.source); err != nil {
			return err
		}
	}
	if !f.detailed {
		return nil
	}
	return detailedExit(answer.Plan)
}

func detailedExit(p reconcile.Plan) error {
	switch {
	case !p.Empty():
		return exitCode(exitChanges)
	case len(p.Blocked) > 0:
		return errors.New("the cluster is not as the spec says, and nothing can be done now")
	}
	return nil
}

func (a *app) planOf(ctx context.Context, f planFlags, p proposal) (api.PlanAnswer, error) {
	if f.observed != "" {
		return planOffline(f.observed, p)
	}
	client, err := a.client()
	if err != nil {
		return api.PlanAnswer{}, err
	}
	if f.saveObserved != "" {
		if err := a.saveObserved(ctx, client, f.saveObserved); err != nil {
			return api.PlanAnswer{}, err
		}
	}
	return client.Plan(ctx, api.PlanRequest{Spec: p.spec})
}

// planOffline plans in this process from a file.
func planOffline(path string, p proposal) (api.PlanAnswer, error) {
	var file api.ObservedFile
	text, err := os.ReadFile(path)
	if err != nil {
		return api.PlanAnswer{}, fmt.Errorf("read what was observed: %w", err)
	}
	if err := json.Unmarshal(text, &file); err != nil || file.Format == 0 || file.Record == nil {
		return api.PlanAnswer{}, fmt.Errorf("%s is not a file of ramctrl plan --save-observed: name one", path)
	}
	if file.Format > api.ObservedFormat || file.Record.Format > reconcile.RecordFormat {
		return api.PlanAnswer{}, fmt.Errorf("%s was saved by a newer ramctrl: plan with that one", path)
	}
	want := p.spec
	if want == nil {
		want = file.Record.Spec
	}
	if want == nil {
		return api.PlanAnswer{}, usagef("%s has no spec in force: name the spec to plan", path)
	}
	return api.PlanAnswer{Plan: reconcile.Diff(want, file.Record, file.Observed), Spec: want}, nil
}

func (a *app) saveObserved(ctx context.Context, client *api.Client, path string) error {
	file, err := client.Observed(ctx)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return fmt.Errorf("encode what was observed: %w", err)
	}
	if err := renameio.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("save what was observed: %w", err)
	}
	a.warn("Saved what was observed to %s.", path)
	return nil
}

func (a *app) showPlan(p reconcile.Plan) error {
	if a.json() {
		return a.printJSON(p)
	}
	return render.Plan(a.sys.Stdout, p, a.style())
}

func (a *app) savePlan(path string, answer api.PlanAnswer, source string) error {
	saved := savedPlan{Kind: savedPlanKind, Format: savedPlanFormat, Plan: answer.Plan, Spec: answer.Spec, Source: source}
	if err := saved.save(path); err != nil {
		return err
	}
	a.warn("Saved the plan. Apply it with: ramctrl apply %s", path)
	return nil
}
