package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// tick is how much time one tick stands for, silence how many ticks without a
// report make a node unreachable.
const (
	tick    = 100 * time.Millisecond
	silence = 10
)

// World is a cluster, the hosts around it and all that can happen to them.
type World struct {
	// Record is what Raft has replicated.
	Record *reconcile.Record
	// Seen are the steps that rounds have found since the last Accept, in the
	// order in which they first had nothing before them, and Interrupts what
	// they said of clients.
	Seen       []string
	Interrupts map[string]string
	// Informed has the leader wait for reports before it decides, as the real
	// one does. Safety must not depend on it.
	Informed bool

	random   *rand.Rand
	now      int
	hosts    map[string]*host
	order    []*host // by name
	raft     map[string]reconcile.RaftMember
	leader   string
	since    int
	opened   int // when the term that is open was
	heard    map[string]heard
	commands [][]byte
	trace    []string
	broken   []string
	initdbs  int
	down     map[string]reconcile.StepKind // servers that ramd itself took down
	rounds   int
	// meddled is set once somebody has taken away what the leader had reason to
	// rely on, which some invariants cannot survive.
	meddled bool
	// unchecked leaves the costly checks out.
	unchecked bool
	addresses map[string]*host
}

type heard struct {
	report reconcile.Report
	at     int
}

// New is a world whose ramds of want's nodes have just formed a cluster. Nothing
// has been accepted yet.
func New(seed uint64, want *spec.Cluster) *World {
	w := &World{
		Record: &reconcile.Record{}, Informed: true,
		random: rand.New(rand.NewPCG(seed, 1)),
		hosts:  map[string]*host{}, addresses: map[string]*host{}, raft: map[string]reconcile.RaftMember{},
		heard: map[string]heard{}, down: map[string]reconcile.StepKind{}, Interrupts: map[string]string{},
	}
	form := reconcile.Form{Cluster: want.Name, ClusterID: "sim"}
	voters := want.Voters()
	for _, n := range want.Nodes {
		h := w.provide(n)
		form.Members = append(form.Members, w.member(n, h))
		w.raft[n.Name] = reconcile.RaftMember{Name: n.Name, Incarnation: h.id(), Voter: slices.Contains(voters, n.Name)}
	}
	w.mustPropose(reconcile.Command{Form: &form})
	w.elect()
	return w
}

// provide is the host of a node, with a ramd that runs.
func (w *World) provide(n spec.Node) *host {
	h := w.hosts[n.Name]
	if h == nil {
		h = &host{name: n.Name, addr: n.Host}
		w.hosts[n.Name], w.addresses[h.addr] = h, h
		w.order = append(w.order, h)
		slices.SortFunc(w.order, func(a, b *host) int { return compare(a.name, b.name) })
	}
	h.ramd = true
	return h
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (w *World) member(n spec.Node, h *host) reconcile.Member {
	return reconcile.Member{
		Name: n.Name, Incarnation: h.id(), Host: n.Host, APIPort: n.Ports.API, RaftPort: n.Ports.Raft, JoinedAt: w.time(),
	}
}

func (w *World) all() []*host { return w.order }

func (w *World) time() time.Time {
	return time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).Add(time.Duration(w.now) * tick)
}

func (w *World) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%6d ", w.now)+fmt.Sprintf(format, args...))
}

func (w *World) breaks(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("BROKEN: %s", text)
	w.broken = append(w.broken, text)
}

// Err is what was broken so far, with the last events before it; nil when
// nothing was.
func (w *World) Err() error {
	if len(w.broken) == 0 {
		return nil
	}
	return fmt.Errorf("%s\n%s", w.broken[0], w.Transcript(120))
}

// Transcript is the last n events, one in a line.
func (w *World) Transcript(n int) string {
	var text []byte
	for _, line := range w.trace[max(0, len(w.trace)-n):] {
		text = append(append(text, line...), '\n')
	}
	return string(text)
}

