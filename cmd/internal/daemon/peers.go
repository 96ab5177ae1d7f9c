package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/agent"
)

// Paths between ramds. They carry the peer token, but for the three that make a
// stranger known: hello says who is there, found and join are believed only
// after a hello to the address that the spec gives the sender.
const (
	pathHello  = "/internal/v1/hello"
	pathFound  = "/internal/v1/found"
	pathJoin   = "/internal/v1/join"
	pathReport = "/internal/v1/report"
	pathAssign = "/internal/v1/assign"
	pathWatch  = "/internal/v1/watch"
	pathBeat   = "/internal/v1/beat"
	pathAsk    = "/internal/v1/ask"
	pathBar    = "/internal/v1/bar"
)

// hello is what a ramd says of itself to whoever asks.
type hello struct {
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
	// HasState is set once it belongs to a Raft group; Formed when its record is there.
	HasState bool `json:"has_state"`
	Formed   bool `json:"formed"`
	// Voters are the initial voters of its own spec, Founding the cluster ID
	// that it is about to bootstrap with.
	Voters   []string `json:"voters"`
	Founding string   `json:"founding,omitempty"`
}

// founding is the founder's call to the other initial voters.
type founding struct {
	Cluster  string   `json:"cluster"`
	Founder  string   `json:"founder"`
	Voters   []string `json:"voters"`
	Identity identity `json:"identity"`
}

// joining is a request to become a member.
type joining struct {
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
}

// watched is a file that changed, as the leader is told of it.
type watched struct {
	Node string `json:"node"`
	// Before is what the file held when it last agreed with the cluster.
	Before reconcile.Agreement `json:"before"`
	Apply  api.ApplyRequest    `json:"apply"`
}

// statusError is an answer of another ramd that is not a success.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

// hasStatus reports whether err is an answer with that HTTP status.
func hasStatus(err error, status int) bool {
	var e *statusError
	return errors.As(err, &e) && e.status == status
}

// peers calls other ramds.
type peers struct {
	http  *http.Client
	token func() string
}

func address(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// call sends in to a path and decodes the answer's data into out, which may be nil.
func (p peers) call(ctx context.Context, addr, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, body)
	if err != nil {
		return err
	}
	if token := p.token(); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w, err := p.http.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	var e api.Envelope
	if err := json.NewDecoder(w.Body).Decode(&e); err != nil {
		return fmt.Errorf("%s answered %s and no JSON: is it a ramd?", addr, w.Status)
	}
	if !e.Success {
		return &statusError{w.StatusCode, e.Message}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(e.Data, out)
}

func (p peers) hello(ctx context.Context, addr string) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var h hello
	// Strangers are not shown the token.
	stranger := peers{http: p.http, token: func() string { return "" }}
	err := stranger.call(ctx, addr, http.MethodGet, pathHello, nil, &h)
	return h, err
}

// leaderAddress is where the leader's API is; false while none is known.
func (l *life) leaderAddress() (string, bool) {
	name, _, ok := l.store.Leader()
	if !ok {
		return "", false
	}
	if m, ok := l.machine.Record().Members[name]; ok {
		return address(m.Host, m.APIPort), true
	}
	if n, ok := l.start.spec.Node(name); ok {
		return address(n.Host, n.Ports.API), true
	}
	return "", false
}

var errNoLeader = errors.New("no leader is known")

// Report is agent.Upward's: to this ramd when it leads, to the leader otherwise.
func (l *life) Report(ctx context.Context, r reconcile.Report) (agent.Answer, error) {
	answer, err := l.report(ctx, r)
	if err == nil && l.host != nil {
		l.host.keep(answer.Kept)
	}
	return answer, err
}

