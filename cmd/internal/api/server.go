package api

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/reconcile"
)

// Backend does what requests ask for. Methods of the first group are called on
// the leader only.
type Backend interface {
	Status(ctx context.Context) (reconcile.Status, error)
	Nodes(ctx context.Context) ([]NodeInfo, error)
	Plan(ctx context.Context, r PlanRequest) (PlanAnswer, error)
	Apply(ctx context.Context, r ApplyRequest) (ApplyAnswer, error)
	Observed(ctx context.Context) (ObservedFile, error)
	Spec(ctx context.Context) (SpecAnswer, error)
	History(ctx context.Context) ([]reconcile.Revision, error)
	Revision(ctx context.Context, number uint64) (reconcile.Revision, error)
	Events(ctx context.Context, after uint64, limit int, wait time.Duration) (EventsAnswer, error)
	Runs(ctx context.Context) ([]reconcile.Run, error)
	Run(ctx context.Context, id uint64) (RunAnswer, error)
	Ask(ctx context.Context, cause reconcile.Cause, r NodesRequest) (RunStarted, error)
	Pause(ctx context.Context, paused bool, r PauseRequest) error
	Credentials(ctx context.Context) (Credentials, error)
	// Preflight tells what Failover would come to now. Verdict of event zero is the
	// latest choice of a primary, or the one that is being made.
	Preflight(ctx context.Context, cause reconcile.OpenReason, r FailoverRequest) (reconcile.Preflighted, error)
	Failover(ctx context.Context, cause reconcile.OpenReason, r FailoverRequest) (FailoverAnswer, error)
	CancelSwitchover(ctx context.Context, r CancelSwitchoverRequest) (CancelSwitchoverAnswer, error)
	Verdict(ctx context.Context, event uint64) (VerdictAnswer, error)

	Backups(ctx context.Context, repository string) ([]BackupInfo, error)
	Backup(ctx context.Context, repository, id string) (BackupDetail, error)
	CreateBackup(ctx context.Context, r BackupRequest) (JobAnswer, error)
	VerifyBackup(ctx context.Context, r VerifyRequest) (JobAnswer, error)
	DeleteBackups(ctx context.Context, r DeleteRequest) (JobAnswer, error)
	RestorePoint(ctx context.Context, r PointRequest) (JobAnswer, error)
	CancelJob(ctx context.Context, r CancelRequest) (JobAnswer, error)
	Restore(ctx context.Context, r RestoreRequest) (RestoreAnswer, error)
	TakeOver(ctx context.Context, r TakeoverRequest) (TakeoverAnswer, error)
	Jobs(ctx context.Context) ([]JobAnswer, error)
	Job(ctx context.Context, id uint64) (JobAnswer, error)

	// Info, Stop and Health are about the ramd that is asked.
	Info(ctx context.Context) (Info, error)
	Stop(ctx context.Context, r StopRequest) error
	Health(ctx context.Context) Health
}

// Health is what load balancers ask of one node.
type Health struct {
	Node    string         `json:"node"`
	Role    reconcile.Role `json:"role"`
	Running bool           `json:"running"`
	State   string         `json:"state"`
}

// Access is who may do what.
type Access interface {
	// AdminToken is empty while the cluster has not been formed.
	AdminToken() string
}

// Forwarder sends a request to the leader.
type Forwarder interface {
	// Leads reports whether requests are answered here.
	Leads() bool
	// Forward answers by way of the leader. It reports false, and has written
	// nothing, when there is no leader.
	Forward(w http.ResponseWriter, r *http.Request) bool
}

// Auditor keeps a line of every mutating request.
type Auditor interface {
	Audit(entry AuditEntry)
}

