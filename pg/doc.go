// Package pg is PostgreSQL's own vocabulary: positions in the WAL, timelines,
// system identifiers, settings, connection strings and the text of
// configuration files. It does no I/O; its subpackages do.
package pg
