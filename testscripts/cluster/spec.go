package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// Spec writes a spec for tests. The zero values leave everything at its default.
type Spec struct {
	// Nodes in the order of the file.
	Nodes []string
	// Witnesses are those of Nodes that hold no data.
	Witnesses []string
	// Node are further lines in the blocks of nodes.
	Node map[string]string
	// Postgres, Parameters and Cluster are further lines in the block postgres,
	// its parameters and the cluster itself.
	Postgres, Parameters, Cluster string
	// Version is PostgreSQL's; zero means the newest that is installed.
	Version int
	// Swift leaves the block failover out, for a cluster that has the machine for itself.
	// Others suspect nobody before they would have to on a machine that they share.
	Swift bool
}

// patient is such that a host that gets no CPU for a while is no failure.
const patient = "  failover {\n    detect = \"3s\"\n    lease  = \"9s\"\n  }\n"

// Name is that of every cluster of a Spec.
const Name = "test"

// Without is the spec with some nodes gone.
func (s Spec) Without(names ...string) Spec {
	s.Nodes = slices.DeleteFunc(slices.Clone(s.Nodes), func(n string) bool { return slices.Contains(names, n) })
	return s
}

// With is the spec with more nodes at the end.
func (s Spec) With(names ...string) Spec {
	s.Nodes = slices.Concat(s.Nodes, names)
	return s
}

// String is the spec as HCL, with "@a" for the address of node a.
func (s Spec) String() string {
	version := s.Version
	if version == 0 {
		version, _ = postgres() // New has said what is wrong
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %q {\n  postgres {\n    version = %d\n%s", Name, version, s.Postgres)
	// Several clusters share the machine.
	fmt.Fprintf(&b, "    parameters = {\n      shared_buffers = \"16MB\"\n      min_wal_size = \"32MB\"\n%s    }\n  }\n", lines(s.Parameters))
	for _, name := range s.Nodes {
		fmt.Fprintf(&b, "  node %q {\n    host = \"@%[1]s\"\n", name)
		if slices.Contains(s.Witnesses, name) {
			b.WriteString("    witness = true\n")
		}
		b.WriteString(lines(s.Node[name]) + "  }\n")
	}
	if !s.Swift {
		b.WriteString(patient)
	}
	b.WriteString(lines(s.Cluster) + "}\n")
	return b.String()
}

func lines(s string) string {
	if s == "" || strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}
