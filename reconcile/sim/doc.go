// Package sim is a deterministic world around the decisions of package
// reconcile: hosts with data directories and servers, agents that do one act at
// a time, a Raft group that never forgets, a leader that knows only what was
// reported to it, and faults. It runs the real Diff, Track, Transition, NextAct,
// Files and FindDrift; what PostgreSQL does about settings, slots and streaming
// is a model of the parts that those decisions rely on. There is no clock and no
// goroutine: a World is driven by its seed alone, so that a failing seed fails
// again, and it checks the invariants of reconcile's DESIGN.md after every event.
//
// A World is for one goroutine.
package sim
