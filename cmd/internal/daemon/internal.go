package daemon

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/agent"
)

// internalHandler answers other ramds.
func (d *Daemon) internalHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHello, func(w http.ResponseWriter, _ *http.Request) {
		l := d.life.Load()
		if l == nil {
			api.WriteError(w, errStarting)
			return
		}
		api.WriteData(w, l.hello())
	})
	mux.HandleFunc("POST "+pathFound, handle(d, false, func(l *life, r *http.Request, in founding) (struct{}, error) {
		return struct{}{}, l.beFounded(r.Context(), in)
	}))
	mux.HandleFunc("POST "+pathJoin, atLeader(d, handle(d, false, func(l *life, r *http.Request, in joining) (identity, error) {
		return l.admit(r.Context(), in)
	})))
	mux.HandleFunc("POST "+pathReport, atLeader(d, handle(d, true, func(l *life, r *http.Request, in reconcile.Report) (agent.Answer, error) {
		return l.takeReport(r.Context(), in)
	})))
	mux.HandleFunc("POST "+pathAssign, handle(d, true, func(l *life, _ *http.Request, in agent.Answer) (struct{}, error) {
		l.agent.Assign(in)
		return struct{}{}, nil
	}))
	mux.HandleFunc("POST "+pathWatch, handle(d, true, func(l *life, r *http.Request, in watched) (string, error) {
		return l.takeWatched(r.Context(), in)
	}))
	mux.HandleFunc("POST "+pathBeat, handle(d, true, func(l *life, r *http.Request, in reconcile.Beat) (reconcile.Confirmation, error) {
		return l.takeBeat(r.Context(), in)
	}))
	mux.HandleFunc("POST "+pathAsk, handle(d, true, func(_ *life, r *http.Request, in asking) (bool, error) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Duration(in.WithinMS)*time.Millisecond)
		defer cancel()
		return answers(ctx, in.Address), nil
	}))
	mux.HandleFunc("POST "+pathBar, handle(d, true, func(l *life, _ *http.Request, in barring) (struct{}, error) {
		l.pulse.bar(in.Term)
		return struct{}{}, nil
	}))
	return mux
}

var errStarting = api.Errorf(http.StatusServiceUnavailable, "this ramd is starting, or there is no leader; try again in a few seconds")

// atLeader has the leader answer.
func atLeader(d *Daemon, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		l := d.life.Load()
		switch {
		case l == nil:
			api.WriteError(w, errStarting)
		case l.Leads():
			next(w, r)
		case !l.Forward(w, r):
			api.WriteError(w, errStarting)
		}
	}
}

// handle decodes a request for the current life; peer ones need the peer token.
func handle[In, Out any](d *Daemon, peer bool, f func(*life, *http.Request, In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		l := d.life.Load()
		if l == nil {
			api.WriteError(w, errStarting)
			return
		}
		if peer && !api.HasToken(r, l.peerToken()) {
			api.WriteError(w, api.Errorf(http.StatusUnauthorized, "this path is for ramds of the same cluster"))
			return
		}
		var in In
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<20)).Decode(&in); err != nil {
			api.WriteError(w, api.Errorf(http.StatusBadRequest, "request body: %s", err))
			return
		}
		out, err := f(l, r, in)
		if err != nil {
			api.WriteError(w, err)
			return
		}
		api.WriteData(w, out)
	}
}
