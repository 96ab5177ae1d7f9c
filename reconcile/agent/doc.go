// Package agent is the loop that every ramd runs for its own host: it looks at
// its PostgreSQL, does the next thing that its assignment asks for, and reports
// to the leader. What is next is reconcile.NextAct's decision; how it is done is
// the Host's.
package agent
