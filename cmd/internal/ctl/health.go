package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

func (a *app) healthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Exit with 0 when the cluster is as its spec says, with 1 when not",
		Long: `Say in one line whether the cluster is healthy: it has a quorum, every node is well,
and nothing is left to do. Otherwise the exit code is 1 and the reasons are listed.`,
		Example: `  ramctrl health
  until ramctrl health; do sleep 1; done`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		return a.health(ctx, client)
	})
	return cmd
}

// healthOutput is health -o json.
type healthOutput struct {
	Format  int      `json:"format"`
	Cluster string   `json:"cluster"`
	Healthy bool     `json:"healthy"`
	Reasons []string `json:"reasons"`
}

func (a *app) health(ctx context.Context, client *api.Client) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	out := healthOutput{Format: outputFormat, Cluster: status.Cluster, Reasons: ailments(status)}
	out.Healthy = len(out.Reasons) == 0
	switch {
	case a.json():
		err = a.printJSON(out)
	case out.Healthy:
		a.say("Cluster %s is healthy: primary %s, %d nodes, revision %d.", status.Cluster, status.Primary, len(status.Nodes), status.Revision)
	default:
		a.say("Cluster %s is not healthy:\n  ! %s", status.Cluster, strings.Join(out.Reasons, "\n  ! "))
	}
	if err == nil && !out.Healthy {
		err = exitCode(exitError)
	}
	return err
}

// ailments are why a cluster is not healthy; none when it is.
func ailments(s reconcile.Status) []string {
	reasons := []string{}
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	if !s.Raft.HasQuorum {
		add("the Raft group has no quorum")
	}
	if s.Revision == 0 {
		add("no spec has been applied yet")
	}
	for _, n := range s.Nodes {
		switch {
		case n.Healthy:
		case n.Reason != "":
			add("node %s: %s", n.Name, n.Reason)
		default:
			add("node %s is %s", n.Name, n.State)
		}
	}
	if s.Run != 0 && !s.Converged {
		add("run %d is under way", s.Run)
	}
	if !s.Converged && len(reasons) == 0 {
		add("it is not as the spec says: see ramctrl plan")
	}
	return reasons
}
