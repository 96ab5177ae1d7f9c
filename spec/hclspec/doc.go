// Package hclspec reads the spec language from HCL and writes it: Parse turns
// files into a spec.Cluster and finds all that is wrong with them, Encode turns a
// cluster back into text, Format gives text its canonical layout. It does no
// I/O but what its caller passes in.
package hclspec
