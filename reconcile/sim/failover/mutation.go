package failover

import (
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Mutation bends one rule, at the seams between the decisions and the world, to see
// that the world finds out. The zero Mutation bends none.
type Mutation struct {
	// Observed and Record change what the leader decides upon, Transition what a
	// command makes of the record, Files what an agent writes.
	Observed   func(*reconcile.Record, *reconcile.Observed)
	Record     func(*reconcile.Record)
	Transition func(*reconcile.Record)
	Files      func(reconcile.Assignment, *pg.ConfigFiles)

	// ForgetsPromise has an agent that starts again take older terms; Remembers has
	// it begin with what it was assigned before, with nobody asked.
	ForgetsPromise, Remembers bool
	// NoRewind has a former primary follow with what it has.
	NoRewind bool
	// AnyTimeline has a promotion begin whatever timeline PostgreSQL would take.
	AnyTimeline bool
	// NoCheckpoint has it take a sync set for in force before the checkpointer has read it.
	NoCheckpoint bool
	// PositionBeforeFreeze has it report where WAL ended before it disconnected.
	PositionBeforeFreeze bool
	// DeadEarly has it report a server as stopped that still has processes.
	DeadEarly bool
	// LeaseFromAnswer counts a lease from when it was confirmed.
	LeaseFromAnswer bool
	// ConfirmsAnyTerm has voters confirm the leases of all terms.
	ConfirmsAnyTerm bool
}