// AuditEntry is one mutating request and what became of it.
type AuditEntry struct {
	At     time.Time `json:"at"`
	Who    string    `json:"who"`
	Remote string    `json:"remote"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Status int       `json:"status"`
	Result string    `json:"result,omitempty"`
}

// Errorf makes an Error for an operator.
func Errorf(status int, format string, args ...any) error {
	return &Error{Status: status, Message: fmt.Sprintf(format, args...)}
}

// Server is the handler of all requests of operators and load balancers.
type Server struct {
	Backend Backend
	Access  Access
	Forward Forwarder
	Audit   Auditor
	Logger  zerolog.Logger
}

// maxBody bounds a request's body; a spec of a thousand nodes is well below it.
const maxBody = 16 << 20

// Handler is the routes of s.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	b := s.Backend
	leader := func(pattern string, h answerer) { mux.Handle(route(pattern), s.authorised(s.atLeader(s.answer(h)))) }
	local := func(pattern string, h answerer) { mux.Handle(route(pattern), s.authorised(s.answer(h))) }

	near := func(pattern string, h answerer) { mux.Handle(route(pattern), s.authorised(s.nearLeader(s.answer(h)))) }

	// These are also answered without a leader, with what this node knows: PostgreSQL
	// goes on, and people have to find it.
	near("GET /status", read(b.Status))
	near("GET /spec", read(b.Spec))
	near("GET /history", read(b.History))
	near("GET /history/{number}", numbered(b.Revision))
	near("GET /credentials", read(b.Credentials))
	leader("GET /nodes", read(b.Nodes))
	leader("POST /plan", body(b.Plan))
	leader("POST /apply", body(b.Apply))
	leader("GET /observed", read(b.Observed))
	leader("GET /events", s.events)
	leader("GET /runs", read(b.Runs))
	leader("GET /runs/{number}", numbered(b.Run))
	for _, cause := range []reconcile.Cause{reconcile.CauseRestart, reconcile.CauseReload, reconcile.CauseReinit} {
		leader("POST /"+string(cause), body(func(ctx context.Context, r NodesRequest) (RunStarted, error) {
			return b.Ask(ctx, cause, r)
		}))
	}
	leader("POST /pause", body(func(ctx context.Context, r PauseRequest) (struct{}, error) {
		return struct{}{}, b.Pause(ctx, true, r)
	}))
	leader("POST /resume", body(func(ctx context.Context, r PauseRequest) (struct{}, error) {
		return struct{}{}, b.Pause(ctx, false, r)
	}))
	leader("GET /preflight/{cause}", s.preflight)
	leader("GET /verdicts/{event}", s.verdict)
	for _, cause := range []reconcile.OpenReason{reconcile.OpenFailover, reconcile.OpenSwitchover} {
		leader("POST /"+string(cause), s.failover(cause))
	}
	leader("POST /switchover/cancel", body(b.CancelSwitchover))
	local("GET /info", read(b.Info))
	local("POST /stop", body(func(ctx context.Context, r StopRequest) (struct{}, error) {
		return struct{}{}, b.Stop(ctx, r)
	}))
	leader("GET /backups", func(r *http.Request) (any, error) {
		return b.Backups(r.Context(), r.URL.Query().Get("repository"))
	})
	leader("GET /backups/{id}", func(r *http.Request) (any, error) {
		return b.Backup(r.Context(), r.URL.Query().Get("repository"), r.PathValue("id"))
	})
	leader("POST /backup", body(b.CreateBackup))
	leader("POST /backup/verify", body(b.VerifyBackup))
	leader("POST /backup/delete", body(b.DeleteBackups))
	leader("POST /backup/point", body(b.RestorePoint))
	leader("POST /backup/cancel", body(b.CancelJob))
	leader("POST /backup/restore", body(b.Restore))
	leader("POST /backup/takeover", body(b.TakeOver))
	leader("GET /jobs", read(b.Jobs))
	leader("GET /jobs/{number}", numbered(b.Job))
	s.health(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		WriteError(w, Errorf(http.StatusNotFound, "no such path: %s", r.URL.Path))
	})
	return mux
}

func route(pattern string) string {
	method, path, _ := strings.Cut(pattern, " ")
	return method + " " + Prefix + path
}

// answerer is a request's handler without the envelope.
type answerer func(*http.Request) (any, error)

func read[T any](f func(context.Context) (T, error)) answerer {
	return func(r *http.Request) (any, error) { return f(r.Context()) }
}

func body[In, Out any](f func(context.Context, In) (Out, error)) answerer {
	return func(r *http.Request) (any, error) {
		var in In
		decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
			return nil, Errorf(http.StatusBadRequest, "request body: %s", err)
		}
		return f(r.Context(), in)
	}
}

func numbered[T any](f func(context.Context, uint64) (T, error)) answerer {
	return func(r *http.Request) (any, error) {
		n, err := strconv.ParseUint(r.PathValue("number"), 10, 64)
		if err != nil {
			return nil, Errorf(http.StatusBadRequest, "%q is not a number", r.PathValue("number"))
		}
		return f(r.Context(), n)
	}
}

// maxWait bounds a long poll for events.
const maxWait = time.Minute

func (s *Server) events(r *http.Request) (any, error) {
	q := r.URL.Query()
	number := func(name string) (uint64, error) {
		if q.Get(name) == "" {
			return 0, nil
		}
		n, err := strconv.ParseUint(q.Get(name), 10, 32)
		if err != nil {
			return 0, Errorf(http.StatusBadRequest, "%s: %q is not a number", name, q.Get(name))
		}
		return n, nil
	}
	after, err := number("after")
	if err != nil {
		return nil, err
	}
	limit, err := number("limit")
	if err != nil {
		return nil, err
	}
	var wait time.Duration
	if text := q.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil {
			return nil, Errorf(http.StatusBadRequest, "wait: %q is not a duration", text)
		}
	}
	return s.Backend.Events(r.Context(), after, int(limit), min(wait, maxWait))
}

// answer runs a handler and writes its envelope; mutating requests are audited.
func (s *Server) answer(h answerer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := h(r)
		if r.Method != http.MethodGet {
			s.audit(r, err)
		}
		if err != nil {
			WriteError(w, err)
			return
		}
		WriteData(w, data)
	})
}

func (s *Server) audit(r *http.Request, err error) {
	entry := AuditEntry{
		At: time.Now().UTC(), Who: "admin", Remote: r.RemoteAddr,
		Method: r.Method, Path: r.URL.Path, Status: statusOf(err),
	}
	if err != nil {
		entry.Result = err.Error()
	}
	s.Audit.Audit(entry)
}

// authorised lets only requests with the admin token through.
func (s *Server) authorised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := s.Access.AdminToken()
		if want == "" {
			WriteError(w, Errorf(http.StatusServiceUnavailable, "the cluster has not been formed yet: start ramd on every initial node; see ramd status on this host"))
			return
		}
		if !HasToken(r, want) {
			if r.Method != http.MethodGet {
				s.Audit.Audit(AuditEntry{
					At: time.Now().UTC(), Who: "unauthenticated", Remote: r.RemoteAddr, Method: r.Method,
					Path: r.URL.Path, Status: http.StatusUnauthorized,
				})
			}
			WriteError(w, Errorf(http.StatusUnauthorized, "missing or wrong token: use --token-file with the admin.token in ramd's data directory"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// HasToken reports whether the request carries the bearer token, in constant time.
func HasToken(r *http.Request, want string) bool {
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

func (s *Server) atLeader(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.Forward.Leads():
			next.ServeHTTP(w, r)
		case !s.Forward.Forward(w, r):
			WriteError(w, Errorf(http.StatusServiceUnavailable, "the cluster has no leader: a majority of the voters must be up; try again in a few seconds"))
		}
	})
}

func (s *Server) nearLeader(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.Forward.Leads() || !s.Forward.Forward(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// health are the paths that load balancers know from Patroni, without a token.
func (s *Server) health(mux *http.ServeMux) {
	path := func(name string, ok func(Health) bool) {
		mux.HandleFunc("GET "+name, func(w http.ResponseWriter, r *http.Request) {
			h := s.Backend.Health(r.Context())
			status := http.StatusOK
			if !ok(h) {
				status = http.StatusServiceUnavailable
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(h)
		})
	}
	path("/health", func(h Health) bool { return h.Running || h.Role == reconcile.RoleWitness })
	path("/liveness", func(Health) bool { return true })
	path("/readiness", func(h Health) bool { return h.Running || h.Role == reconcile.RoleWitness })
	for _, name := range []string{"/primary", "/leader", "/read-write"} {
		path(name, func(h Health) bool { return h.Running && h.Role == reconcile.RolePrimary })
	}
	for _, name := range []string{"/replica", "/standby"} {
		path(name, func(h Health) bool { return h.Running && h.Role == reconcile.RoleStandby })
	}
	path("/read-only", func(h Health) bool { return h.Running })
}

// WriteData writes an envelope of success.
func WriteData(w http.ResponseWriter, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		WriteError(w, err)
		return
	}
	write(w, http.StatusOK, Envelope{Success: true, Data: raw, Timestamp: time.Now().UTC()})
}

// WriteError writes an envelope of error with the status that the error asks for.
func WriteError(w http.ResponseWriter, err error) {
	write(w, statusOf(err), Envelope{Message: err.Error(), Timestamp: time.Now().UTC()})
}

func write(w http.ResponseWriter, status int, e Envelope) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(e)
}

func statusOf(err error) int {
	var e *Error
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &e):
		return e.Status
	case errors.Is(err, reconcile.ErrStale):
		return http.StatusConflict
	case errors.Is(err, reconcile.ErrNotFormed), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
