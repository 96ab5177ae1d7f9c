package cluster

import "testing"

// Part runs one part of a test on a cluster that several parts share, as a subtest.
// A part that fails ends the test: the next ones count on a cluster in order.
func (c *Cluster) Part(name string, part func(t *testing.T)) {
	c.t.Helper()
	whole, ok := c.t.(*testing.T)
	if !ok {
		c.t.Fatal("only a test has parts")
	}
	passed := whole.Run(name, func(t *testing.T) {
		c.t = t
		defer func() { c.t = whole }()
		part(t)
	})
	if !passed {
		c.t.FailNow()
	}
}
