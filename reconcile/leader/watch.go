package leader

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Cluster is what a leader asks of the other nodes, and of itself, about the
// primary. Calls of Ask and Bar may be concurrent and end with their context.
type Cluster interface {
	// Heard is how long ago this node heard a beat of a primary, as a voter or as the
	// leader, and the end of WAL that it told.
	Heard(node string) (age time.Duration, lsn pg.LSN)
	// Ask has a node try whether a server answers on an address.
	Ask(ctx context.Context, node string, server reconcile.Upstream) (bool, error)
	// Bar tells a voter of a term: it confirms no lease of an earlier one any more.
	Bar(ctx context.Context, voter string, term uint64) error
}

// watch is a leader's knowledge of the primary between two rounds, on its own
// monotonic clock (S5).
type watch struct {
	cluster Cluster
	wake    func()
	calls   sync.WaitGroup

	mu        sync.Mutex // guards what follows
	asking    bool
	asked     time.Time // when they were asked last
	unreached time.Time // when the last of them had no answer from the server of silent; zero when one had
	silent    string
	term      uint64    // of the opening that is known
	opened    time.Time // when it was first seen
	asks      time.Time // when promises were first seen to be asked for; zero before
	barring   bool
	tried     time.Time // when they were told last
	barred    time.Time // when a majority had been told of it; zero before
	told      map[string]bool
}

// pulse is what reconcile.Succeed is told.
func (w *watch) pulse(rec *reconcile.Record, now time.Time) reconcile.Pulse {
	name := rec.Primary
	if rec.Opening != nil {
		name = rec.Opening.Deposed
	}
	var p reconcile.Pulse
	if w.cluster == nil || name == "" {
		return p
	}
	p.Silent, p.LSN = w.cluster.Heard(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	if rec.Spec != nil {
		p.Unreached = w.silent == name && !w.unreached.IsZero() && now.Sub(w.unreached) < rec.Spec.Failover.Detect.Std()
	}
	if rec.Opening == nil {
		w.term = 0
		return p
	}
	if w.term != rec.Term {
		w.term, w.opened, w.asks, w.barred, w.told = rec.Term, now, time.Time{}, time.Time{}, map[string]bool{}
	}
	p.Open = now.Sub(w.opened)
	if w.asks.IsZero() && !rec.Opening.Stopping {
		w.asks = now
	}
	if !w.asks.IsZero() {
		p.Asked = now.Sub(w.asks)
	}
	if !w.barred.IsZero() {
		p.Barred = now.Sub(w.barred)
	}
	return p
}

// ask has all other nodes try whether the primary's server answers them.
func (w *watch) ask(ctx context.Context, rec *reconcile.Record) {
	name := rec.Primary
	if rec.Opening != nil {
		name = rec.Opening.Deposed
	}
	server := rec.Assignments[name].Server
	detect := rec.Spec.Failover.Detect.Std()
	limit := detect - reconcile.AskAfter(detect)
	now := time.Now()
	w.mu.Lock()
	busy := w.asking || w.cluster == nil || now.Sub(w.asked) < limit/asksPerLimit
	if !busy {
		w.asking, w.asked = true, now
	}
	w.mu.Unlock()
	if busy {
		return
	}
	w.calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		var asked sync.WaitGroup
		var reached atomic.Bool
		for node := range rec.Members {
			if node == name {
				continue
			}
			asked.Go(func() {
				up, err := w.cluster.Ask(ctx, node, reconcile.Upstream{Node: name, Host: server.Host, Port: server.Port})
				if err == nil && up {
					reached.Store(true)
					cancel() // one is enough
				}
			})
		}
		asked.Wait()
		w.mu.Lock()
		w.asking, w.silent, w.unreached = false, name, time.Time{}
		if !reached.Load() {
			w.unreached = time.Now()
		}
		w.mu.Unlock()
		w.wake()
	})
}

// asksPerLimit is how often the others are asked within the time that they have to
// answer; barAgain is the time between two tries to reach voters.
const (
	asksPerLimit = 4
	barAgain     = 100 * time.Millisecond
)

// bar tells the voters of the open term, until a majority has heard of it.
func (w *watch) bar(ctx context.Context, rec *reconcile.Record, voters []string) {
	now := time.Now()
	w.mu.Lock()
	busy := w.cluster == nil || w.barring || !w.barred.IsZero() || w.term != rec.Term || now.Sub(w.tried) < barAgain
	if !busy {
		w.barring, w.tried = true, now
	}
	w.mu.Unlock()
	if busy {
		return
	}
	term := rec.Term
	w.calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var told sync.WaitGroup
		for _, voter := range voters {
			told.Go(func() {
				if w.cluster.Bar(ctx, voter, term) == nil {
					w.hasHeard(term, voter, len(voters))
				}
			})
		}
		told.Wait()
		w.mu.Lock()
		w.barring = false
		w.mu.Unlock()
		w.wake()
	})
}

// hasHeard counts the voters that know of the term. The lease counts from when the
// last of a majority had answered.
func (w *watch) hasHeard(term uint64, voter string, voters int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.term != term {
		return
	}
	w.told[voter] = true
	if w.barred.IsZero() && 2*len(w.told) > voters {
		w.barred = time.Now()
	}
}
