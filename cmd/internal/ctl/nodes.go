package ctl

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
)

func (a *app) nodesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes with ports, votes, versions and data directories",
		Long: `List what the nodes are rather than how they are: addresses and ports, whether they
vote in Raft, priority, the version of their ramd, and where their data is.
-o json adds each agent's whole report.`,
		Example: `  ramctrl nodes
  ramctrl nodes -o json | jq '.nodes[] | {name, ramd}'`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		return a.nodes(ctx)
	})
	return cmd
}

// nodesOutput is nodes -o json.
type nodesOutput struct {
	Format int            `json:"format"`
	Nodes  []api.NodeInfo `json:"nodes"`
}

func (a *app) nodes(ctx context.Context) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(nodesOutput{outputFormat, append([]api.NodeInfo{}, nodes...)})
	}
	return render.Nodes(a.sys.Stdout, nodes, a.style())
}
