package ctl

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/spec"
)

func (a *app) backupCreateCommand() *cobra.Command {
	var f runFlags
	var r api.BackupRequest
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Take a backup now",
		Long: `Take a base backup now, beside any schedule, and show how far it has come. It becomes
visible when all of it is safe in the repository, and not before; one that fails or
is cancelled leaves nothing to be seen.

Where it goes and which server it is read from is what the spec's backup block says,
unless flags say otherwise. From standby is the primary when no standby is fit.
A backup with a --name of its own is kept until it is deleted by hand.

Ctrl-C only stops the showing. Exit code 1 also means that the backup failed.`,
		Example: `  ramctrl backup create
  ramctrl backup create --name before-migration
  ramctrl backup create --from primary --detach`,
		Args: cobra.NoArgs,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&r.Name, "name", "", "what to call it, a `NAME` (default: the backup block's)")
	cmd.Flags().StringVar(&r.From, "from", "", "which `SERVER` to read: standby, primary or a node's name")
	cmd.Flags().StringVar(&r.Schedule, "schedule", "", "the `BLOCK` of the spec that it is like, where there are several")
	a.addRepository(cmd, &r.Repository)
	a.completeFlag(cmd, "from", a.backupSources)
	a.completeFlag(cmd, "schedule", a.backupBlocks)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		if err := checkName(r.Name); err != nil {
			return err
		}
		r.By = a.sys.User
		return a.startJob(ctx, f, func(client *api.Client) (api.JobAnswer, error) { return client.CreateBackup(ctx, r) })
	})
	return cmd
}

func (a *app) backupVerifyCommand() *cobra.Command {
	var f runFlags
	var r api.VerifyRequest
	cmd := &cobra.Command{
		Use:   "verify [ID|latest]",
		Short: "Prove a backup by restoring it",
		Long: `Restore a backup into a scratch directory on a node that has room for it, start
PostgreSQL on it without a network, recover to the backup's end, check every page's
checksum and, where the amcheck extension is there, every index, and remove it all
again. The result is kept with the backup. Nothing of the cluster's data is touched.

--quick restores nothing: it reads what is stored and compares checksums, which finds
damage in the repository, and proves nothing about what is in the backup.

Ctrl-C only stops the showing. Exit code 1 also means that the backup does not hold.`,
		Example: `  ramctrl backup verify
  ramctrl backup verify 20261122T030000Z-daily --node c
  ramctrl backup verify latest --quick`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeArgs(1, a.backupIDsOrLatest),
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&r.Quick, "quick", false, "only compare what is stored with its checksums")
	cmd.Flags().StringVar(&r.Node, "node", "", "restore it on this `NODE` (default: one that has room, standbys first)")
	a.addRepository(cmd, &r.Repository)
	a.completeFlag(cmd, "node", a.dataNodeNames)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		var err error
		if r.Backup, err = oneID(args); err != nil {
			return err
		}
		r.By = a.sys.User
		return a.startJob(ctx, f, func(client *api.Client) (api.JobAnswer, error) { return client.VerifyBackup(ctx, r) })
	})
	return cmd
}

func (a *app) backupPointCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "point NAME",
		Short: "Write a named restore point that can be restored to",
		Long: `Write a restore point into the WAL, under a name by which the cluster can be restored
to exactly this moment: before a migration, before a large delete. It can be used as
soon as the WAL that holds it is in the repository.`,
		Example: `  ramctrl backup point before-migration
  ramctrl backup restore --to-point before-migration`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		if args[0] == "" {
			return usagef("a restore point needs a name")
		}
		if err := checkName(args[0]); err != nil {
			return err
		}
		r := api.PointRequest{Name: args[0], By: a.sys.User}
		return a.startJob(ctx, f, func(client *api.Client) (api.JobAnswer, error) { return client.RestorePoint(ctx, r) })
	})
	return cmd
}

// backupSources are what --from takes.
func (a *app) backupSources(c *spec.Cluster) []string {
	return append([]string{spec.FromStandby, spec.FromPrimary}, a.dataNodeNames(c)...)
}
