package ctl

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
)

func (a *app) pauseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Have the cluster decide nothing until it is resumed",
		Long: `Pause the cluster, for work by hand: it changes nothing by itself, puts no drift
right and begins no step. What runs goes on running. Status says that it is paused.`,
		Example: `  ramctrl pause --reason "moving the rack"`,
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, shown to others as `TEXT`")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		return a.setPause(ctx, (*api.Client).Pause, reason, true)
	})
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume",
		Short: "End a pause",
		Long: `End a pause: the cluster compares itself with its spec again and puts right what
differs. See beforehand what that will be with ramctrl plan.`,
		Example: `  ramctrl plan
  ramctrl resume`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		return a.setPause(ctx, (*api.Client).Resume, "", false)
	})
	return cmd
}

// pauseOutput is pause -o json and resume -o json.
type pauseOutput struct {
	Format int  `json:"format"`
	Paused bool `json:"paused"`
}

type pauseRequest = func(*api.Client, context.Context, api.PauseRequest) error

func (a *app) setPause(ctx context.Context, request pauseRequest, reason string, paused bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	if err := request(client, ctx, api.PauseRequest{Reason: reason, By: a.sys.User}); err != nil {
		return err
	}
	switch {
	case a.json():
		return a.printJSON(pauseOutput{outputFormat, paused})
	case paused:
		a.say("Paused. The cluster decides nothing until: ramctrl resume")
	default:
		a.say("Resumed.")
	}
	return nil
}
