// Package raftstore replicates the record of a cluster between its ramds with
// hashicorp/raft on a bbolt log. It knows how to store, not what is right: what a
// command means is the Machine's business, who may be a member is the caller's.
//
// A Store owns one directory (Dir), one listener and a handful of goroutines;
// Open starts them and Close ends them all. Every method of Store is safe for
// concurrent use.
package raftstore
