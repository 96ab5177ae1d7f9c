package render

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

func TestElapsed(t *testing.T) {
	cases := map[time.Duration]string{
		-time.Second:             "0.0s",
		400 * time.Millisecond:   "0.4s",
		9990 * time.Millisecond:  "9.9s",
		42 * time.Second:         "42s",
		125 * time.Second:        "2m05s",
		3720 * time.Second:       "1h02m",
		100*time.Hour + 1:        "100h00m",
		59999 * time.Millisecond: "59s",
	}
	for d, want := range cases {
		if got := Elapsed(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

func TestStatusShowsAPlannedSwitchover(t *testing.T) {
	s := reconcile.Status{
		Cluster: "demo", Revision: 3, Converged: true, Primary: "a", Term: 2, Timeline: 2,
		Raft:    reconcile.RaftStatus{Leader: "b", Voters: []string{"a", "b", "c"}, HasQuorum: true},
		Planned: &reconcile.PlannedSwitchover{To: "b", At: time.Date(2026, 1, 31, 2, 0, 0, 0, time.UTC), By: "ann@desk"},
	}
	want := `Cluster demo  converged
  primary a (term 2, timeline 2)   raft leader b, 3 voters, quorum   revision 3

  planned: a switchover to b at 2026-01-31 02:00:00 UTC, which is 2026-01-31 03:00:00 CET by this clock, by ann@desk

`
	var out bytes.Buffer
	if err := Status(&out, s, Style{Zone: time.FixedZone("CET", 3600)}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, want) {
		t.Error(cmp.Diff(want, got))
	}
}

func TestStatusSaysWhatAsksForAttention(t *testing.T) {
	s := reconcile.Status{
		Cluster: "demo", Revision: 3, Run: 7,
		Raft:    reconcile.RaftStatus{Leader: "b", Voters: []string{"a", "b", "w"}, HasQuorum: true},
		Primary: "a", Term: 2, Timeline: 2,
		Nodes: []reconcile.NodeStatus{
			{Name: "a", Role: reconcile.RolePrimary, State: reconcile.NodeRunning, Host: "10.0.0.11", Port: 5432, Timeline: 2, LSN: "0/5000060", Healthy: true, LastSeen: 40},
			{Name: "b", Role: reconcile.RoleStandby, State: reconcile.NodeRunning, Host: "10.0.0.12", Port: 5432, Timeline: 2, LSN: "0/5000000", LagBytes: 96, Sync: "quorum", Healthy: true, LastSeen: 52, PendingRestart: true},
			{Name: "c", Role: reconcile.RoleUnknown, State: reconcile.NodeCloning, Host: "10.0.0.13", Port: 5432, LastSeen: 12, Activity: &reconcile.Activity{Step: reconcile.StepClone, Done: 412 * pg.MB, Total: 1229 * pg.MB}},
			{Name: "d", Role: reconcile.RoleUnknown, State: reconcile.NodeUnreachable, Host: "10.0.0.14", Port: 5432, LastSeen: -1, Reason: "its ramd has not reported yet"},
			{Name: "w", Role: reconcile.RoleWitness, State: reconcile.NodeAbsent, Host: "10.0.0.15", Healthy: true, LastSeen: 33},
		},
		Blocked: []reconcile.Blocked{{Node: "d", Reason: "node d: its ramd has not reported yet"}, {Reason: "the disk of b is full"}},
		Drift: []reconcile.Change{{Object: "node b", Attributes: []reconcile.Attribute{
			{Name: "work_mem (ALTER SYSTEM)", Old: "1GB"},
		}}},
		Watch:    []string{"a changed spec waits for ramctrl apply --allow-destroy: node c leaves"},
		Warnings: []string{"commits wait for no standby"},
	}
	want := `Cluster demo  run 7 under way
  primary a (term 2, timeline 2)   raft leader b, 3 voters, quorum   revision 3

  NODE  ROLE     STATE        ADDRESS         TL  LSN         LAG  SYNC     SEEN  NOTE
  a     primary  running      10.0.0.11:5432   2  0/5000060     -  -        0.0s
  b     standby  running      10.0.0.12:5432   2  0/5000000  96 B  quorum   0.0s  settings wait for a restart
  c     unknown  cloning      10.0.0.13:5432   -  -             -  -        0.0s  cloning, 412 MB of 1.2 GB
  d     unknown  unreachable  10.0.0.14:5432   -  -             -  -       never  its ramd has not reported yet
  w     witness  voting       10.0.0.15        -  -             -  -        0.0s

Cannot be done now:
  ! the disk of b is full

Changed by hand, to be put right:
  ! node b: work_mem (ALTER SYSTEM) is "1GB", the spec says not set

Watched file:
  ! a changed spec waits for ramctrl apply --allow-destroy: node c leaves

Warnings:
  ! commits wait for no standby
`
	var out bytes.Buffer
	if err := Status(&out, s, Style{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestStatusVerdicts(t *testing.T) {
	cases := map[string]reconcile.Status{
		"converged":                         {Converged: true, Revision: 1},
		"paused: the cluster decides":       {Converged: true, Paused: true, Revision: 1},
		"no spec applied yet":               {},
		"not converged: see ramctrl plan":   {Revision: 1},
		"run 4 under way":                   {Revision: 1, Run: 4},
		"primary none   raft leader none":   {},
		"0 voters, NO QUORUM":               {},
		"raft leader x, 1 voter, NO QUORUM": {Raft: reconcile.RaftStatus{Leader: "x", Voters: []string{"x"}}},
	}
	for want, s := range cases {
		var out bytes.Buffer
		if err := Status(&out, s, Style{}); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q (%v)", want, out.String(), err)
		}
	}
}

func TestNodes(t *testing.T) {
	nodes := []api.NodeInfo{
		{NodeStatus: reconcile.NodeStatus{Name: "a", Role: reconcile.RolePrimary, Host: "10.0.0.11", Port: 5432, Zone: "north"}, ID: 1, Priority: 100, Voter: true, Ramd: "v1.0.0", APIPort: 8080, RaftPort: 7400, DataDir: "/srv/pg"},
		{NodeStatus: reconcile.NodeStatus{Name: "w", Role: reconcile.RoleWitness, Host: "10.0.0.13", Port: 5432}, ID: 3, Priority: 100, APIPort: 8080, RaftPort: 7400},
	}
	want := `NODE  ID  ROLE     HOST       POSTGRES   API  RAFT  VOTES  PRIORITY  ZONE   RAMD    DATA
a      1  primary  10.0.0.11      5432  8080  7400  yes         100  north  v1.0.0  /srv/pg
w      3  witness  10.0.0.13         -  8080  7400  no            -  -      -       -
`
	var out bytes.Buffer
	if err := Nodes(&out, nodes, Style{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestEventsCarryTheirSeverityAndTheReadersClock(t *testing.T) {
	at := time.Date(2026, 11, 20, 23, 30, 0, 0, time.UTC)
	events := []reconcile.Event{
		{At: at, Kind: reconcile.EventStep, Severity: reconcile.Info, Node: "b", Message: "restart PostgreSQL on b", Reason: "shared_buffers"},
		{At: at, Kind: reconcile.EventPause, Severity: reconcile.Warning, Message: "paused"},
		{At: at, Kind: reconcile.EventNode, Severity: reconcile.Failure, Node: "c", Message: "two\nlines\x1b[2J"},
	}
	want := `2026-11-21 00:30:00  step       b         restart PostgreSQL on b  # shared_buffers
2026-11-21 00:30:00  pause      -         warning: paused
2026-11-21 00:30:00  node       c         error: two lines[2J
`
	var out bytes.Buffer
	if err := Events(&out, events, Style{Zone: time.FixedZone("CET", 3600)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestColorIsOnlyForTerminals(t *testing.T) {
	p := reconcile.Plan{Cluster: "demo", Changes: []reconcile.Change{{Action: reconcile.ActionDestroy, Object: "node c"}}}
	for _, style := range []Style{{}, {Color: true}} {
		var out bytes.Buffer
		if err := Plan(&out, p, style); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "\x1b["); got != style.Color {
			t.Errorf("color %v: %q", style.Color, out.String())
		}
	}
}

func TestPlanSummary(t *testing.T) {
	steps := []reconcile.Step{{ID: "x"}, {ID: "y"}}
	base := reconcile.Base{Revision: 1}
	cases := map[string]reconcile.Plan{
		"Plan: 1 to add, 2 to change, 0 to destroy; 1 clone (412 MB), 2 restarts; writes are interrupted.": {
			Base: base, Steps: steps,
			Summary: reconcile.Summary{Create: 1, Update: 2, Clones: 1, Bytes: 412 * pg.MB, Restarts: 2, WritesInterrupted: true},
		},
		"Plan: 0 to add, 0 to change, 1 to destroy; 2 steps; writes go on; needs --allow-destroy.": {
			Base: base, Steps: steps, Summary: reconcile.Summary{Destroy: 1, Destructive: true},
		},
		"Plan: 0 to add, 0 to change, 0 to destroy; 2 clones.": {
			Steps: steps, Summary: reconcile.Summary{Clones: 2},
		},
		"Plan: nothing to do.": {},
	}
	for want, p := range cases {
		if got := PlanSummary(p); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestTextOfOthersCannotRedrawTheTerminal(t *testing.T) {
	p := reconcile.Plan{
		Cluster: "demo",
		Steps:   []reconcile.Step{{ID: "x", Summary: "go\x1b[2J\n", Reason: "\x9b1A", Waits: "a\tb", Interrupts: "\x07", Destroys: "\r"}},
		Blocked: []reconcile.Blocked{{Reason: "x\x1b]0;title\x07"}},
	}
	var out bytes.Buffer
	if err := Plan(&out, p, Style{}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\x07\r\t\u009b") {
		t.Errorf("%q", out.String())
	}
}

func TestClipCountsWhatIsSeen(t *testing.T) {
	colored := Style{Color: true}.Bad("broken")
	cases := []struct {
		text  string
		width int
		want  string
	}{
		{"12345", 5, "12345"},
		{"123456", 5, "1234…"},
		{"123456", 0, "123456"},
		{colored, 6, colored},
		{colored, 4, "\x1b[31mbro\x1b[0m…\x1b[0m"},
		{"ääää", 3, "ää…"},
	}
	for _, c := range cases {
		if got := clip(c.text, c.width); got != c.want {
			t.Errorf("%q at %d: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

func cloning(done pg.Bytes, state reconcile.StepState) api.RunAnswer {
	return api.RunAnswer{
		Run: reconcile.Run{ID: 7, Steps: []reconcile.RunStep{
			{ID: "clone/b", From: "a", Kind: reconcile.StepClone, Node: "b", Summary: "clone b from a", State: state},
			{ID: "sync/a", Kind: reconcile.StepSync, Node: "a", Summary: "commits wait for any 1 of b", State: reconcile.StepPending},
			{ID: "join/d", Kind: reconcile.StepJoin, Node: "d", Summary: "node d joins the cluster", State: reconcile.StepPending},
		}},
		Elapsed:     9 * time.Second,
		StepElapsed: []time.Duration{8 * time.Second, 0, 0},
		Activities:  map[string]reconcile.Activity{"b": {Step: reconcile.StepClone, Done: done, Total: 1229 * pg.MB}},
		Waits:       map[string]string{"join/d": "ramd start --node d on 10.0.0.14"},
	}
}

func TestProgressIsALineAtEachTurnInALog(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, ProgressConfig{Every: 10 * time.Second})
	now := time.Unix(0, 0)
	for i := range 25 {
		p.Update(now.Add(time.Duration(i)*time.Second), cloning(pg.Bytes(i)*50*pg.MB, reconcile.StepRunning))
	}
	p.Lost(now, errors.New("there is no leader"))
	p.Lost(now, errors.New("there is no leader"))
	failing := cloning(0, reconcile.StepRunning)
	failing.Problems = map[string]reconcile.Problem{"b": {Text: "disk full", Attempts: 2}}
	failing.Blocked = []reconcile.Blocked{{Node: "b", Reason: "node b: disk full"}}
	p.Update(now, failing)
	p.Update(now.Add(3*time.Second), failing)
	p.Update(now.Add(4*time.Second), failing)
	done := cloning(0, reconcile.StepDone)
	done.Run.Steps[1].State = reconcile.StepDropped
	p.Update(now, done)
	p.End()
	want := `  start node b: cloning from a, 1.2 GB
  wait  node d: waits for ramd start --node d on 10.0.0.14
  ...   node b: cloning from a, 500 MB of 1.2 GB [8.0s]
  ...   node b: cloning from a, 1000 MB of 1.2 GB [8.0s]
  the cluster gives no answer, trying again: there is no leader
  the cluster answers again
  !     node b: disk full
  done  node b: cloned from a [8.0s]
  skip  node a: commits wait for any 1 of b (no longer needed)
`
	want = strings.Replace(want, "cloning from a, 1.2 GB", "cloning from a, 0 B of 1.2 GB", 1)
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestProgressIsRedrawnOnATerminal(t *testing.T) {
	var out bytes.Buffer
	width := 58
	p := NewProgress(&out, ProgressConfig{Live: true, Size: func() (int, int) { return width, 24 }})
	p.Update(time.Unix(0, 0), cloning(412*pg.MB, reconcile.StepRunning))
	first := `  ...   node b: cloning from a, 412 MB of 1.2 GB [8.0s]
  wait  node d: waits for ramd start --node d on 10.0.0.…
  run 7: 0 of 3 steps [9.0s]
`
	if diff := cmp.Diff(first, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	p.Update(time.Unix(1, 0), cloning(0, reconcile.StepDone))
	second := "\x1b[3A\x1b[J" + `  done  node b: cloned from a [8.0s]
  wait  node d: waits for ramd start --node d on 10.0.0.…
  run 7: 1 of 3 steps [9.0s]
`
	if diff := cmp.Diff(second, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	width = 80
	p.Lost(time.Unix(2, 0), errors.New("no leader"))
	p.End()
	if diff := cmp.Diff("\x1b[2A\x1b[J  the cluster gives no answer, trying again: no leader [0.0s]\n\x1b[1A\x1b[J", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestProgressStaysWithinTheTerminal(t *testing.T) {
	answer := api.RunAnswer{Run: reconcile.Run{ID: 1}}
	for i := range 100 {
		node := fmt.Sprintf("n%d", i)
		answer.Run.Steps = append(answer.Run.Steps, reconcile.RunStep{ID: "clone/" + node, Kind: reconcile.StepClone, Node: node, State: reconcile.StepRunning})
	}
	var out bytes.Buffer
	p := NewProgress(&out, ProgressConfig{Live: true, Size: func() (int, int) { return 80, 10 }})
	p.Update(time.Unix(0, 0), answer)
	if lines := strings.Count(out.String(), "\n"); lines > 9 || !strings.Contains(out.String(), "and 94 more") {
		t.Errorf("%d lines:\n%s", lines, out.String())
	}
}

func TestStatusWithoutAPrimaryIsLoud(t *testing.T) {
	s := reconcile.Status{
		Cluster: "demo", Revision: 3, Term: 5,
		Raft: reconcile.RaftStatus{Leader: "b", Voters: []string{"a", "b", "c"}, HasQuorum: true},
		Opening: &reconcile.OpeningStatus{
			Cause: reconcile.OpenFailover, Deposed: "a", Target: "c", Reason: "nothing was heard of a for 1s", By: "b",
			OpenMS: 1700, AcceptLoss: true, Promised: []string{"b"}, Of: 2, Waits: "2 of b, c must promise, 1 have",
		},
		Nodes:    []reconcile.NodeStatus{{Name: "a", Role: reconcile.RoleUnknown, State: reconcile.NodeFenced, Host: "10.0.0.11", Port: 5432, LastSeen: 40, Reason: "it waits"}},
		Warnings: []string{"THE GUARANTEE IS OFF"},
	}
	want := `Cluster demo  NO PRIMARY: writes stop until term 5 has one
  primary NONE (term 5 is open)   raft leader b, 3 voters, quorum   revision 3

  TERM 5 IS OPEN for 1.7s: there is no primary (failover of a: nothing was heard of a for 1s; by b)
    promised   b, 1 of 2
    asked for  c
    the loss of acknowledged writes is accepted
    waits for  2 of b, c must promise, 1 have

  NODE  ROLE     STATE   ADDRESS         TL  LSN  LAG  SYNC  SEEN  NOTE
  a     unknown  fenced  10.0.0.11:5432   -  -      -  -     0.0s  it waits

Warnings:
  ! THE GUARANTEE IS OFF
`
	var out bytes.Buffer
	if err := Status(&out, s, Style{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	s.Paused = true
	out.Reset()
	if err := Status(&out, s, Style{}); err != nil || !strings.Contains(out.String(), "NO PRIMARY, and paused") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestPreflightThatIsRefusedNamesNobody(t *testing.T) {
	var out bytes.Buffer
	err := Preflight(&out, reconcile.Preflighted{
		Cause: reconcile.OpenFailover, Term: 5, Open: true, Primary: "a",
		Nodes:    []reconcile.PreflightNode{{Node: "b", LSN: 0x5000060, Lag: 4096, Note: "it has\npromised"}, {Node: "c", Note: "its ramd does not answer"}},
		Refusals: []string{"no node could be chosen now"}, Warnings: []string{"run 7 is under way"},
	}, Style{})
	want := `Failover: no primary, term 5 is open; it was a

  NODE  LSN           LAG  NOTE
  b     0/5000060  4.0 kB  it has promised
  c     -               -  its ramd does not answer

Warnings:
  ! run 7 is under way

Refused:
  ! no node could be chosen now
`
	if diff := cmp.Diff(want, out.String()); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestChoiceSaysWhenItsRuleWasNotMet(t *testing.T) {
	in := reconcile.FailoverInput{
		Format: 1, Term: 5, Cause: reconcile.OpenFailover, AcceptLoss: true, Waited: 6 * time.Second,
		Sets: []reconcile.SyncSet{{K: 1, Members: []string{"b", "c"}}}, Deposed: reconcile.Deposed{Node: "a"},
		Nodes: []reconcile.Candidate{{Node: "b", Priority: 100, Promised: true, Timeline: 1, LSN: 0x60}},
	}
	answer := api.VerdictAnswer{
		Choice: reconcile.Choice{Event: 41, Input: in, Verdict: reconcile.Verdict{Term: 5, Choose: "b", Reason: "it is there", MayLose: "writes after 0/60", Nodes: []reconcile.NodeVerdict{{Node: "b", Chosen: true, Reason: "it is there"}}}},
		Opened: &reconcile.Event{Seq: 40, Reason: "nothing was heard of a"},
	}
	want := `Term 5: node b was chosen
  event     41, -
  because   it is there
  may lose  writes after 0/60
  opened    failover of a, event 40: nothing was heard of a, loss accepted by an operator; decided after 6.0s
  rule      promises of 2 of b, c, so that one of them has every acknowledged write: not met

  NODE  PROMISED  TL  LSN   PRIORITY  ZONE  WHY
  b     yes        1  0/60       100  -     it is there
`
	var out bytes.Buffer
	if err := Choice(&out, answer, Style{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
