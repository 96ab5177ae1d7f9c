// Package spec is what an operator wants a PostgreSQL cluster to be: the types
// of the spec, their defaults and the rules that a valid spec keeps. It does no
// I/O and knows no syntax; spec/hclspec reads and writes HCL.
package spec
