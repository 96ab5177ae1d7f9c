package ctl

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
)

func (a *app) backupListCommand() *cobra.Command {
	var repository string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backups",
		Long: `List the backups in the repositories of the spec, oldest first. PROVED is when one was
last restored and found whole; what is known not to restore is marked as broken, with
the reason.`,
		Example: `  ramctrl backup list
  ramctrl backup list -o json | jq -r '.backups[-1].id'`,
		Args: cobra.NoArgs,
	}
	a.addRepository(cmd, &repository)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		return a.backups(ctx, client, repository)
	})
	return cmd
}

// backupsOutput is backup list -o json.
type backupsOutput struct {
	Format  int              `json:"format"`
	Backups []api.BackupInfo `json:"backups"`
}

func (a *app) backups(ctx context.Context, client *api.Client, repository string) error {
	list, err := client.Backups(ctx, repository)
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b api.BackupInfo) int { return a.Finished.Compare(b.Finished) })
	if a.json() {
		return a.printJSON(backupsOutput{outputFormat, append([]api.BackupInfo{}, list...)})
	}
	if len(list) == 0 {
		a.say("There are no backups yet. Take one with: ramctrl backup create")
		return nil
	}
	return render.Backups(a.sys.Stdout, list, a.style())
}

func (a *app) backupShowCommand() *cobra.Command {
	var repository string
	var objects bool
	cmd := &cobra.Command{
		Use:   "show [ID|latest]",
		Short: "Show all that is known of one backup",
		Long: `Show one backup: when, where and from what it was taken, how large it is, whether it
was proven to restore, and its reach: the stretch of history that can be restored
from it with the WAL in the repository. -v lists the objects that it is stored as.`,
		Example: `  ramctrl backup show
  ramctrl backup show 20261122T030000Z-daily -v`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeArgs(1, a.backupIDsOrLatest),
	}
	a.addRepository(cmd, &repository)
	cmd.Flags().BoolVarP(&objects, "verbose", "v", false, "list its objects too")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		id, err := oneID(args)
		if err != nil {
			return err
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		detail, err := client.Backup(ctx, repository, id)
		if err != nil {
			return err
		}
		if a.json() {
			return a.printJSON(detail)
		}
		return render.Backup(a.sys.Stdout, detail, objects, a.style())
	})
	return cmd
}
