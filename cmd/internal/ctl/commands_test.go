package ctl

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

func demoStatus() reconcile.Status {
	return reconcile.Status{
		Cluster: "demo", Revision: 3, Converged: true,
		Raft:    reconcile.RaftStatus{Leader: "b", Voters: []string{"a", "b", "w"}, HasQuorum: true},
		Primary: "a", Term: 2, Timeline: 2,
		Nodes: []reconcile.NodeStatus{
			{Name: "a", Role: reconcile.RolePrimary, State: reconcile.NodeRunning, Host: "10.0.0.11", Port: 5432, Timeline: 2, LSN: "0/5000060", Healthy: true, LastSeen: 40},
			{Name: "b", Role: reconcile.RoleStandby, State: reconcile.NodeRunning, Host: "10.0.0.12", Port: 5432, Timeline: 2, LSN: "0/5000000", LagBytes: 96, Sync: "quorum", Healthy: true, LastSeen: 52},
		},
	}
}

// The JSON of status is a contract with scripts, key by key.
func TestStatusJSONIsTheContract(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		status := demoStatus()
		status.Nodes = status.Nodes[:1]
		f.always("GET /status", status)
		got := operator{cluster: f}.run(t.Context(), "status", "-o", "json")
		var have, want any
		decodeOnly(t, got.stdout, &have)
		decodeOnly(t, `{"cluster":"demo","revision":3,"converged":true,"paused":false,
 "raft":{"leader":"b","voters":["a","b","w"],"has_quorum":true},
 "primary":"a","term":2,"timeline":2,
 "nodes":[{"name":"a","role":"primary","state":"running","host":"10.0.0.11","port":5432,"timeline":2,
   "lsn":"0/5000060","lag_bytes":0,"sync":"","healthy":true,"pending_restart":false,"last_seen_ms":40,"reason":""}]}`, &want)
		if diff := cmp.Diff(want, have); diff != "" || got.code != 0 {
			t.Errorf("code %d\n%s", got.code, diff)
		}
	})
}

