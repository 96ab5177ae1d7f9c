package ctl

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/buildinfo"
)

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of ramctrl and, when reachable, of every ramd",
		Long: `Show which build of ramctrl this is, and which version of ramd runs on each node of
the cluster. Not to reach a cluster is no error.`,
		Example: `  ramctrl version
  ramctrl version --client`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "only ramctrl's own; ask no ramd")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		return a.version(ctx, clientOnly)
	})
	return cmd
}

// versionOutput is version -o json.
type versionOutput struct {
	Format  int           `json:"format"`
	Version string        `json:"version"`
	Commit  string        `json:"commit,omitempty"`
	Date    string        `json:"date,omitempty"`
	Nodes   []nodeVersion `json:"nodes,omitempty"`
	// Unreached is why no ramd's version is known.
	Unreached string `json:"unreached,omitempty"`
}

type nodeVersion struct {
	Node string `json:"node"`
	Ramd string `json:"ramd"`
}

func (a *app) version(ctx context.Context, clientOnly bool) error {
	out := versionOutput{Format: outputFormat, Version: buildinfo.Version, Commit: buildinfo.Commit, Date: buildinfo.Date}
	if !clientOnly {
		nodes, err := a.serverVersions(ctx)
		if err != nil {
			out.Unreached = err.Error()
		}
		out.Nodes = nodes
	}
	if a.json() {
		return a.printJSON(out)
	}
	a.say("ramctrl %s", buildinfo.String())
	for _, n := range out.Nodes {
		a.say("ramd on %s: %s", n.Node, n.Ramd)
	}
	if out.Unreached != "" {
		a.warn("No ramd's version: %s", out.Unreached)
	}
	return nil
}

// versionPatience is how long version, which is often the first thing tried,
// waits for a cluster.
const versionPatience = 3 * time.Second

func (a *app) serverVersions(ctx context.Context) ([]nodeVersion, error) {
	client, err := a.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return nil, explained(err)
	}
	return versionsOf(nodes), nil
}

func versionsOf(nodes []api.NodeInfo) []nodeVersion {
	var versions []nodeVersion
	for _, n := range nodes {
		version := n.Ramd
		if version == "" {
			version = "unknown"
		}
		versions = append(versions, nodeVersion{n.Name, version})
	}
	return versions
}
