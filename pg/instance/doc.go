// Package instance is one PostgreSQL server on this machine: its programs, data
// directory, configuration files, process and what a look at it tells.
//
// It does what it is told and knows nothing of clusters: which server is primary,
// when to clone and what to configure is decided elsewhere. Every action may be
// killed at any instruction and called again. DESIGN.md explains how a data
// directory comes into place. Linux only, as package guard.
package instance
