package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

const testToken = "3f786850e387550fdab836ed7e6dc881"

// fake is a cluster without a network: it answers what tests tell it to. It
// serves as transport, so that tests run in virtual time.
type fake struct {
	t *testing.T

	mu      sync.Mutex
	answers map[string]answerer
	calls   []string          // "POST /apply", in order
	bodies  map[string][]byte // the last one by call
}

// answerer is given how many requests of its kind came before.
type answerer func(before int, r *http.Request) (data any, err error)

// refusal is an answer that is not a success; down is none at all.
type refusal struct {
	status  int
	message string
}

func (r refusal) Error() string { return r.message }

var errDown = &net.OpError{Op: "dial", Net: "tcp", Err: &net.AddrError{Err: syscall.ECONNREFUSED.Error()}}

func newFake(t *testing.T) *fake {
	return &fake{t: t, answers: map[string]answerer{}, bodies: map[string][]byte{}}
}

func (f *fake) on(call string, answer answerer) { f.answers[call] = answer }

// always answers with the same data.
func (f *fake) always(call string, data any) {
	f.on(call, func(int, *http.Request) (any, error) { return data, nil })
}

// RoundTrip answers a request.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	call := r.Method + " " + strings.TrimPrefix(r.URL.Path, api.Prefix)
	before := f.count(call)
	f.calls = append(f.calls, call)
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			f.t.Errorf("read request: %v", err)
		}
		f.bodies[call] = body
	}
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		return respond(nil, refusal{http.StatusUnauthorized, "the token is wrong"})
	}
	answer, known := f.answers[call]
	if !known {
		return respond(nil, refusal{http.StatusNotFound, "there is no " + call})
	}
	return respond(answer(before, r))
}

func respond(data any, err error) (*http.Response, error) {
	envelope := api.Envelope{Success: err == nil, Timestamp: time.Now()}
	status := http.StatusOK
	var refused refusal
	switch {
	case errors.As(err, &refused):
		status, envelope.Message = refused.status, refused.message
	case err != nil:
		return nil, err
	default:
		text, err := json.Marshal(data)
		if err != nil {
			return nil, err
		}
		envelope.Data = text
	}
	text, err := json.Marshal(envelope)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(text))}, nil
}

func (f *fake) count(call string) int {
	n := 0
	for _, c := range f.calls {
		if c == call {
			n++
		}
	}
	return n
}

// made reports how often a request was made.
func (f *fake) made(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count(call)
}

// sent decodes the last body of a request.
func (f *fake) sent(call string, into any) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := json.Unmarshal(f.bodies[call], into); err != nil {
		f.t.Fatalf("body of %s: %v", call, err)
	}
}

// outcome is what one run of ramctrl leaves.
type outcome struct {
	code           int
	stdout, stderr string
}

// operator runs ramctrl against a fake cluster.
type operator struct {
	cluster *fake
	// answers are typed at a terminal; nil means that there is none.
	answers *string
	env     map[string]string
	exec    func(path string, argv, environ []string) error
}

func (o operator) run(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	environ := map[string]string{"RAM_TOKEN": testToken}
	for name, value := range o.env {
		environ[name] = value
	}
	var pairs []string
	for name, value := range environ {
		pairs = append(pairs, name+"="+value)
	}
	typed := ""
	if o.answers != nil {
		typed = *o.answers
	}
	a := &app{
		pace: realPace(), transport: o.cluster,
		sys: System{
			Args: args, Stdin: strings.NewReader(typed), Stdout: &stdout, Stderr: &stderr, Environ: pairs,
			LookupEnv: func(name string) (string, bool) { v, ok := environ[name]; return v, ok },
			User:      "ann@desk", InteractiveIn: o.answers != nil, Exec: o.exec,
		},
	}
	code := a.main(ctx)
	return outcome{code, stdout.String(), stderr.String()}
}

// typing is an operator at a terminal.
func typing(f *fake, answers string) operator { return operator{cluster: f, answers: &answers} }

// demoSpec is a cluster of two data nodes and a witness.
func demoSpec() *spec.Cluster {
	c := spec.NewCluster("demo")
	c.Postgres.Version = 15
	for i, name := range []string{"a", "b", "w"} {
		n := spec.NewNode(name, i+1)
		n.Host = "10.0.0.1" + string(rune('1'+i))
		c.Nodes = append(c.Nodes, n)
	}
	c.Nodes[2].Witness = true
	c.Settle()
	return c
}

// onePlan is a plan of one step, made from an observation.
func onePlan(observed string) reconcile.Plan {
	return reconcile.Plan{
		Format: reconcile.PlanFormat, Cluster: "demo", Revision: 4,
		Base: reconcile.Base{Revision: 3, Observed: observed},
		Changes: []reconcile.Change{{Action: reconcile.ActionUpdate, Object: "postgres", Attributes: []reconcile.Attribute{
			{Action: reconcile.ActionCreate, Name: "parameters.work_mem", New: "8MB", Forces: "reload"},
		}}},
		Steps:   []reconcile.Step{{ID: "configure/b", Kind: reconcile.StepConfigure, Node: "b", Summary: "write and load the configuration of b"}},
		Summary: reconcile.Summary{Update: 1, Steps: 1},
	}
}

// run7 is the run of onePlan in a state.
func run7(state reconcile.RunState, step reconcile.StepState) api.RunAnswer {
	return api.RunAnswer{
		Run: reconcile.Run{ID: 7, Cause: reconcile.CauseApply, Revision: 4, State: state, Steps: []reconcile.RunStep{
			{ID: "configure/b", Kind: reconcile.StepConfigure, Node: "b", Summary: "write and load the configuration of b", State: step},
		}},
		Elapsed:     1500 * time.Millisecond,
		StepElapsed: []time.Duration{1200 * time.Millisecond},
	}
}

// planning is a cluster that has onePlan to do and does it as run 7.
func planning(t *testing.T) *fake {
	f := newFake(t)
	f.always("POST /plan", api.PlanAnswer{Plan: onePlan("x"), Spec: demoSpec()})
	f.always("POST /apply", api.ApplyAnswer{Revision: 4, Run: 7, Plan: onePlan("x")})
	f.on("GET /runs/7", func(before int, _ *http.Request) (any, error) {
		switch before {
		case 0:
			return run7(reconcile.RunRunning, reconcile.StepPending), nil
		case 1:
			return run7(reconcile.RunRunning, reconcile.StepRunning), nil
		}
		return run7(reconcile.RunDone, reconcile.StepDone), nil
	})
	return f
}
