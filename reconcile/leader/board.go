package leader

import (
	"maps"
	"sync"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// board holds the latest report of every node. It is made anew with each
// leadership: what an earlier leader knew is not known.
type board struct {
	// silence is how long a node may be silent and still count as reachable.
	silence time.Duration
	begun   time.Time
	changed chan struct{} // holds one signal at most; never closed

	mu      sync.Mutex
	reports map[string]heard // guarded by mu
}

type heard struct {
	report reconcile.Report
	at     time.Time
}

func newBoard(silence time.Duration) *board {
	return &board{silence: silence, begun: time.Now(), changed: make(chan struct{}, 1), reports: map[string]heard{}}
}

func (b *board) put(r reconcile.Report, at time.Time) {
	b.mu.Lock()
	before, known := b.reports[r.Node]
	b.reports[r.Node] = heard{r, at}
	b.mu.Unlock()
	if !known || at.Sub(before.at) > b.silence || reconcile.News(before.report, r) {
		b.wake()
	}
}

// report is what a node said last.
func (b *board) report(node string) reconcile.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reports[node].report
}

// wake has the leader look.
func (b *board) wake() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// observed is the state of the board for the members of a record. A report of an
// incarnation that is no longer a member does not count. A node that has not
// reported has been silent since this leadership began, as far as is known.
func (b *board) observed(rec *reconcile.Record, now time.Time) reconcile.Observed {
	b.mu.Lock()
	reports := maps.Clone(b.reports)
	b.mu.Unlock()
	obs := reconcile.Observed{Nodes: make(map[string]reconcile.NodeView, len(rec.Members))}
	for name, m := range rec.Members {
		h, ok := reports[name]
		if !ok || h.report.Incarnation != m.Incarnation {
			obs.Nodes[name] = reconcile.NodeView{Silent: now.Sub(b.begun)}
			continue
		}
		silent := now.Sub(h.at)
		obs.Nodes[name] = reconcile.NodeView{
			Report: h.report, Reported: true, Reachable: silent <= b.silence, Silent: silent,
		}
	}
	return obs
}
