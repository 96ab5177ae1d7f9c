// Package backup is a repository: the place, a directory or an object store, where
// base backups and WAL are kept, and the catalog of what is there.
//
// It says how objects are named, compressed, encrypted and checked, who owns a
// repository, and which backups it holds. It knows nothing of PostgreSQL's
// protocols: taking, restoring and archiving are the business of its subpackages.
// An object appears whole or not at all, and a damaged one never reads as good.
// DESIGN.md gives the reasons; README.md the layout, and how to restore by hand.
package backup