// propose replicates a command as the record's bytes would travel, and checks
// that the record it changes is left as it was.
func (w *World) propose(cmd reconcile.Command) error {
	cmd.At, cmd.By = w.time(), "sim"
	b, err := reconcile.EncodeCommand(cmd)
	if err != nil {
		return err
	}
	decoded, err := reconcile.DecodeCommand(b)
	if err != nil {
		return err
	}
	check := len(w.commands)%16 == 0 && !w.unchecked
	var before []byte
	if check {
		before = encode(w.Record)
	}
	w.commands = append(w.commands, b)
	next, err := reconcile.Transition(w.Record, decoded)
	if check && string(before) != string(encode(w.Record)) {
		w.breaks("Transition changed its input: %s", b)
	}
	if err != nil {
		return err
	}
	w.checkTransition(w.Record, next, decoded)
	if w.Record.Opening == nil && next.Opening != nil {
		w.opened = w.now
	}
	w.Record = next
	return nil
}

func (w *World) mustPropose(cmd reconcile.Command) {
	if err := w.propose(cmd); err != nil {
		panic("sim: " + err.Error())
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("sim: " + err.Error())
	}
	return b
}

// Accept makes want the spec in force, as ramctrl apply does, and starts ramd on
// hosts that are new.
func (w *World) Accept(want *spec.Cluster) error {
	plan := reconcile.Diff(want, w.Record, w.Observed())
	if plan.Refused() {
		return fmt.Errorf("refused: %s", plan.Blocked[0].Reason)
	}
	for _, n := range want.Nodes {
		w.provide(n)
	}
	w.Seen, w.Interrupts = nil, map[string]string{}
	w.note("revision %d accepted", plan.Revision)
	return w.propose(reconcile.Command{Accept: &reconcile.Accept{
		Spec: want, Base: w.Record.Revision, Cause: reconcile.CauseApply, Steps: reconcile.RunSteps(plan),
	}})
}

// Ask is an operator's wish.
func (w *World) Ask(cause reconcile.Cause, nodes ...string) error {
	w.Seen = nil
	return w.propose(reconcile.Command{Ask: &reconcile.Ask{Cause: cause, Nodes: nodes}})
}

// Pause pauses or resumes.
func (w *World) Pause(paused bool) {
	w.mustPropose(reconcile.Command{Pause: &reconcile.SetPause{Paused: paused}})
}

// Observed is what the leader knows.
func (w *World) Observed() reconcile.Observed {
	obs := reconcile.Observed{Nodes: map[string]reconcile.NodeView{}}
	for name, m := range w.Record.Members {
		h, ok := w.heard[name]
		if !ok || h.report.Incarnation != m.Incarnation {
			obs.Nodes[name] = reconcile.NodeView{Silent: time.Duration(w.now-w.since) * tick}
			continue
		}
		silent := w.now - h.at
		obs.Nodes[name] = reconcile.NodeView{
			Report: h.report, Reported: true, Reachable: silent <= silence, Silent: time.Duration(silent) * tick,
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.raft)) {
		obs.Raft = append(obs.Raft, w.raft[name])
	}
	obs.Pulse = w.pulse()
	return obs
}

// pulse is what the leader knows of the primary beside its reports. Links between
// servers are never cut here, so that others reach a server as long as it runs.
func (w *World) pulse() reconcile.Pulse {
	name := w.Record.Primary
	if o := w.Record.Opening; o != nil {
		name = o.Deposed
	}
	p := reconcile.Pulse{Silent: time.Duration(w.now-w.since) * tick}
	if h, ok := w.heard[name]; ok {
		p.Silent, p.LSN = time.Duration(w.now-h.at)*tick, h.report.Server.LSN
	}
	if h := w.hosts[name]; h != nil {
		p.Unreached = h.server == nil
	}
	if w.Record.Opening != nil {
		p.Open = time.Duration(w.now-max(w.opened, w.since)) * tick
		p.Asked, p.Barred = p.Open, p.Open
	}
	return p
}

// SystemIDs are the identifiers of the data directories that hosts hold.
func (w *World) SystemIDs() map[string]pg.SystemID {
	ids := map[string]pg.SystemID{}
	for _, h := range w.all() {
		if h.disk.state == pg.DirCluster {
			ids[h.name] = h.disk.system
		}
	}
	return ids
}

// ErrStuck says that a world does not converge.
var ErrStuck = errors.New("the world does not converge")