func (l *life) report(ctx context.Context, r reconcile.Report) (agent.Answer, error) {
	if l.leader.Leads() {
		return l.takeReport(ctx, r)
	}
	name, _, _ := l.store.Leader()
	addr, ok := l.leaderAddress()
	if !ok {
		addr, ok = l.anyAddress()
	}
	if !ok {
		return agent.Answer{}, errNoLeader
	}
	ctx, cancel := l.whileLeader(ctx, name)
	defer cancel()
	var answer agent.Answer
	err := l.peers.call(ctx, addr, http.MethodPost, pathReport, r, &answer)
	if hasStatus(err, http.StatusGone) {
		l.removed(err.Error())
	}
	return answer, err
}

// anyAddress is the API of another node, each time the next one. Who was taken out
// of the Raft group hears of no leader any more, and would never learn why: the
// others send its report on.
func (l *life) anyAddress() (string, bool) {
	if l.peerToken() == "" {
		return "", false // not known to anybody yet
	}
	var others []string
	for _, n := range l.start.spec.Nodes {
		if n.Name != l.start.node.Name {
			others = append(others, address(n.Host, n.Ports.API))
		}
	}
	for _, m := range l.machine.Record().Members {
		if addr := address(m.Host, m.APIPort); m.Name != l.start.node.Name && !slices.Contains(others, addr) {
			others = append(others, addr)
		}
	}
	if len(others) == 0 {
		return "", false
	}
	return others[int(l.asked.Add(1))%len(others)], true
}

// takeReport is the leader's side of a report.
func (l *life) takeReport(ctx context.Context, r reconcile.Report) (agent.Answer, error) {
	rec := l.machine.Record()
	member, known := rec.Members[r.Node]
	if rec.Formed() && (!known || member.Incarnation != r.Incarnation) {
		if err := l.store.VerifyLeader(ctx); err != nil {
			return agent.Answer{}, errNoLeader
		}
		return agent.Answer{}, api.Errorf(http.StatusGone, "node %s (incarnation %s) is not a member of cluster %q", r.Node, r.Incarnation, rec.Cluster)
	}
	if !l.leader.Report(r) {
		return agent.Answer{}, errNoLeader
	}
	rec = l.machine.Record()
	answer := agent.Answer{Assignment: rec.Assignments[r.Node], Hold: rec.Pause != nil, Run: rec.LastRun}
	if rec.Job != nil && rec.Job.Node == r.Node {
		answer.Job = rec.Job
	}
	if r.Server.Recovery {
		answer.Kept = l.leader.Kept()
	}
	if r.Serial == answer.Assignment.Serial && r.Serial > 0 {
		return answer, nil // nothing that the agent does not hold already
	}
	// An assignment is believed only from a leader that a majority follows (S4).
	if err := l.store.VerifyLeader(ctx); err != nil {
		return agent.Answer{}, errNoLeader
	}
	return answer, nil
}

// push sends a new assignment to its node at once. What does not arrive comes
// with the answer to the node's next report.
func (l *life) push(ctx context.Context) func(string, reconcile.Assignment) {
	return func(node string, a reconcile.Assignment) {
		l.calls.Go(func() { l.send(ctx, node, agent.Answer{Assignment: a}) })
	}
}

// pushHold tells every agent of a pause, or of its end, and waits until they know, so
// that whoever paused the cluster can begin to work on it.
func (l *life) pushHold(ctx context.Context) {
	rec := l.machine.Record()
	var told sync.WaitGroup
	for node := range rec.Members {
		told.Go(func() {
			l.send(ctx, node, agent.Answer{Assignment: rec.Assignments[node], Hold: rec.Pause != nil, Run: rec.LastRun})
		})
	}
	told.Wait()
}

func (l *life) send(ctx context.Context, node string, answer agent.Answer) {
	if node == l.start.node.Name {
		l.agent.Assign(answer)
		return
	}
	m, ok := l.machine.Record().Members[node]
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := l.peers.call(ctx, address(m.Host, m.APIPort), http.MethodPost, pathAssign, answer, nil); err != nil {
		l.log.Debug().Err(err).Str("to", node).Msg("assignment will come with the next report")
	}
}
