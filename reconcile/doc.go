// Package reconcile holds every decision that ram makes, as pure functions over
// values: what the record becomes when a command is applied (Transition), which
// steps close the gap between spec and world (Diff), what an agent does next on
// its own host (NextAct). It has no clock, no network and no randomness:
// time and identifiers arrive inside the arguments, so that the same input
// always gives the same answer and millions of failures can be simulated.
package reconcile
