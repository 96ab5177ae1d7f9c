package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
)

// hosts is a network of ramds by host:port. It counts who was asked.
type hosts struct {
	answers map[string]func() (*http.Response, error)
	asked   []string
}

func (h *hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	h.asked = append(h.asked, r.URL.Host)
	return h.answers[r.URL.Host]()
}

func answers(status int, data any, message string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		text, err := json.Marshal(data)
		if err != nil {
			return nil, err
		}
		envelope, err := json.Marshal(Envelope{Success: status < 300, Data: text, Message: message, Timestamp: time.Unix(1, 0)})
		if err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(string(envelope)))}, nil
	}
}

func fails(err error) func() (*http.Response, error) {
	return func() (*http.Response, error) { return nil, err }
}

var (
	refusesDial = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	breaksOff   = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
)

const (
	hostA = "10.0.0.11:8080"
	hostB = "10.0.0.12:8080"
)

func twoHosts(a, b func() (*http.Response, error)) *hosts {
	return &hosts{answers: map[string]func() (*http.Response, error){hostA: a, hostB: b}}
}

func (h *hosts) client(t *testing.T, patience time.Duration) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{Addrs: []string{hostA, hostB}, Token: "t", Patience: patience, Transport: h})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnotherAddressIsTriedOnlyWhereThatIsSafe(t *testing.T) {
	ok := answers(200, RunStarted{Run: 1}, "")
	noLeader := answers(503, nil, "there is no leader")
	read := func(c *Client) error { _, err := c.Status(context.Background()); return err }
	write := func(c *Client) error { _, err := c.Apply(context.Background(), ApplyRequest{}); return err }
	cases := map[string]struct {
		a, b  func() (*http.Response, error)
		do    func(*Client) error
		asked []string
		is    error
		says  string
	}{
		"a read goes on after a refused connection":    {fails(refusesDial), ok, read, []string{hostA, hostB}, nil, ""},
		"a read goes on after a broken connection":     {fails(breaksOff), ok, read, []string{hostA, hostB}, nil, ""},
		"a read goes on where there is no leader":      {noLeader, ok, read, []string{hostA, hostB}, nil, ""},
		"a write goes on when it was surely not sent":  {fails(refusesDial), ok, write, []string{hostA, hostB}, nil, ""},
		"a write that may have arrived is not doubled": {fails(breaksOff), ok, write, []string{hostA}, ErrUnreachable, "it may have been accepted"},
		"a write is not doubled without a leader":      {noLeader, ok, write, []string{hostA}, ErrUnavailable, "there is no leader"},
		"a refusal is an answer":                       {answers(409, nil, "stale"), ok, read, []string{hostA}, ErrConflict, "stale"},
		"a wrong token is an answer":                   {answers(401, nil, "who?"), ok, read, []string{hostA}, ErrUnauthorized, "who?"},
		"what is missing is an answer":                 {answers(404, nil, "no run 9"), ok, read, []string{hostA}, ErrNotFound, "no run 9"},
		"no answer at all names every address": {
			fails(refusesDial), fails(breaksOff), read,
			[]string{hostA, hostB},
			ErrUnreachable, "10.0.0.11:8080: connection refused; 10.0.0.12:8080: connection reset by peer",
		},
		"no leader weighs more than no answer": {noLeader, fails(refusesDial), read, []string{hostA, hostB}, ErrUnavailable, "there is no leader"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := twoHosts(c.a, c.b)
			err := c.do(h.client(t, 0))
			if diff := cmp.Diff(c.asked, h.asked); diff != "" {
				t.Error(diff)
			}
			if c.is == nil && err != nil {
				t.Fatal(err)
			}
			if c.is != nil && (!errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %v with %q", err, c.is, c.says)
			}
		})
	}
}

func TestTheAddressThatAnsweredIsAskedNext(t *testing.T) {
	h := twoHosts(fails(refusesDial), answers(200, nil, ""))
	c := h.client(t, 0)
	for range 3 {
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{hostA, hostB, hostB, hostB}, h.asked); diff != "" {
		t.Error(diff)
	}
}

func TestAWriteThatWasSurelyNotDoneIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		moving := func() (*http.Response, error) {
			if time.Since(begin) < time.Second {
				return answers(421, nil, "leadership is changing hands")()
			}
			return answers(200, nil, "")()
		}
		_, err := twoHosts(moving, fails(refusesDial)).client(t, 3*time.Second).Apply(t.Context(), ApplyRequest{})
		if err != nil || time.Since(begin) < time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

func TestAnElectionIsWaitedForAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		leaderless := func() (*http.Response, error) {
			if time.Since(begin) < time.Second {
				return answers(503, nil, "there is no leader")()
			}
			return answers(200, reconcile.Status{Cluster: "demo"}, "")()
		}
		status, err := twoHosts(leaderless, fails(refusesDial)).client(t, 3*time.Second).Status(t.Context())
		if err != nil || status.Cluster != "demo" || time.Since(begin) < time.Second {
			t.Errorf("%+v, %v after %s", status, err, time.Since(begin))
		}

		begin = time.Now()
		never := answers(503, nil, "there is no quorum")
		if _, err = twoHosts(never, never).client(t, 3*time.Second).Status(t.Context()); !errors.Is(err, ErrUnavailable) || time.Since(begin) < 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(begin))
		}

		begin = time.Now()
		away := fails(refusesDial)
		if _, err = twoHosts(away, away).client(t, 3*time.Second).Status(t.Context()); !errors.Is(err, ErrUnreachable) || time.Since(begin) != 0 {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

func TestWhatIsNoRamdIsNotTakenForOne(t *testing.T) {
	page := func() (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("<html>hello</html>"))}, nil
	}
	_, err := twoHosts(page, page).client(t, 0).Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "does not answer as a ramd does (HTTP 200): check --addr") {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	cases := map[string]string{
		"10.0.0.11":             "http://10.0.0.11:8080",
		"10.0.0.11:9000":        "http://10.0.0.11:9000",
		"http://10.0.0.11:9000": "http://10.0.0.11:9000",
		"http://db-1/":          "http://db-1:8080",
		"[::1]:8080":            "http://[::1]:8080",
		"::1":                   "http://[::1]:8080",
		"https://10.0.0.11":     "",
		"db-1/api":              "",
		"ann@db-1":              "",
		":8080":                 "",
	}
	for addr, want := range cases {
		got, err := baseURL(addr)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", addr, got, err, want)
		}
	}
	if _, err := NewClient(ClientConfig{}); err == nil {
		t.Error("a client without addresses is made")
	}
}

// The whole way over a real connection: path, method, token, body.
func TestRequestsOverTheNetwork(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		seen = append(seen, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("Authorization"), body)))
		response, err := answers(200, RunStarted{Run: 7}, "")()
		if err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(w, response.Body); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	c, err := NewClient(ClientConfig{Addrs: []string{server.URL}, Token: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	started, err := c.Restart(t.Context(), NodesRequest{Nodes: []string{"b"}, By: "ann"})
	if err != nil || started.Run != 7 {
		t.Errorf("%+v, %v", started, err)
	}
	if _, err := c.EventsAfter(t.Context(), 5, 10, time.Second); err != nil {
		t.Error(err)
	}
	want := []string{
		`POST /api/v1/restart Bearer s3cret {"nodes":["b"],"by":"ann"}`,
		`GET /api/v1/events?after=5&limit=10&wait=1s Bearer s3cret`,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

// A host that takes connections and never answers is left for the next one.
func TestAHostThatHangsIsLeft(t *testing.T) {
	hang := make(chan struct{})
	hung := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer hung.Close()
	defer close(hang)
	well := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		response, err := answers(200, reconcile.Status{Cluster: "demo"}, "")()
		if err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(w, response.Body); err != nil {
			t.Error(err)
		}
	}))
	defer well.Close()
	c, err := NewClient(ClientConfig{Addrs: []string{hung.URL, well.URL}, Attempt: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	status, err := c.Status(t.Context())
	if err != nil || status.Cluster != "demo" {
		t.Errorf("%+v, %v", status, err)
	}
	c, err = NewClient(ClientConfig{Addrs: []string{hung.URL}, Attempt: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no answer in time") {
		t.Error(err)
	}
}
