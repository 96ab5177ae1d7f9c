package failover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// tick is the grain of time: everything happens at some multiple of it.
const tick = 10 * time.Millisecond

// World is a cluster, its hosts, the network between them, and its clients.
type World struct {
	// Hours are how long faults last; see Run.
	random *rand.Rand
	now    time.Duration
	bend   Mutation

	hosts []*host
	names map[string]*host
	cut   map[[2]string]bool
	loss  int // per cent of the messages that are lost
	mail  []message

	log     []*reconcile.Record // log[i] is the record after i commands
	raft    uint64              // the highest term of Raft's own
	tail    *pending
	writes  uint64
	ledger  ledger
	trace   []string
	broken  []string
	elected int
	// unguarded is set when guards may be stopped or killed together with their
	// postmaster: then leases bind nobody.
	unguarded bool
	wiped     bool // a data directory
}

// pending is a command that did not reach a majority and may still be committed.
type pending struct {
	cmd     reconcile.Command
	holders []string
	index   int
}

// Options are what a World is made of besides its seed.
type Options struct {
	Spec *spec.Cluster
	// Mutation bends a rule; the zero one bends none.
	Mutation Mutation
}

// New is a cluster that has converged and whose faults are about to begin.
func New(seed uint64, o Options) *World {
	w := &World{
		random: rand.New(rand.NewPCG(seed, 3)), bend: o.Mutation,
		names: map[string]*host{}, cut: map[[2]string]bool{},
		log: []*reconcile.Record{{}},
	}
	form := reconcile.Form{Cluster: o.Spec.Name, ClusterID: "sim"}
	voters := o.Spec.Voters()
	for _, n := range o.Spec.Nodes {
		h := &host{w: w, name: n.Name, addr: n.Host, voter: slices.Contains(voters, n.Name), up: true}
		h.rate = 990 + time.Duration(w.random.IntN(21))
		h.skew = time.Duration(w.random.IntN(1000)) * time.Second
		w.hosts, w.names[n.Name] = append(w.hosts, h), h
		form.Members = append(form.Members, reconcile.Member{Name: n.Name, Incarnation: n.Name, Host: n.Host, APIPort: n.Ports.API, RaftPort: n.Ports.Raft})
	}
	for _, h := range w.hosts {
		h.startRamd()
		h.ramd.started -= time.Minute
	}
	w.hosts[0].lead()
	w.mustPropose(reconcile.Command{Form: &form})
	w.mustPropose(reconcile.Command{Accept: &reconcile.Accept{Spec: o.Spec, Cause: reconcile.CauseApply}})
	return w
}

// record is all that has been committed.
func (w *World) record() *reconcile.Record { return w.log[len(w.log)-1] }

func (w *World) chance(percent int) bool { return w.random.IntN(100) < percent }

func (w *World) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%8.2f ", w.now.Seconds())+fmt.Sprintf(format, args...))
}

func (w *World) breaks(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("BROKEN: %s", text)
	w.broken = append(w.broken, text)
}

// Err is the first rule that was broken, with the last events before it.
func (w *World) Err() error {
	if len(w.broken) == 0 {
		return nil
	}
	return fmt.Errorf("%s\n%s", w.broken[0], w.Transcript(250))
}

// Transcript is the last n events, one in a line.
func (w *World) Transcript(n int) string {
	return strings.Join(w.trace[max(0, len(w.trace)-n):], "\n")
}

// step lets one tick pass. What happens within it happens in random order, but for
// guards, whose timers are the kernel's.
func (w *World) step() {
	w.now += tick
	for _, h := range w.hosts {
		h.guardLooks()
	}
	w.deliver()
	for _, i := range w.random.Perm(len(w.hosts)) {
		h := w.hosts[i]
		if !h.runs() {
			continue
		}
		w.postgres(h)
		if h.ramd != nil && !h.ramd.stopped {
			w.daemon(h)
		}
		w.check()
	}
	w.elections()
}

// Run has n ticks pass, with faults at the given rate in a thousand ticks. It stops at the first broken rule.
func (w *World) Run(n, faults int) error {
	for range n {
		w.step()
		if w.random.IntN(1000) < faults {
			w.fault()
			w.check()
		}
		if err := w.Err(); err != nil {
			return err
		}
	}
	return nil
}

// Settle ends all faults and demands that within n ticks there is one primary, that
// all others stream from it, and that the plan is empty.
func (w *World) Settle(n int) error {
	w.heal()
	for i := range n {
		w.step()
		if i >= n/2 && i%(n/8) == 0 {
			w.giveUpData()
		}
		if err := w.Err(); err != nil {
			return err
		}
		if w.whole() {
			w.checkLedger()
			return w.Err()
		}
	}
	return fmt.Errorf("the cluster does not become whole: %s\n%s", w.unfinished(), w.Transcript(150))
}

// Unguarded lets guards be stopped and killed, which no lease survives.
func (w *World) Unguarded(yes bool) { w.unguarded = yes }

// Counts says how much has happened, so that a world in which nothing does is seen.
func (w *World) Counts() string {
	return fmt.Sprintf("%d commands, %d elections of primaries, %d writes, %d acknowledged", len(w.log), w.elected, w.writes, len(w.ledger.acks))
}
