package ctl

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// completionPatience is how long somebody who pressed tab waits for a cluster.
const completionPatience = 2 * time.Second

// candidates asks the cluster what a word may be. Text after a tab is a description.
type candidates func(context.Context, *api.Client) ([]string, error)

// ofSpec makes candidates of what is in the spec in force.
func ofSpec(names func(*spec.Cluster) []string) candidates {
	return func(ctx context.Context, client *api.Client) ([]string, error) {
		c, err := specInForce(ctx, client)
		if err != nil {
			return nil, err
		}
		return names(c), nil
	}
}

// complete is silent when the cluster cannot be asked: completion is a help, no more.
func (a *app) complete(cmd *cobra.Command, from candidates, but []string) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	client, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := from(ctx, client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list = slices.DeleteFunc(list, func(text string) bool {
		word, _, _ := strings.Cut(text, "\t")
		return slices.Contains(but, word)
	})
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

func (a *app) completeFlagBy(cmd *cobra.Command, flag string, from candidates) {
	// The only error is a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.complete(cmd, from, nil)
	})
}

func (a *app) completeFlag(cmd *cobra.Command, flag string, names func(*spec.Cluster) []string) {
	a.completeFlagBy(cmd, flag, ofSpec(names))
}

// completeArgs completes arguments, of which there are most at most; zero is any number.
func (a *app) completeArgs(most int, from candidates) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.complete(cmd, from, args)
	}
}

func (a *app) repositoryNames(c *spec.Cluster) []string {
	var names []string
	for _, r := range c.Repositories {
		names = append(names, r.Name)
	}
	return names
}

func (a *app) backupBlocks(c *spec.Cluster) []string {
	var names []string
	for _, b := range c.Backups {
		names = append(names, b.Name)
	}
	return names
}

func (a *app) dataNodeNames(c *spec.Cluster) []string {
	var names []string
	for _, n := range dataNodes(c) {
		names = append(names, n.Name)
	}
	return names
}

// backupIDs are newest first, since that is what is looked for most.
func (a *app) backupIDs(ctx context.Context, client *api.Client) ([]string, error) {
	list, err := client.Backups(ctx, "")
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b api.BackupInfo) int { return b.Finished.Compare(a.Finished) })
	var ids []string
	for _, b := range list {
		about := render.Age(time.Since(b.Finished)) + " old, " + b.Size.Human()
		if b.Broken != "" {
			about = "broken, " + about
		}
		ids = append(ids, b.ID+"\t"+about)
	}
	return ids, nil
}

func (a *app) backupIDsOrLatest(ctx context.Context, client *api.Client) ([]string, error) {
	ids, err := a.backupIDs(ctx, client)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	return append([]string{reconcile.BackupLatest + "\tthe newest"}, ids...), nil
}

func (a *app) jobNumbers(ctx context.Context, client *api.Client) ([]string, error) {
	jobs, err := client.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, j := range slices.Backward(jobs) {
		list = append(list, fmt.Sprintf("%d\t%s, %s", j.Job.ID, j.Job.Title(), j.Job.State))
	}
	return list, nil
}

func (a *app) jobUnderWay(ctx context.Context, client *api.Client) ([]string, error) {
	jobs, err := client.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		if j.Job.State == reconcile.JobRunning {
			return []string{strconv.FormatUint(j.Job.ID, 10) + "\t" + j.Job.Title()}, nil
		}
	}
	return nil, nil
}
