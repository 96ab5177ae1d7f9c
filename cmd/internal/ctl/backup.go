package ctl

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/pg/backup/ident"
	"github.com/ramhq/ram/reconcile"
)

func (a *app) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Take backups, prove them, and restore from them",
		Long: `Base backups and the WAL that follows them are kept in the repositories that the spec
names. The cluster takes backups, proves them by restoring them, and deletes old
ones on the schedules of the spec's backup blocks; these commands do it by hand.

What takes long is a job of the cluster's own, one at a time: Ctrl-C only stops the
showing, and the job goes on whatever happens to ramctrl.

ID is a backup's, as ramctrl backup list shows it, or latest. --repository is needed
where the spec has several repositories and it is not clear which one is meant.`,
		Example: `  ramctrl backup create
  ramctrl backup list
  ramctrl backup verify latest
  ramctrl backup restore --to-time "2026-11-22 14:05:00"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.backupCreateCommand(), a.backupListCommand(), a.backupShowCommand(), a.backupVerifyCommand(),
		a.backupRestoreCommand(), a.backupPointCommand(), a.backupDeleteCommand(), a.backupCancelCommand(),
		a.backupJobsCommand(), a.backupKeygenCommand(), a.backupTakeoverCommand(),
	)
	return cmd
}

// addRepository adds --repository.
func (a *app) addRepository(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "repository", "", "`NAME` of a repository of the spec")
	a.completeFlag(cmd, "repository", a.repositoryNames)
}

// checkName refuses a name that the cluster would refuse. An empty one is none.
func checkName(name string) error {
	if name == "" {
		return nil
	}
	if err := ident.ValidName(name); err != nil {
		return usageError{err.Error()}
	}
	return nil
}

// checkID refuses what cannot be the ID of a backup.
func checkID(id string, latest bool) error {
	switch {
	case id == reconcile.BackupLatest && latest:
		return nil
	case id == reconcile.BackupLatest:
		return usagef("name backups by their IDs, not as latest: see ramctrl backup list")
	}
	if err := ident.ValidID(id); err != nil {
		return usageError{err.Error()}
	}
	return nil
}

// oneID is the ID among arguments of which there is one at most.
func oneID(args []string) (string, error) {
	if len(args) == 0 {
		return reconcile.BackupLatest, nil
	}
	return args[0], checkID(args[0], true)
}

// jobCalled is a job as sentences name it.
func jobCalled(j reconcile.Job) string { return fmt.Sprintf("job %d (%s)", j.ID, j.Title()) }
