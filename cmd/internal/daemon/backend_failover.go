package daemon

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

// Preflight is api.Backend's.
func (b backend) Preflight(_ context.Context, cause reconcile.OpenReason, r api.FailoverRequest) (reconcile.Preflighted, error) {
	l, err := b.now()
	if err != nil {
		return reconcile.Preflighted{}, err
	}
	return l.preflight(l.machine.Record(), cause, r)
}

func (l *life) preflight(rec *reconcile.Record, cause reconcile.OpenReason, r api.FailoverRequest) (reconcile.Preflighted, error) {
	if !l.leader.Informed() {
		return reconcile.Preflighted{}, api.Errorf(http.StatusServiceUnavailable, "the leader was elected just now and has not heard of every node yet: try again in a few seconds")
	}
	if !r.At.IsZero() {
		return reconcile.PreflightAt(rec, l.leader.Observed(), r.To, r.At, time.Now()), nil
	}
	return reconcile.Preflight(rec, l.leader.Observed(), cause, r.To, r.AcceptLoss), nil
}

// Failover is api.Backend's. It opens a term when nothing speaks against it, or plans
// the switchover; the leader's loop does the rest.
func (b backend) Failover(ctx context.Context, cause reconcile.OpenReason, r api.FailoverRequest) (api.FailoverAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.FailoverAnswer{}, err
	}
	rec := l.machine.Record()
	if r.Term != nil && *r.Term != rec.Term {
		return api.FailoverAnswer{}, api.Errorf(http.StatusConflict, "term %d is over, it is term %d now: look at ramctrl status, and ask again if it is still wanted", *r.Term, rec.Term)
	}
	p, err := l.preflight(rec, cause, r)
	if err != nil {
		return api.FailoverAnswer{}, err
	}
	if p.Refused() {
		return api.FailoverAnswer{}, api.Errorf(http.StatusConflict, "%s", strings.Join(p.Refusals, "; "))
	}
	if !r.At.IsZero() {
		return l.planSwitchover(ctx, rec, r, p)
	}
	open := reconcile.OpenFor(rec, cause, r.To, r.AcceptLoss)
	after, err := l.ledger().propose(ctx, reconcile.Command{At: time.Now().UTC(), By: r.By, Open: open})
	if err != nil {
		return api.FailoverAnswer{}, err
	}
	push := l.push(context.WithoutCancel(ctx)) // the request may be over before it has arrived
	for _, a := range open.Assign {
		push(a.Node, a.Assignment)
	}
	return api.FailoverAnswer{Term: after.Term, Deposed: open.Opening.Deposed, Target: p.To, Event: after.LastEvent, Preflight: p}, nil
}

func (l *life) planSwitchover(ctx context.Context, rec *reconcile.Record, r api.FailoverRequest, p reconcile.Preflighted) (api.FailoverAnswer, error) {
	after, err := l.ledger().propose(ctx, reconcile.Command{At: time.Now().UTC(), By: r.By, Planned: rec.Replace(r.To, r.At)})
	if err != nil {
		return api.FailoverAnswer{}, err
	}
	return api.FailoverAnswer{Term: after.Term, Deposed: after.Primary, Target: p.To, Event: after.LastEvent, Preflight: p, Planned: after.Planned}, nil
}

// CancelSwitchover is api.Backend's.
func (b backend) CancelSwitchover(ctx context.Context, r api.CancelSwitchoverRequest) (api.CancelSwitchoverAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.CancelSwitchoverAnswer{}, err
	}
	planned := l.machine.Record().Planned
	if planned == nil {
		return api.CancelSwitchoverAnswer{}, api.Errorf(http.StatusConflict, "no switchover is planned, nothing was changed: see ramctrl events")
	}
	if _, err := l.ledger().propose(ctx, reconcile.Command{At: time.Now().UTC(), By: r.By, Planned: planned.Forget("")}); err != nil {
		return api.CancelSwitchoverAnswer{}, err
	}
	return api.CancelSwitchoverAnswer{Planned: *planned}, nil
}

// Verdict is api.Backend's.
func (b backend) Verdict(_ context.Context, event uint64) (api.VerdictAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.VerdictAnswer{}, err
	}
	rec := l.machine.Record()
	opened := openedBefore(rec, rec.LastEvent)
	if rec.Opening != nil && (event == 0 || opened != nil && opened.Seq == event) {
		in := reconcile.FailoverInputOf(rec, l.leader.Observed())
		c := reconcile.Choice{At: time.Now().UTC(), Input: in, Verdict: reconcile.Failover(in)}
		return api.VerdictAnswer{Choice: c, Opened: opened}, nil
	}
	if c, ok := verdictOf(rec, event); ok {
		return api.VerdictAnswer{Choice: c, Opened: openedBefore(rec, c.Event)}, nil
	}
	return api.VerdictAnswer{}, api.Errorf(http.StatusNotFound, "%s", noVerdict(rec, event))
}

// verdictOf is the choice that an event tells of, or that ended what it began.
func verdictOf(rec *reconcile.Record, event uint64) (reconcile.Choice, bool) {
	if n := len(rec.Verdicts); event == 0 && n > 0 {
		return rec.Verdicts[n-1], true
	}
	opens := false
	for _, e := range rec.Events {
		opens = opens || e.Seq == event && e.Kind == reconcile.EventFailover
	}
	for _, c := range rec.Verdicts {
		if c.Event == event && event > 0 || opens && c.Event > event {
			return c, true
		}
	}
	return reconcile.Choice{}, false
}

// openedBefore is the event of the opening that a choice ended.
func openedBefore(rec *reconcile.Record, choice uint64) *reconcile.Event {
	for _, e := range slices.Backward(rec.Events) {
		if e.Kind == reconcile.EventFailover && e.Seq <= choice {
			return &e
		}
	}
	return nil
}

func noVerdict(rec *reconcile.Record, event uint64) string {
	if len(rec.Verdicts) == 0 {
		return "no primary has been chosen yet: the first one is the first node of the spec"
	}
	var known []string
	for _, c := range rec.Verdicts {
		known = append(known, strconv.FormatUint(c.Event, 10))
	}
	return "event " + strconv.FormatUint(event, 10) + " is not about the choice of a primary, or is too long ago: name one of " + strings.Join(known, ", ")
}
