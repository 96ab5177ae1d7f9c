package daemon

import (
	"fmt"
	"maps"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// What the lost nodes may have used without this node's knowledge is passed over, so
// that no number is used twice. A timeline costs a small file on every server.
const (
	serialLeap   = 1_000_000
	termLeap     = 1000
	timelineLeap = 32
)

// refounded is the record of the new group: the old one, with an identity of its own and
// this node in its new incarnation. The others stay as they are: each is replaced when
// it joins again, or leaves when a spec without it is applied.
func refounded(rec *reconcile.Record, self reconcile.Member, id identity, at time.Time, acceptLoss bool) (*reconcile.Record, error) {
	next := *rec
	next.Planned = nil // it was planned for another state of things
	next.ClusterID, next.Secrets.PeerToken = id.ClusterID, id.PeerToken
	next.Members = maps.Clone(rec.Members)
	next.Members[self.Name] = self
	next.Assignments = maps.Clone(rec.Assignments)
	for node, a := range next.Assignments {
		a.Serial += serialLeap
		next.Assignments[node] = a
	}
	if rec.SystemID != 0 {
		next.Timeline = max(rec.Timeline, 1) + pg.Timeline(timelineLeap)
	}
	event := reconcile.Event{
		Kind: reconcile.EventBootstrap, Severity: reconcile.Warning, Node: self.Name,
		Message: fmt.Sprintf("node %s is the only voter of a new Raft group", self.Name),
		Reason:  "an operator declared the majority of the old one lost (ramd recover --force-new-cluster)",
	}
	by := "ramd recover"
	with, err := reconcile.Transition(&next, reconcile.Command{At: at, By: by, Progress: &reconcile.Progress{Events: []reconcile.Event{event}}})
	if err != nil || !opens(rec, self.Name) {
		return with, err
	}
	from := *with
	from.Term += termLeap
	open := reconcile.OpenFor(&from, reconcile.OpenFailover, "", acceptLoss)
	open.Opening.Reason = "the majority of the Raft group was lost"
	return reconcile.Transition(&from, reconcile.Command{At: at, By: by, Open: open})
}

// opens reports whether the new group begins with a term without a primary. The node that
// is the primary as far as it knows stays it. What is paused decides nothing.
func opens(rec *reconcile.Record, self string) bool {
	return rec.SystemID != 0 && rec.Pause == nil && rec.Primary != self && (rec.Primary != "" || rec.Opening != nil)
}
