package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ramhq/ram/reconcile"
)

// FailoverRequest asks for another primary, by failover or by switchover.
type FailoverRequest struct {
	// To is the node that is wanted; empty for the best one.
	To string `json:"to,omitempty"`
	// AcceptLoss is the operator's word that acknowledged writes may be lost.
	AcceptLoss bool `json:"accept_data_loss,omitempty"`
	// At is when a switchover is to begin. This version refuses it.
	At string `json:"at,omitempty"`
	By string `json:"by,omitempty"`
	// Term is that of the preflight that was shown; the request is refused when it
	// is over. Nil goes ahead whatever the term is now.
	Term *uint64 `json:"term,omitempty"`
}

// FailoverAnswer says what was begun.
type FailoverAnswer struct {
	// Term is the one that is open now.
	Term    uint64 `json:"term"`
	Deposed string `json:"deposed"`
	// Target is the node that is to be the primary, as far as can be told.
	Target string `json:"target,omitempty"`
	// Event is the sequence number of the latest event once the term was open.
	Event     uint64                `json:"event"`
	Preflight reconcile.Preflighted `json:"preflight"`
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
	cause := reconcile.OpenReason(r.PathValue("cause"))
	if cause != reconcile.OpenFailover && cause != reconcile.OpenSwitchover {
		return nil, Errorf(http.StatusNotFound, "there is a preflight of failover and of switchover, not of %q", cause)
	}
	return s.Backend.Preflight(r.Context(), cause, request)
}

func (s *Server) failover(cause reconcile.OpenReason) answerer {
	return body(func(ctx context.Context, r FailoverRequest) (FailoverAnswer, error) {
		if r.At != "" {
			return FailoverAnswer{}, Errorf(http.StatusNotImplemented, "a switchover at a given time is not built yet in this version of ram: ask for it when it is time, and leave at out")
		}
		return s.Backend.Failover(ctx, cause, r)
	})
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
	return get[reconcile.Preflighted](ctx, c, "/preflight/"+string(cause)+"?"+query.Encode())
}

// Failover begins a failover, or a switchover.
func (c *Client) Failover(ctx context.Context, cause reconcile.OpenReason, request FailoverRequest) (FailoverAnswer, error) {
	return post[FailoverAnswer](ctx, c, "/"+string(cause), request)
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
