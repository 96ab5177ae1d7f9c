package ctl

import (
	"context"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

// outcomePlanned is what became of a switchover that begins later.
const outcomePlanned = "planned"

// moment is the time that an operator wrote: a whole one, or one of the day, which is
// the next that their clock shows.
func (a *app) moment(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	clock, err := time.Parse("15:04", text)
	if err != nil {
		return time.Time{}, usagef("--at %s: write a time of the day as 15:04, or a whole one as 2026-01-31T15:04:00Z", text)
	}
	zone := a.sys.Zone
	if zone == nil {
		zone = time.UTC
	}
	today := now.In(zone)
	at := time.Date(today.Year(), today.Month(), today.Day(), clock.Hour(), clock.Minute(), 0, 0, zone)
	if !at.After(now) {
		at = time.Date(today.Year(), today.Month(), today.Day()+1, clock.Hour(), clock.Minute(), 0, 0, zone)
	}
	return at, nil
}

// planned tells of a switchover that the cluster begins by itself.
func (a *app) planned(answer api.FailoverAnswer, result failoverResult) error {
	p := answer.Planned
	result.Outcome, result.Planned = outcomePlanned, p
	a.say("Planned: %s, in %s. The cluster looks at it again then, and begins it or says why not.", render.Planned(*p, a.style()), render.Elapsed(time.Until(p.At)))
	a.say("See ramctrl status; cancel it with: ramctrl switchover --cancel")
	return a.failedOver(result)
}

func (a *app) cancelSwitchover(ctx context.Context) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	answer, err := client.CancelSwitchover(ctx, api.CancelSwitchoverRequest{By: a.sys.User})
	if err != nil {
		return err
	}
	a.say("Cancelled: %s.", render.Planned(answer.Planned, a.style()))
	return a.failedOver(failoverResult{Cause: reconcile.OpenSwitchover, Outcome: outcomeCancelled, Planned: &answer.Planned})
}
