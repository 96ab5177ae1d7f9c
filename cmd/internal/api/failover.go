package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// FailoverRequest asks for another primary, by failover or by switchover.
type FailoverRequest struct {
	// To is the node that is wanted; empty for the best one.
	To string `json:"to,omitempty"`
	// AcceptLoss is the operator's word that acknowledged writes may be lost.
	AcceptLoss bool `json:"accept_data_loss,omitempty"`
	// At is when a switchover is to begin; zero means at once.
	At time.Time `json:"at,omitzero"`
	By string    `json:"by,omitempty"`
	// Term is that of the preflight that was shown; the request is refused when it
	// is over. Nil goes ahead whatever the term is now.
	Term *uint64 `json:"term,omitempty"`
}

// FailoverAnswer says what was begun.
type FailoverAnswer struct {
	// Term is the one that is open now, or the present one when it begins later.
	Term    uint64 `json:"term"`
	Deposed string `json:"deposed"`
	// Target is the node that is to be the primary, as far as can be told.
	Target string `json:"target,omitempty"`
	// Event is the sequence number of the latest event once the term was open.
	Event     uint64                `json:"event"`
	Preflight reconcile.Preflighted `json:"preflight"`
	// Planned is the switchover that begins later; nil for one that has begun.
	Planned *reconcile.PlannedSwitchover `json:"planned_switchover,omitempty"`
}

// CancelSwitchoverRequest cancels the switchover that is planned.
type CancelSwitchoverRequest struct {
	By string `json:"by,omitempty"`
}

// CancelSwitchoverAnswer is what was cancelled.
type CancelSwitchoverAnswer struct {
	Planned reconcile.PlannedSwitchover `json:"planned_switchover"`
}

// VerdictAnswer is a choice of a primary, and the event that tells why its term was
// opened; nil when that is too long ago.
type VerdictAnswer struct {
	reconcile.Choice
	Opened *reconcile.Event `json:"opened,omitempty"`
}

// latestVerdict asks for the choice that was made last, or is being made.
const latestVerdict = "latest"

func (s *Server) preflight(r *http.Request) (any, error) {
	request := FailoverRequest{To: r.URL.Query().Get("to")}
	if text := r.URL.Query().Get("accept_data_loss"); text != "" {
		accept, err := strconv.ParseBool(text)
		if err != nil {
			return nil, Errorf(http.StatusBadRequest, "accept_data_loss: write true or false, not %q", text)
		}
		request.AcceptLoss = accept
	}
	if text := r.URL.Query().Get("at"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, Errorf(http.StatusBadRequest, "at: write a time as in RFC 3339, such as 2026-01-31T03:00:00Z, not %q", text)
		}
		request.At = at
	}
	cause := reconcile.OpenReason(r.PathValue("cause"))
	if cause != reconcile.OpenFailover && cause != reconcile.OpenSwitchover {
		return nil, Errorf(http.StatusNotFound, "there is a preflight of failover and of switchover, not of %q", cause)
	}
	if err := request.check(cause); err != nil {
		return nil, err
	}
	return s.Backend.Preflight(r.Context(), cause, request)
}

func (s *Server) failover(cause reconcile.OpenReason) answerer {
	return body(func(ctx context.Context, r FailoverRequest) (FailoverAnswer, error) {
		if err := r.check(cause); err != nil {
			return FailoverAnswer{}, err
		}
		return s.Backend.Failover(ctx, cause, r)
	})
}

// check refuses what only a switchover that begins now, or one that does not, can have.
func (r FailoverRequest) check(cause reconcile.OpenReason) error {
	switch {
	case r.At.IsZero():
		return nil
	case cause != reconcile.OpenSwitchover:
		return Errorf(http.StatusBadRequest, "only a switchover can be planned for a time: leave at out")
	case r.AcceptLoss:
		return Errorf(http.StatusBadRequest, "a switchover loses nothing: leave accept_data_loss out")
	}
	return nil
}

func (s *Server) verdict(r *http.Request) (any, error) {
	text := r.PathValue("event")
	if text == latestVerdict {
		return s.Backend.Verdict(r.Context(), 0)
	}
	event, err := strconv.ParseUint(text, 10, 64)
	if err != nil || event == 0 {
		return nil, Errorf(http.StatusBadRequest, "%q is not the number of an event: write one of ramctrl events -o json, or latest", text)
	}
	return s.Backend.Verdict(r.Context(), event)
}

// Preflight tells what a failover or switchover would come to now.
func (c *Client) Preflight(ctx context.Context, cause reconcile.OpenReason, request FailoverRequest) (reconcile.Preflighted, error) {
	query := url.Values{}
	query.Set("to", request.To)
	query.Set("accept_data_loss", strconv.FormatBool(request.AcceptLoss))
	if !request.At.IsZero() {
		query.Set("at", request.At.UTC().Format(time.RFC3339))
	}
	return get[reconcile.Preflighted](ctx, c, "/preflight/"+string(cause)+"?"+query.Encode())
}

// Failover begins a failover, or a switchover.
func (c *Client) Failover(ctx context.Context, cause reconcile.OpenReason, request FailoverRequest) (FailoverAnswer, error) {
	return post[FailoverAnswer](ctx, c, "/"+string(cause), request)
}

// CancelSwitchover cancels the planned switchover.
func (c *Client) CancelSwitchover(ctx context.Context, request CancelSwitchoverRequest) (CancelSwitchoverAnswer, error) {
	return post[CancelSwitchoverAnswer](ctx, c, "/switchover/cancel", request)
}

// Verdict is the choice of a primary that an event tells of; event zero is the
// latest, or the one that is being made.
func (c *Client) Verdict(ctx context.Context, event uint64) (VerdictAnswer, error) {
	which := latestVerdict
	if event > 0 {
		which = strconv.FormatUint(event, 10)
	}
	return get[VerdictAnswer](ctx, c, "/verdicts/"+which)
}
