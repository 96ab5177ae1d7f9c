// Package failover is a deterministic world in which everything that failover
// relies on can go wrong: messages are lost, late, doubled and out of order, links
// work in one direction only, processes and hosts stop and go on, clocks run at
// different rates, hosts lose what they had not flushed, and one of them its data
// directory, slots are dropped, leaders are deposed without knowing it. It runs the real
// Succeed, Failover, Diff, Transition, NextAct and Files; agents, guards, voters and
// PostgreSQL are models of what those rely on, with WAL as a list of writes, so that a
// lost write is seen as such.
//
// After every event the safety rules are checked (see check.go); when the faults
// stop the cluster must become whole. A World is driven by its seed alone and is for
// one goroutine.
package failover
