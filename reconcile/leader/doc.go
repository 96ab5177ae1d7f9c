// Package leader is the loop of the ramd that leads: it collects what the agents
// report, compares it with the spec in force, and carries the steps of the plan
// into the record. All decisions are reconcile's.
package leader
