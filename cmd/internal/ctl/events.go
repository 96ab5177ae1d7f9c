package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

type eventsFlags struct {
	follow bool
	node   string
	limit  int
}

func (a *app) eventsCommand() *cobra.Command {
	var f eventsFlags
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened, with reasons",
		Long: `Show the latest events, oldest first: specs accepted, steps begun and done, drift
found and put right, members that came and went; each with its reason.

-o json prints one event a line.`,
		Example: `  ramctrl events
  ramctrl events --follow
  ramctrl events --node b --limit 200
  ramctrl events -o json | jq -r 'select(.severity == "error") | .message'`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with what happens, until Ctrl-C")
	cmd.Flags().StringVar(&f.node, "node", "", "only events about this `NODE`")
	cmd.Flags().IntVarP(&f.limit, "limit", "n", 50, "how many of the latest to begin with, a `NUMBER`")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		if f.limit < 1 {
			return usagef("--limit %d: write 1 or more", f.limit)
		}
		client, err := a.client()
		if err != nil {
			return err
		}
		return a.events(ctx, client, f)
	})
	return cmd
}

// allEvents is more than a record keeps.
const allEvents = 10_000

func (a *app) events(ctx context.Context, client *api.Client, f eventsFlags) error {
	ask := f.limit
	if f.node != "" {
		ask = allEvents // the latest of one node may be far back
	}
	answer, err := client.LatestEvents(ctx, ask)
	if err != nil {
		return err
	}
	events := about(answer.Events, f.node)
	if len(events) > f.limit {
		events = events[len(events)-f.limit:]
	}
	if err := a.showEvents(events); err != nil {
		return err
	}
	if !f.follow {
		return nil
	}
	return a.followEvents(ctx, client, answer.Last, f.node)
}

// followEvents shows events as they come. The cluster may go away and come back.
func (a *app) followEvents(ctx context.Context, client *api.Client, after uint64, node string) error {
	for ctx.Err() == nil {
		answer, err := client.EventsAfter(ctx, after, allEvents, a.pace.wait)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, api.ErrUnreachable), errors.Is(err, api.ErrUnavailable):
			wait(ctx, a.pace.redraw)
			continue
		case err != nil:
			return err
		}
		if err := a.showEvents(about(answer.Events, node)); err != nil {
			return err
		}
		if answer.Last <= after && len(answer.Events) == 0 {
			wait(ctx, a.pace.poll) // a server that does not wait is not pestered
		}
		after = max(after, answer.Last)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// about keeps the events of one node; of all when none is named.
func about(events []reconcile.Event, node string) []reconcile.Event {
	if node == "" {
		return events
	}
	var of []reconcile.Event
	for _, e := range events {
		if e.Node == node {
			of = append(of, e)
		}
	}
	return of
}

func (a *app) showEvents(events []reconcile.Event) error {
	if !a.json() {
		return render.Events(a.sys.Stdout, events, a.style())
	}
	encoder := json.NewEncoder(a.sys.Stdout)
	encoder.SetEscapeHTML(false)
	for _, e := range events {
		if err := encoder.Encode(e); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}
