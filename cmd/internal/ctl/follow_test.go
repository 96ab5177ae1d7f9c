package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

// silentOperator sits at a terminal and types nothing.
func silentOperator(_ *testing.T, f *fake) (*app, io.Closer) {
	in, out := io.Pipe()
	return &app{
		pace: realPace(), transport: f,
		sys: System{
			Args: []string{"apply"}, Stdin: in, Stdout: io.Discard, Stderr: io.Discard, InteractiveIn: true,
			LookupEnv: func(name string) (string, bool) { return testToken, name == "RAM_TOKEN" },
		},
	}, out
}

func decodeOnly(t *testing.T, text string, into any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	if _, err := decoder.Token(); err != io.EOF {
		t.Fatalf("more than one document:\n%s", text)
	}
}

// trying is a run whose step on b fails again and again.
func trying(attempts int) api.RunAnswer {
	answer := run7(reconcile.RunRunning, reconcile.StepRunning)
	answer.Problems = map[string]reconcile.Problem{"b": {Text: "disk full", Attempts: attempts}}
	answer.Blocked = []reconcile.Blocked{{Node: "b", Reason: "node b: disk full"}}
	return answer
}

// waiting is a run of which nothing is under way.
func waiting() api.RunAnswer {
	answer := run7(reconcile.RunRunning, reconcile.StepPending)
	answer.Blocked = []reconcile.Blocked{{Node: "b", Reason: "ramd on node b does not answer"}}
	return answer
}

// follows is the script of a run: what is answered from a second on.
type follows []struct {
	from   int
	answer any
}

func (s follows) at(second int) (any, error) {
	var last any
	for _, entry := range s {
		if entry.from <= second {
			last = entry.answer
		}
	}
	if err, failed := last.(error); failed {
		return nil, err
	}
	return last, nil
}

func TestFollowingARun(t *testing.T) {
	running, done := run7(reconcile.RunRunning, reconcile.StepRunning), run7(reconcile.RunDone, reconcile.StepDone)
	noLeader := refusal{http.StatusServiceUnavailable, "there is no leader"}
	superseded := run7(reconcile.RunSuperseded, reconcile.StepPending)
	doneBlocked := done
	doneBlocked.Blocked = []reconcile.Blocked{{Reason: "node c: occupied"}}
	cases := map[string]struct {
		script follows
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"a leader change is waited for": {
			script: follows{{0, running}, {2, noLeader}, {30, errDown}, {60, running}, {61, done}},
			stdout: "the cluster gives no answer, trying again: there is no leader\n  the cluster answers again\n",
		},
		"a failure that passes is no failure": {
			script: follows{{0, trying(5)}, {14, running}, {20, trying(3)}, {34, done}},
			stdout: "Done: revision 4",
		},
		"few attempts are borne for long": {
			script: follows{{0, trying(2)}, {300, done}},
			stdout: "!     node b: disk full\n",
		},
		"a step that keeps failing ends the following": {
			script: follows{{0, running}, {5, trying(3)}},
			code:   1,
			stderr: "ramctrl: run 7 cannot get on: node b: disk full\nThe cluster keeps trying and goes on when this is put right; follow it again with: ramctrl apply --follow 7\n",
		},
		"a run that is only blocked ends the following": {
			script: follows{{0, running}, {5, waiting()}},
			code:   1,
			stderr: "cannot get on: ramd on node b does not answer",
		},
		"a run that ended with something in the way is not done": {
			script: follows{{0, doneBlocked}},
			code:   1,
			stderr: "cannot get on: node c: occupied",
		},
		"a superseded run is followed into the next": {
			script: follows{{0, superseded}},
			stdout: "Done: revision 4, run 8",
		},
		"time is up": {
			script: follows{{0, running}},
			args:   []string{"--timeout", "90s"},
			code:   1,
			stderr: "run 7 is not done after --timeout and goes on; follow it again with: ramctrl apply --follow 7",
		},
		"a run that is not known yet is asked for again": {
			script: follows{{0, refusal{http.StatusNotFound, "there is no run 7"}}, {2, done}},
			stdout: "Done",
		},
		"a run that stays unknown is an error": {
			script: follows{{0, refusal{http.StatusNotFound, "there is no run 7"}}},
			code:   1,
			stderr: "ramctrl: there is no run 7\n",
		},
		"a long step is told about now and then": {
			script: follows{{0, running}, {25, done}},
			stdout: "start node b: loading its configuration\n  ...   node b: loading its configuration [1.2s]\n  ...   node b: loading",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, begin := newFake(t), time.Now()
				f.on("GET /runs/7", func(int, *http.Request) (any, error) { return c.script.at(int(time.Since(begin).Seconds())) })
				eight := done
				eight.Run.ID = 8
				f.always("GET /runs/8", eight)
				got := operator{cluster: f}.run(t.Context(), append([]string{"apply", "--follow", "7"}, c.args...)...)
				if got.code != c.code || !strings.Contains(got.stdout, c.stdout) || !strings.Contains(got.stderr, c.stderr) {
					t.Errorf("code %d, want %d\nstdout %q\nwant   %q\nstderr %q\nwant   %q", got.code, c.code, got.stdout, c.stdout, got.stderr, c.stderr)
				}
			})
		})
	}
}

func TestCtrlCDetachesAndSaysHowToFollowAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.always("GET /runs/7", run7(reconcile.RunRunning, reconcile.StepRunning))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		got := operator{cluster: f}.run(ctx, "apply", "--follow", "7")
		want := "ramctrl: detached, run 7 goes on; follow it again with: ramctrl apply --follow 7\n"
		if got.code != 1 || got.stderr != want {
			t.Errorf("%+v", got)
		}
	})
}

// On a terminal the lines of what goes on are redrawn in place.
func TestATerminalIsRedrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := planning(t)
		var stdout bytes.Buffer
		a := &app{pace: realPace(), transport: f, sys: System{
			Args: []string{"apply", "--auto-approve"}, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: io.Discard,
			LookupEnv:      func(name string) (string, bool) { return testToken, name == "RAM_TOKEN" },
			InteractiveOut: true, Size: func() (int, int) { return 80, 24 },
		}}
		if code := a.main(t.Context()); code != 0 {
			t.Fatalf("code %d: %s", code, stdout.String())
		}
		for _, want := range []string{"\x1b[32m+\x1b[0m", "\x1b[2A\x1b[J", "run 7: 0 of 1 step"} {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("no %q in %q", want, stdout.String())
			}
		}
	})
}
