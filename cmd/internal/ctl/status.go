package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
)

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the cluster and of every node",
		Long: `Show the primary, the Raft group, every node with its role, state, position in the
WAL and lag, and whatever keeps the cluster from being as the spec says.

-o json prints a form that scripts can rely on. SEEN is the time since a node's last
report; SYNC says whether commits wait for the standby (quorum) or not (async).`,
		Example: `  ramctrl status
  ramctrl status --watch
  ramctrl status -o json | jq -r .primary`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every second until Ctrl-C")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		if watch {
			return a.watchStatus(ctx, client)
		}
		return a.status(ctx, client)
	})
	return cmd
}

func (a *app) status(ctx context.Context, client *api.Client) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(status)
	}
	return render.Status(a.sys.Stdout, status, a.style())
}

// watchStatus shows the status until Ctrl-C. On a terminal each replaces the one
// before; JSON comes as one document after the other.
func (a *app) watchStatus(ctx context.Context, client *api.Client) error {
	tick := time.NewTicker(a.pace.redraw)
	defer tick.Stop()
	for {
		if err := a.redrawStatus(ctx, client); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) redrawStatus(ctx context.Context, client *api.Client) error {
	if a.json() {
		return ignoreCtrlC(ctx, a.status(ctx, client))
	}
	status, err := client.Status(ctx)
	var screen bytes.Buffer
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, api.ErrUnreachable), errors.Is(err, api.ErrUnavailable):
		fmt.Fprintf(&screen, "%s\n", a.style().Bad(err.Error()))
	case err != nil:
		return err
	default:
		if err := render.Status(&screen, status, a.style()); err != nil {
			return err
		}
	}
	if a.sys.InteractiveOut {
		fmt.Fprint(a.sys.Stdout, "\x1b[H\x1b[2J")
	}
	_, err = fmt.Fprintf(a.sys.Stdout, "%s\n", screen.Bytes())
	return err
}

// ignoreCtrlC takes the end of something endless for what it is.
func ignoreCtrlC(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
