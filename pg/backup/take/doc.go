// Package take makes base backups: it has a running PostgreSQL server send one
// over the replication protocol, checks it against the server's manifest while it
// flows, and puts it into a repository in parts. See DESIGN.md.
package take
