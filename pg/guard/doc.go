// Package guard is the parent of the postmaster: a small process of its own
// session that starts PostgreSQL, outlives ramd, and makes sure that nothing of
// the server is left when the postmaster is gone.
//
// ramd starts a guard with Spawn, or finds one that an earlier ramd has started
// with Connect, and talks to it over a unix socket. The guard itself is Main.
// Linux only: the package rests on parent-death signals, child subreapers and
// /proc. DESIGN.md says why.
package guard
