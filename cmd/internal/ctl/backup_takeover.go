package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
)

func (a *app) backupTakeoverCommand() *cobra.Command {
	var approve bool
	var repository string
	cmd := &cobra.Command{
		Use:   "takeover",
		Short: "Make this cluster the owner of a repository whose cluster is gone for good",
		Long: `A repository belongs to one cluster: only that one writes there. A cluster that began
from a backup (bootstrap) has the same origin as the one whose backup it was, and may
go on in its repository when that cluster is gone for good.

One that was emptied on purpose, and that ramd takes for a file system that is not
mounted, is begun anew with this command too.

The former owner is refused from then on. If it still runs, its WAL is no longer
archived and piles up on its disk.`,
		Example: `  ramctrl backup takeover
  ramctrl backup takeover --repository main --auto-approve`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&approve, "auto-approve", false, "do not ask")
	a.addRepository(cmd, &repository)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		r := api.TakeoverRequest{Repository: repository, By: a.sys.User, DryRun: true}
		found, err := client.TakeOver(ctx, r)
		if err != nil {
			return err
		}
		if found.Own {
			return a.showOwner(found, "belongs to this cluster already")
		}
		question := fmt.Sprintf("Repository %s belongs to cluster %s (id %s) since %s.\nIs that cluster gone for good, and is this one to take the repository over?",
			found.Repository, found.Cluster, found.ClusterID, found.Since.Local().Format("2006-01-02 15:04:05"))
		if found.ClusterID == "" {
			question = fmt.Sprintf("Repository %s is empty and belongs to nobody.\nIs this cluster to begin it anew?", found.Repository)
		}
		if err := a.confirm(ctx, question, approve); err != nil {
			return err
		}
		r.DryRun = false
		if found, err = client.TakeOver(ctx, r); err != nil {
			return err
		}
		return a.showOwner(found, "belongs to this cluster now")
	})
	return cmd
}

func (a *app) showOwner(found api.TakeoverAnswer, words string) error {
	if a.json() {
		return a.printJSON(found)
	}
	_, err := fmt.Fprintf(a.sys.Stdout, "Repository %s %s.\n", found.Repository, words)
	return err
}
