package ctl

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
)

func (a *app) backupDeleteCommand() *cobra.Command {
	var f runFlags
	var repository string
	cmd := &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete backups, and the WAL that only they need",
		Long: `Delete backups for good, and with them the WAL that no other backup needs. The spec's
keep rules do this by themselves for the backups of their schedules; by hand it is
for backups with names of their own, and for those that are broken.

Without a terminal to ask at, nothing is deleted unless --auto-approve is given.`,
		Example: `  ramctrl backup delete 20261122T101500Z-before-migration
  ramctrl backup delete --auto-approve 20261101T030000Z-daily 20261102T030000Z-daily`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeArgs(0, a.backupIDs),
	}
	f.add(cmd)
	f.addApprove(cmd)
	a.addRepository(cmd, &repository)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		for _, id := range args {
			if err := checkID(id, false); err != nil {
				return err
			}
		}
		r := api.DeleteRequest{Repository: repository, By: a.sys.User}
		for _, id := range args {
			if !slices.Contains(r.Backups, id) {
				r.Backups = append(r.Backups, id)
			}
		}
		return a.deleteBackups(ctx, r, f)
	})
	return cmd
}

func (a *app) deleteBackups(ctx context.Context, r api.DeleteRequest, f runFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	chosen, err := client.Backups(ctx, r.Repository)
	if err != nil {
		return err
	}
	chosen = slices.DeleteFunc(chosen, func(b api.BackupInfo) bool { return !slices.Contains(r.Backups, b.ID) })
	for _, id := range r.Backups {
		if !slices.ContainsFunc(chosen, func(b api.BackupInfo) bool { return b.ID == id }) {
			return fmt.Errorf("there is no backup %s, nothing was deleted: see ramctrl backup list", id)
		}
	}
	if err := render.Backups(a.people(), chosen, a.style()); err != nil {
		return err
	}
	if err := a.confirm(ctx, deleteQuestion(chosen), f.autoApprove); err != nil {
		return err
	}
	return a.startJob(ctx, f, func(*api.Client) (api.JobAnswer, error) { return client.DeleteBackups(ctx, r) })
}

func deleteQuestion(chosen []api.BackupInfo) string {
	what := "this backup"
	if len(chosen) > 1 {
		what = fmt.Sprintf("these %d backups", len(chosen))
	}
	return fmt.Sprintf("\nDelete %s (%s) for good, and the WAL that no other backup needs?", what, render.Freed(chosen).Human())
}
