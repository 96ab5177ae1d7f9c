package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

func (a *app) restartCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "restart [NODE...]",
		Short: "Restart PostgreSQL on nodes, one after the other",
		Long: `Restart PostgreSQL on the nodes that are named, or on all: standbys first, one at a
time, the primary last. Each is back and healthy before the next one goes. Clients
of the primary are disconnected while it restarts.`,
		Example: `  ramctrl restart b
  ramctrl restart --auto-approve`,
	}
	f.add(cmd)
	f.addApprove(cmd)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		return a.onNodes(ctx, args, f, nodeAction{
			begin: (*api.Client).Restart,
			question: func(status reconcile.Status) string {
				return restartQuestion(status, args)
			},
		})
	})
	return cmd
}

func (a *app) reloadCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "reload [NODE...]",
		Short: "Have PostgreSQL on nodes read its configuration again",
		Long: `Write the configuration anew and have PostgreSQL read it, on the nodes that are
named or on all. Nobody is disconnected. Changes of the spec need no reload: they
are loaded by the apply.`,
		Example: `  ramctrl reload
  ramctrl reload b c`,
	}
	f.add(cmd)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		return a.onNodes(ctx, args, f, nodeAction{begin: (*api.Client).Reload})
	})
	return cmd
}

func (a *app) reinitCommand() *cobra.Command {
	var f runFlags
	var from, repository string
	cmd := &cobra.Command{
		Use:   "reinit NODE",
		Short: "Clone a standby anew",
		Long: `Replace the data directory of a standby by a new copy of the primary's, or, with
--from backup, by a backup from the repository, to which the WAL that follows is then
added: the primary is not read. The old directory is kept aside until the new one
streams. The primary is never cloned anew.`,
		Example: `  ramctrl reinit b
  ramctrl reinit b --from backup
  ramctrl reinit b --from backup:20261122T030000Z-daily`,
		Args: cobra.ExactArgs(1),
	}
	f.add(cmd)
	f.addApprove(cmd)
	cmd.Flags().StringVar(&from, "from", sourcePrimary, "what to copy, a `SOURCE`: primary, backup (the latest) or backup:ID")
	a.addRepository(cmd, &repository)
	a.completeFlagBy(cmd, "from", a.reinitSources)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		order, err := reinitOrder(from, repository)
		if err != nil {
			return err
		}
		return a.onNodes(ctx, args, f, nodeAction{
			begin: func(client *api.Client, ctx context.Context, r api.NodesRequest) (api.RunStarted, error) {
				r.Restore = order
				return client.Reinit(ctx, r)
			},
			check: func(ctx context.Context, client *api.Client) error { return findRepository(ctx, client, order) },
			question: func(status reconcile.Status) string {
				return reinitQuestion(status, args[0], order)
			},
		})
	})
	return cmd
}

// nodeAction is something an operator asks of nodes beyond the spec.
type nodeAction struct {
	begin func(*api.Client, context.Context, api.NodesRequest) (api.RunStarted, error)
	// check refuses, before anything is asked, what cannot be done; nil refuses nothing.
	check func(context.Context, *api.Client) error
	// question is what to agree to; nil asks nothing.
	question func(reconcile.Status) string
}

func (a *app) onNodes(ctx context.Context, nodes []string, f runFlags, act nodeAction) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	for _, name := range nodes {
		if _, ok := nodeOf(status, name); !ok {
			return usagef("there is no node %q: this cluster has %s", name, strings.Join(nodeNames(status), ", "))
		}
	}
	if act.check != nil {
		if err := act.check(ctx, client); err != nil {
			return err
		}
	}
	if act.question != nil {
		if err := a.confirm(ctx, act.question(status), f.autoApprove); err != nil {
			return err
		}
	}
	started, err := act.begin(client, ctx, api.NodesRequest{Nodes: nodes, By: a.sys.User})
	if err != nil {
		return err
	}
	result := applyResult{Run: started.Run}
	if f.detach || started.Run == 0 {
		a.say("Run %d has begun. Follow it with: ramctrl apply --follow %d", started.Run, started.Run)
		result.Outcome = outcomeDetached
		return a.applied(result)
	}
	a.say("Run %d:", started.Run)
	return a.follow(ctx, client, result, f)
}

func nodeOf(s reconcile.Status, name string) (reconcile.NodeStatus, bool) {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return reconcile.NodeStatus{}, false
}

func nodeNames(s reconcile.Status) []string {
	var names []string
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	return names
}

func restartQuestion(s reconcile.Status, nodes []string) string {
	which := "every node"
	all := len(nodes) == 0
	if !all {
		which = strings.Join(nodes, ", ")
	}
	question := fmt.Sprintf("Restart PostgreSQL on %s of cluster %s, one after the other?", which, s.Cluster)
	for _, name := range nodes {
		all = all || name == s.Primary
	}
	if all && s.Primary != "" {
		question += fmt.Sprintf("\nClients of the primary %s are disconnected, and writes stop until it is back.", s.Primary)
	}
	return question
}

func reinitQuestion(s reconcile.Status, node string, order *reconcile.RestoreOrder) string {
	n, _ := nodeOf(s, node)
	at := ""
	if n.LSN != "" {
		at = fmt.Sprintf(" (it is %s, at %s)", n.State, n.LSN)
	}
	anew := "clone it anew from " + s.Primary
	switch {
	case order != nil && order.Backup == reconcile.BackupLatest:
		anew = "restore it from the latest backup in repository " + order.Repository
	case order != nil:
		anew = fmt.Sprintf("restore it from backup %s in repository %s", order.Backup, order.Repository)
	}
	return fmt.Sprintf("Destroy the data of node %s of cluster %s%s and %s?\nThe old data directory is deleted once the new one streams. Until then the cluster has one standby less.",
		node, s.Cluster, at, anew)
}