func TestStatusWatchGoesOnWhileTheClusterIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.on("GET /status", func(before int, _ *http.Request) (any, error) {
			if before == 1 {
				return nil, errDown
			}
			return demoStatus(), nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2500*time.Millisecond, cancel)
		got := operator{cluster: f}.run(ctx, "status", "--watch")
		if got.code != 0 || strings.Count(got.stdout, "Cluster demo") != 2 || strings.Count(got.stdout, "no ramd answers") != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestHealth(t *testing.T) {
	sick := demoStatus()
	sick.Converged = false
	sick.Nodes[1].Healthy, sick.Nodes[1].Reason = false, "its ramd does not answer"
	busy := demoStatus()
	busy.Converged, busy.Run = false, 7
	different := demoStatus()
	different.Converged = false
	cases := map[string]struct {
		status reconcile.Status
		code   int
		says   string
	}{
		"converged is healthy":        {demoStatus(), 0, "Cluster demo is healthy: primary a, 2 nodes, revision 3.\n"},
		"a sick node is not":          {sick, 1, "  ! node b: its ramd does not answer\n"},
		"a run under way is not":      {busy, 1, "  ! run 7 is under way\n"},
		"something left to do is not": {different, 1, "  ! it is not as the spec says: see ramctrl plan\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.always("GET /status", c.status)
				got := operator{cluster: f}.run(t.Context(), "health")
				if got.code != c.code || !strings.Contains(got.stdout, c.says) {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

func TestDSNNamesEveryNodeWithData(t *testing.T) {
	cases := map[string]struct {
		args    []string
		version int
		want    string
	}{
		"to write":                {nil, 15, "postgresql://10.0.0.11:5432,10.0.0.12:5432/postgres?connect_timeout=2&target_session_attrs=read-write\n"},
		"to read":                 {[]string{"--read-only"}, 15, "postgresql://10.0.0.11:5432,10.0.0.12:5432/postgres?connect_timeout=2&target_session_attrs=prefer-standby\n"},
		"to read with an old one": {[]string{"--read-only"}, 13, "postgresql://10.0.0.11:5432,10.0.0.12:5432/postgres?connect_timeout=2&target_session_attrs=any\n"},
		"as somebody": {
			[]string{"--user", "a b", "--dbname", "orders"},
			15,
			"postgresql://a%20b@10.0.0.11:5432,10.0.0.12:5432/orders?connect_timeout=2&target_session_attrs=read-write\n",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newFake(t), demoSpec()
				s.Postgres.Version = c.version
				f.always("GET /spec", api.SpecAnswer{Revision: 1, Spec: s})
				got := operator{cluster: f}.run(t.Context(), append([]string{"dsn"}, c.args...)...)
				if got.code != 0 || got.stdout != c.want {
					t.Errorf("%+v\nwant %s", got, c.want)
				}
			})
		})
	}
}

func TestPsqlGetsThePasswordInTheEnvironmentOnly(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "psql"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	cases := map[string]struct {
		args    []string
		argv    []string
		environ []string
	}{
		"on the primary": {
			[]string{"psql", "--", "-c", "select 1"},
			[]string{"psql", "-c", "select 1"},
			[]string{"PGHOST=10.0.0.11,10.0.0.12", "PGPORT=5432,5432", "PGTARGETSESSIONATTRS=read-write"},
		},
		"on a node": {
			[]string{"psql", "--node", "b", "--dbname", "orders"},
			[]string{"psql"},
			[]string{"PGHOST=10.0.0.12", "PGPORT=5432", "PGTARGETSESSIONATTRS=any", "PGDATABASE=orders"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.always("GET /spec", api.SpecAnswer{Revision: 1, Spec: demoSpec()})
			f.always("GET /credentials", api.Credentials{User: "postgres", Password: "s3cret word"})
			var argv, environ []string
			o := operator{cluster: f, env: map[string]string{"PGHOST": "elsewhere", "PGSERVICE": "other", "HOME": "/home/ann"}}
			o.exec = func(path string, a, e []string) error {
				argv, environ = a, e
				if path != filepath.Join(bin, "psql") {
					t.Errorf("runs %s", path)
				}
				return nil
			}
			if got := o.run(t.Context(), c.args...); got.code != 0 {
				t.Fatalf("%+v", got)
			}
			if diff := cmp.Diff(c.argv, argv); diff != "" {
				t.Error(diff)
			}
			for _, want := range append(c.environ, "PGPASSWORD=s3cret word", "PGUSER=postgres", "HOME=/home/ann") {
				if !slices.Contains(environ, want) {
					t.Errorf("no %s in %q", want, environ)
				}
			}
			for _, pair := range environ {
				if pair == "PGHOST=elsewhere" || strings.HasPrefix(pair, "PGSERVICE=") || strings.HasPrefix(pair, "RAM_TOKEN=") {
					t.Errorf("%s is handed on", pair)
				}
			}
		})
	}
}

func TestPsqlRefusesANodeWithoutData(t *testing.T) {
	f := newFake(t)
	f.always("GET /spec", api.SpecAnswer{Revision: 1, Spec: demoSpec()})
	for _, node := range []string{"w", "z"} {
		got := operator{cluster: f}.run(t.Context(), "psql", "--node", node)
		if got.code != 2 || f.made("GET /credentials") != 0 {
			t.Errorf("node %s: %+v", node, got)
		}
	}
}

func TestWhatIsAskedOfNodesIsConfirmedWhenItHurts(t *testing.T) {
	cases := map[string]struct {
		args    []string
		typed   string
		code    int
		says    string
		request string
		nodes   []string
	}{
		"restart of all":         {[]string{"restart"}, "yes\n", 0, "Clients of the primary a are disconnected", "POST /restart", nil},
		"restart of a standby":   {[]string{"restart", "b"}, "yes\n", 0, "Restart PostgreSQL on b of cluster demo", "POST /restart", []string{"b"}},
		"restart declined":       {[]string{"restart"}, "no\n", 1, "", "", nil},
		"restart of nobody":      {[]string{"restart", "z"}, "yes\n", 2, "", "", nil},
		"reload asks nothing":    {[]string{"reload"}, "", 0, "Run 7:", "POST /reload", nil},
		"reinit says what goes":  {[]string{"reinit", "b"}, "yes\n", 0, "Destroy the data of node b of cluster demo (it is running, at 0/5000000)", "POST /reinit", []string{"b"}},
		"reinit declined":        {[]string{"reinit", "b"}, "\n", 1, "", "", nil},
		"approved beforehand":    {[]string{"reinit", "b", "--auto-approve"}, "", 0, "Done", "POST /reinit", []string{"b"}},
		"detached from the run":  {[]string{"reload", "--detach"}, "", 0, "ramctrl apply --follow 7", "POST /reload", nil},
		"told as data when done": {[]string{"reload", "-o", "json"}, "", 0, `"outcome": "done"`, "POST /reload", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.always("GET /status", demoStatus())
				f.always("GET /runs/7", run7(reconcile.RunDone, reconcile.StepDone))
				requests := []string{"POST /restart", "POST /reload", "POST /reinit"}
				for _, call := range requests {
					f.always(call, api.RunStarted{Run: 7})
				}
				got := typing(f, c.typed).run(t.Context(), c.args...)
				if got.code != c.code || !strings.Contains(got.stdout, c.says) {
					t.Errorf("%+v", got)
				}
				for _, call := range requests {
					if made := f.made(call); (made == 1) != (call == c.request) {
						t.Errorf("%s was made %d times", call, made)
					}
				}
				if c.request != "" {
					var request api.NodesRequest
					f.sent(c.request, &request)
					if diff := cmp.Diff(api.NodesRequest{Nodes: c.nodes, By: "ann@desk"}, request); diff != "" {
						t.Error(diff)
					}
				}
			})
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	f := newFake(t)
	f.always("POST /pause", nil)
	f.always("POST /resume", nil)
	o := operator{cluster: f}
	if got := o.run(t.Context(), "pause", "--reason", "moving the rack"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	var request api.PauseRequest
	f.sent("POST /pause", &request)
	if diff := cmp.Diff(api.PauseRequest{Reason: "moving the rack", By: "ann@desk"}, request); diff != "" {
		t.Error(diff)
	}
	if got := o.run(t.Context(), "resume"); got.code != 0 || got.stdout != "Resumed.\n" {
		t.Errorf("%+v", got)
	}
}

func someEvents(from, to uint64) []reconcile.Event {
	var events []reconcile.Event
	for seq := from; seq <= to; seq++ {
		node := "a"
		if seq%2 == 0 {
			node = "b"
		}
		events = append(events, reconcile.Event{
			Seq: seq, At: time.Date(2026, 11, 20, 12, 0, int(seq), 0, time.UTC), Kind: reconcile.EventStep,
			Severity: reconcile.Info, Node: node, Message: "event", Reason: "because",
		})
	}
	return events
}

func TestEventsFollowAsksAfterTheLastOneSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var asked []string
		f.on("GET /events", func(before int, r *http.Request) (any, error) {
			asked = append(asked, r.URL.Query().Get("after"))
			switch before {
			case 0:
				return api.EventsAnswer{Events: someEvents(1, 4), Last: 4}, nil
			case 1:
				return nil, errDown
			case 2:
				return api.EventsAnswer{Events: someEvents(5, 6), Last: 6}, nil
			}
			time.Sleep(20 * time.Second)
			return api.EventsAnswer{Last: 6}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Second, cancel)
		got := operator{cluster: f}.run(ctx, "events", "--follow", "--node", "b", "--limit", "1")
		want := "2026-11-20 12:00:04  step       b         event  # because\n2026-11-20 12:00:06  step       b         event  # because\n"
		if got.code != 0 || got.stdout != want {
			t.Errorf("%+v", got)
		}
		if diff := cmp.Diff([]string{"", "4", "4", "6"}, asked[:4]); diff != "" {
			t.Error(diff)
		}
	})
}

func TestEventsJSONIsOneALine(t *testing.T) {
	f := newFake(t)
	f.always("GET /events", api.EventsAnswer{Events: someEvents(1, 3), Last: 3})
	got := operator{cluster: f}.run(t.Context(), "events", "-o", "json")
	if lines := strings.Split(strings.TrimSpace(got.stdout), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[0], `{"seq":1,`) {
		t.Errorf("%+v", got)
	}
}

func TestHistoryListsAndShows(t *testing.T) {
	f := newFake(t)
	f.always("GET /history", []reconcile.Revision{
		{Number: 1, Digest: "sha256:0123456789abcdef", By: "ann@desk", At: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Message: "first"},
		{Number: 2, Digest: "sha256:fedcba9876543210", By: "bob@desk", At: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Message: "more\x1b[2J memory"},
	})
	f.always("GET /history/2", reconcile.Revision{Number: 2, Spec: demoSpec(), Source: "# as written"})
	f.always("GET /history/1", reconcile.Revision{Number: 1, Spec: demoSpec()})
	o := operator{cluster: f}
	want := `REV  ACCEPTED             BY        DIGEST        MESSAGE
  1  2026-11-20 12:00:00  ann@desk  0123456789ab  first
  2  2026-11-21 12:00:00  bob@desk  fedcba987654  more[2J memory
`
	if got := o.run(t.Context(), "history"); got.stdout != want {
		t.Errorf("%s\nwant\n%s", got.stdout, want)
	}
	if got := o.run(t.Context(), "history", "2"); got.stdout != "# as written\n" {
		t.Errorf("%+v", got)
	}
	if got := o.run(t.Context(), "history", "1"); !strings.HasPrefix(got.stdout, "cluster \"demo\" {\n") {
		t.Errorf("%+v", got)
	}
}

func TestVersionNamesEveryRamd(t *testing.T) {
	f := newFake(t)
	f.always("GET /nodes", []api.NodeInfo{
		{NodeStatus: reconcile.NodeStatus{Name: "a"}, Ramd: "v1.0.0"},
		{NodeStatus: reconcile.NodeStatus{Name: "b"}},
	})
	got := operator{cluster: f}.run(t.Context(), "version")
	if got.code != 0 || got.stderr != "" || !strings.HasSuffix(got.stdout, "ramd on a: v1.0.0\nramd on b: unknown\n") {
		t.Errorf("%+v", got)
	}
}

func TestAWrongTokenIsSaidWithWhereTheRightOneIs(t *testing.T) {
	f := newFake(t)
	o := operator{cluster: f, env: map[string]string{"RAM_TOKEN": "wrong"}}
	got := o.run(t.Context(), "status")
	want := "ramctrl: the token is not accepted (the token is wrong): name this cluster's DATA_DIR/admin.token with --token-file\n"
	if got.code != 1 || got.stderr != want {
		t.Errorf("%+v", got)
	}
}

func TestWhatWasObservedIsSavedAndPlannedFrom(t *testing.T) {
	f := planning(t)
	f.always("GET /observed", api.ObservedFile{Format: api.ObservedFormat, Record: &reconcile.Record{Format: 1, Cluster: "demo"}})
	path := filepath.Join(t.TempDir(), "now.json")
	if got := (operator{cluster: f}).run(t.Context(), "plan", "--save-observed", path); got.code != 0 || got.stdout != planText {
		t.Fatalf("%+v", got)
	}
	got := operator{cluster: f}.run(t.Context(), "plan", "--observed", path)
	if got.code != 2 || !strings.Contains(got.stderr, "has no spec in force") {
		t.Errorf("%+v", got)
	}
}

func TestAFailureToRunPsqlIsTold(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "psql"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	f := newFake(t)
	f.always("GET /spec", api.SpecAnswer{Revision: 1, Spec: demoSpec()})
	f.always("GET /credentials", api.Credentials{User: "postgres", Password: "s3cret"})
	o := operator{cluster: f, exec: func(string, []string, []string) error { return errors.New("exec format error") }}
	if got := o.run(t.Context(), "psql"); got.code != 1 || !strings.Contains(got.stderr, "exec format error") || strings.Contains(got.stderr, "s3cret") {
		t.Errorf("%+v", got)
	}
}
