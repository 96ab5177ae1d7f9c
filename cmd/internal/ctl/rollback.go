package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/reconcile"
)

func (a *app) rollbackCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "rollback REV",
		Short: "Apply the spec of an earlier revision again",
		Long: `Plan and apply the spec of an earlier revision, as ramctrl apply does. History is
not undone: the old content becomes a new revision. A file that ramd watches keeps
its newer content; put it back as well.`,
		Example: `  ramctrl history
  ramctrl rollback 3`,
		Args: cobra.ExactArgs(1),
	}
	f.add(cmd)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		number, err := revisionNumber(args[0])
		if err != nil {
			return err
		}
		return a.rollback(ctx, number, f)
	})
	return cmd
}

func (a *app) rollback(ctx context.Context, number uint64, f applyFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	revision, err := client.Revision(ctx, number)
	if err != nil {
		return err
	}
	if revision.Spec == nil {
		return fmt.Errorf("revision %d has no spec any more: see ramctrl history", number)
	}
	p := proposal{spec: revision.Spec, source: revision.Source, cause: reconcile.CauseRollback, message: f.message}
	if p.message == "" {
		p.message = fmt.Sprintf("rollback to revision %d", number)
	}
	return a.apply(ctx, p, f)
}
