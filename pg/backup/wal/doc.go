// Package wal archives a server's write-ahead log in a repository and gives it back.
//
// An Archiver answers PostgreSQL's archive_command, a Fetcher its restore_command, both
// through a Service on a unix socket and a client that PostgreSQL starts for each file.
// Expire removes the WAL that no kept backup needs, and Reach says how far recovery from
// a backup can go. DESIGN.md says why.
package wal
