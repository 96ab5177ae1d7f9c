package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/ramhq/ram/spec"
)

// Generator makes specs, and changes to them, from a seed.
type Generator struct {
	random *rand.Rand
	made   int // nodes, so that names and addresses are new
}

// NewGenerator is a generator; the same seed makes the same specs.
func NewGenerator(seed uint64) *Generator {
	return &Generator{random: rand.New(rand.NewPCG(seed, 2))}
}

// Spec is a cluster of n nodes with parameters, priorities and witnesses of all kinds.
func (g *Generator) Spec(n int) *spec.Cluster {
	c := spec.NewCluster("sim")
	c.Postgres.Version = major
	for range n {
		g.addNode(c)
	}
	c.Nodes[0].Witness, c.Nodes[0].Priority = false, 100
	for range g.random.IntN(4) {
		g.parameter(c)
	}
	g.replication(c)
	return c
}

func (g *Generator) addNode(c *spec.Cluster) {
	g.made++
	n := spec.NewNode(fmt.Sprintf("n%02d", g.made), g.made)
	n.Host = fmt.Sprintf("10.0.1.%d", g.made)
	n.Priority = []int{100, 100, 100, 50, 0}[g.random.IntN(5)]
	if g.random.IntN(8) == 0 {
		n.Witness, n.Priority = true, 100
	}
	c.Nodes = append(c.Nodes, n)
}

// Change is c with a few random changes. Keep is a node that must stay able to
// be primary.
func (g *Generator) Change(c *spec.Cluster, keep string) *spec.Cluster {
	next := *c
	next.Nodes = slices.Clone(c.Nodes)
	next.Postgres.Parameters = maps.Clone(c.Postgres.Parameters)
	next.Postgres.HBA = slices.Clone(c.Postgres.HBA)
	for range 1 + g.random.IntN(3) {
		g.change(&next, keep)
	}
	g.fitSync(&next)
	return &next
}

func (g *Generator) change(c *spec.Cluster, keep string) {
	i := g.random.IntN(len(c.Nodes))
	n := &c.Nodes[i]
	switch g.random.IntN(9) {
	case 0, 1, 2:
		g.parameter(c)
	case 3:
		if len(c.Nodes) < 12 {
			g.addNode(c)
		}
	case 4:
		if n.Name != keep && len(c.Nodes) > 1 {
			c.Nodes = slices.Delete(c.Nodes, i, i+1)
		}
	case 5:
		n.Ports.Postgres = 5432 + g.random.IntN(3)
	case 6:
		c.Postgres.HBA = append(c.Postgres.HBA, fmt.Sprintf("host all all 10.%d.0.0/16 scram-sha-256", g.random.IntN(200)))
	case 7:
		g.replication(c)
	case 8:
		g.nodeParameter(n, keep)
	}
}

func (g *Generator) nodeParameter(n *spec.Node, keep string) {
	switch {
	case n.Witness:
	case g.random.IntN(3) == 0 && n.Name != keep:
		n.Priority = 50 * g.random.IntN(3)
	default:
		n.Parameters = maps.Clone(n.Parameters)
		if n.Parameters == nil {
			n.Parameters = map[string]string{}
		}
		name := []string{"work_mem", "shared_buffers"}[g.random.IntN(2)]
		n.Parameters[name] = strconv.Itoa(64<<g.random.IntN(4)) + "MB"
	}
}

func (g *Generator) parameter(c *spec.Cluster) {
	if c.Postgres.Parameters == nil {
		c.Postgres.Parameters = map[string]string{}
	}
	names := append(floor(), "shared_buffers", "work_mem", "max_connections")
	name := names[g.random.IntN(len(names))]
	if g.random.IntN(5) == 0 {
		delete(c.Postgres.Parameters, name)
		return
	}
	v := strconv.Itoa(64 << g.random.IntN(4))
	if !slices.Contains(floor(), name) {
		v += "MB"
	}
	c.Postgres.Parameters[name] = v
}

func (g *Generator) replication(c *spec.Cluster) {
	c.Replication.Mode = spec.ModeQuorum
	c.Replication.SyncStandbys = 1 + g.random.IntN(3)
	if g.random.IntN(4) == 0 {
		c.Replication.Mode, c.Replication.SyncStandbys = spec.ModeAsync, 0
	}
	g.fitSync(c)
}

// fitSync keeps sync_standbys at what the spec's nodes can give.
func (g *Generator) fitSync(c *spec.Cluster) {
	electable := 0
	for _, n := range c.Nodes {
		if n.Electable() {
			electable++
		}
	}
	if c.Replication.Mode == spec.ModeQuorum {
		c.Replication.SyncStandbys = min(max(1, c.Replication.SyncStandbys), electable-1)
	}
}
