package faults

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFaultsTwoPrimariesMadeByHandAreFound shows that what the other tests look for is
// found: a standby is promoted behind the back of a cluster whose ramds and guards are
// frozen, while the old primary goes on with the other standby.
func TestFaultsTwoPrimariesMadeByHandAreFound(t *testing.T) {
	c := formed(t)
	writer, probes := c.StartWriter(Pace{}), c.StartProbes()
	c.AwaitAcknowledged(writer, 20)
	primary := c.Primary()
	second := c.Others(primary)[0]
	for _, name := range c.Nodes() {
		c.Host(name).Signal(syscall.SIGSTOP, "/ramd ")
	}
	c.promoteByHand(second)
	for i, name := range c.Nodes() {
		if name == primary || name == second {
			c.AwaitAcknowledged(probes[i], 20)
		}
	}
	c.AwaitAcknowledged(writer, 20)

	ledgers := []*Ledger{writer.Stop()}
	for _, p := range probes {
		ledgers = append(ledgers, p.Stop())
	}
	if err := CheckOnePrimary(ledgers...); err == nil {
		t.Errorf("two servers accepted writes at once, and nothing is found in %v", ledgers)
	}
	if err := ledgers[0].Check(c.numbers(primary, ledgers[0].Table)); err != nil {
		t.Errorf("the primary lacks nothing: %v", err)
	}
	if err := ledgers[0].Check(c.numbers(second, ledgers[0].Table)); err == nil {
		t.Error("the other server lacks writes, and nothing is found")
	}
	for _, name := range c.Nodes() {
		c.KillHost(name) // what was made here is nothing that a cluster can go on from
	}
}

// promoteByHand makes a standby a primary that waits for nobody.
func (c *Cluster) promoteByHand(node string) {
	c.t.Helper()
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()"} {
		if _, err := column[any](c, node, sql); err != nil {
			c.t.Fatalf("node %s: %s: %v", node, sql, err)
		}
	}
	c.until("the server has read its configuration", func() bool {
		got, err := column[string](c, node, "SHOW synchronous_standby_names")
		return err == nil && cmp.Equal(got, []string{""})
	})
	c.must(os.WriteFile(filepath.Join(c.DataDir(node), "promote"), nil, 0o644))
	c.must(syscall.Kill(c.Postmaster(node), syscall.SIGUSR1))
}
