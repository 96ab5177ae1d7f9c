package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/reconcile"
)

// recorder notes what is asked of a backend.
type recorder struct {
	Backend
	asked []string
	audit []AuditEntry
}

func (r *recorder) Preflight(_ context.Context, cause reconcile.OpenReason, f FailoverRequest) (reconcile.Preflighted, error) {
	r.asked = append(r.asked, fmt.Sprintf("preflight %s %s %t", cause, f.To, f.AcceptLoss))
	return reconcile.Preflighted{Cause: cause, Term: 4, To: "b", At: f.At}, nil
}

func (r *recorder) Failover(_ context.Context, cause reconcile.OpenReason, f FailoverRequest) (FailoverAnswer, error) {
	r.asked = append(r.asked, fmt.Sprintf("%s %s %t %s", cause, f.To, f.AcceptLoss, f.By))
	if f.Term != nil && *f.Term != 4 {
		return FailoverAnswer{}, Errorf(http.StatusConflict, "term %d is over", *f.Term)
	}
	return FailoverAnswer{Term: 5, Deposed: "a", Target: "b", Event: 40}, nil
}

func (r *recorder) CancelSwitchover(_ context.Context, c CancelSwitchoverRequest) (CancelSwitchoverAnswer, error) {
	r.asked = append(r.asked, "cancel "+c.By)
	return CancelSwitchoverAnswer{Planned: reconcile.PlannedSwitchover{By: "bob"}}, nil
}

func (r *recorder) Verdict(_ context.Context, event uint64) (VerdictAnswer, error) {
	r.asked = append(r.asked, fmt.Sprintf("verdict %d", event))
	return VerdictAnswer{Choice: reconcile.Choice{Event: 41, Verdict: reconcile.Verdict{Choose: "b"}}, Opened: &reconcile.Event{Seq: 40}}, nil
}

func (r *recorder) AdminToken() string                              { return "t0ken" }
func (r *recorder) Leads() bool                                     { return true }
func (r *recorder) Forward(http.ResponseWriter, *http.Request) bool { return false }
func (r *recorder) Audit(e AuditEntry)                              { r.audit = append(r.audit, e) }

func serve(t *testing.T) (*recorder, *httptest.Server, *Client) {
	t.Helper()
	r := &recorder{}
	s := httptest.NewServer((&Server{Backend: r, Access: r, Forward: r, Audit: r, Logger: zerolog.Nop()}).Handler())
	t.Cleanup(s.Close)
	client, err := NewClient(ClientConfig{Addrs: []string{s.URL}, Token: "t0ken"})
	if err != nil {
		t.Fatal(err)
	}
	return r, s, client
}

func TestFailoverOverTheNetwork(t *testing.T) {
	ctx := t.Context()
	r, _, client := serve(t)
	if p, err := client.Preflight(ctx, reconcile.OpenFailover, FailoverRequest{To: "b", AcceptLoss: true}); err != nil || p.To != "b" || p.Term != 4 {
		t.Errorf("%+v, %v", p, err)
	}
	answer, err := client.Failover(ctx, reconcile.OpenSwitchover, FailoverRequest{To: "b", By: "ann"})
	if err != nil || answer.Term != 5 || answer.Event != 40 {
		t.Errorf("%+v, %v", answer, err)
	}
	at := time.Date(2026, 1, 31, 3, 0, 0, 0, time.UTC)
	if p, err := client.Preflight(ctx, reconcile.OpenSwitchover, FailoverRequest{At: at}); err != nil || !p.At.Equal(at) {
		t.Errorf("%+v, %v", p, err)
	}
	if c, err := client.CancelSwitchover(ctx, CancelSwitchoverRequest{By: "ann"}); err != nil || c.Planned.By != "bob" {
		t.Errorf("%+v, %v", c, err)
	}
	if v, err := client.Verdict(ctx, 0); err != nil || v.Event != 41 || v.Opened == nil || v.Opened.Seq != 40 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := client.Verdict(ctx, 41); err != nil {
		t.Error(err)
	}
	want := []string{"preflight failover b true", "switchover b false ann", "preflight switchover  false", "cancel ann", "verdict 0", "verdict 41"}
	if diff := cmp.Diff(want, r.asked); diff != "" {
		t.Error(diff)
	}
	if len(r.audit) != 2 || r.audit[1].Path != Prefix+"/switchover/cancel" || r.audit[0].Path != Prefix+"/switchover" || r.audit[0].Status != http.StatusOK {
		t.Errorf("audited: %+v", r.audit)
	}
}

func TestFailoverRequestsThatAreRefused(t *testing.T) {
	for _, rule := range []struct {
		name, method, path, body string
		status                   int
		says                     string
		asked                    int
	}{
		{"a time that is not in RFC 3339", "POST", "/switchover", `{"at":"03:00"}`, http.StatusBadRequest, "parsing time", 0},
		{"a time of a preflight that is not in RFC 3339", "GET", "/preflight/switchover?at=03:00", "", http.StatusBadRequest, "RFC 3339", 0},
		{"a failover at a time", "POST", "/failover", `{"at":"2026-01-31T03:00:00Z"}`, http.StatusBadRequest, "only a switchover", 0},
		{"a loss at a time", "POST", "/switchover", `{"at":"2026-01-31T03:00:00Z","accept_data_loss":true}`, http.StatusBadRequest, "loses nothing", 0},
		{"a field that nobody knows", "POST", "/failover", `{"tp":"b"}`, http.StatusBadRequest, "unknown field", 0},
		{"a term that is over", "POST", "/failover", `{"term":3}`, http.StatusConflict, "term 3 is over", 1},
		{"a preflight of something else", "GET", "/preflight/restart", "", http.StatusNotFound, `not of "restart"`, 0},
		{"a word that is neither true nor false", "GET", "/preflight/failover?accept_data_loss=maybe", "", http.StatusBadRequest, "true or false", 0},
		{"an event that is no number", "GET", "/verdicts/last", "", http.StatusBadRequest, "or latest", 0},
		{"event zero, which never was", "GET", "/verdicts/0", "", http.StatusBadRequest, "or latest", 0},
	} {
		t.Run(rule.name, func(t *testing.T) {
			r, s, _ := serve(t)
			request, err := http.NewRequestWithContext(t.Context(), rule.method, s.URL+Prefix+rule.path, strings.NewReader(rule.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer t0ken")
			response, err := s.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var envelope Envelope
			if err := json.NewDecoder(response.Body).Decode(&envelope); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != rule.status || !strings.Contains(envelope.Message, rule.says) || len(r.asked) != rule.asked {
				t.Errorf("HTTP %d: %s; asked %q", response.StatusCode, envelope.Message, r.asked)
			}
		})
	}
}

func TestNobodyFailsOverWithoutAToken(t *testing.T) {
	r, s, _ := serve(t)
	for _, call := range []string{"POST /failover", "POST /switchover", "POST /switchover/cancel", "GET /preflight/failover", "GET /verdicts/latest"} {
		method, path, _ := strings.Cut(call, " ")
		request, err := http.NewRequestWithContext(t.Context(), method, s.URL+Prefix+path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := s.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized || len(r.asked) != 0 {
			t.Errorf("%s: HTTP %d, asked %q", call, response.StatusCode, r.asked)
		}
	}
}
