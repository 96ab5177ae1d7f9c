package faults

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// Watch is a writer as a client has it, one beside every server, and two clients with
// a register: all that has to be known to say afterwards that nothing was lost and
// that there was never more than one primary.
type Watch struct {
	c         *Cluster
	Writer    *Writer
	probes    []*Writer
	registers []*RegisterClient
}

// Watch starts to watch.
func (c *Cluster) Watch(p Pace) *Watch {
	c.t.Helper()
	return &Watch{c, c.StartWriter(p), c.StartProbes(), c.startRegister(2)}
}

// Check ends the watch, waits for the cluster to be whole and fails the test when a
// write that was acknowledged is not on every server, when two servers accepted writes
// at once, or when the register's history is not that of one register. It returns the
// ledger of the client.
func (w *Watch) Check() *Ledger {
	w.c.t.Helper()
	ledgers, histories := w.stop()
	s := w.c.CheckWhole()
	for _, l := range ledgers {
		w.c.CheckLedger(s.Primary, l)
	}
	if err := CheckOnePrimary(ledgers...); err != nil {
		w.c.t.Error(err)
	}
	if err := CheckRegister(histories); err != nil {
		w.c.t.Error(err)
	}
	w.c.t.Logf("%s; register: %d operations", ledgers[0], len(histories))
	return ledgers[0]
}

// CheckOnePrimary is Check for a cluster that may lose acknowledged writes: they are not
// looked for.
func (w *Watch) CheckOnePrimary() {
	w.c.t.Helper()
	ledgers, _ := w.stop()
	w.c.CheckWhole()
	if err := CheckOnePrimary(ledgers...); err != nil {
		w.c.t.Error(err)
	}
	w.c.t.Logf("%s", ledgers[0])
}

// stop ends the watch. The first ledger is that of the client.
func (w *Watch) stop() ([]*Ledger, []Operation) {
	ledgers := []*Ledger{w.Writer.Stop()}
	for _, p := range w.probes {
		ledgers = append(ledgers, p.Stop())
	}
	var histories []Operation
	for _, r := range w.registers {
		histories = append(histories, r.Stop()...)
	}
	return ledgers, histories
}

// CheckLedger fails the test when the table of a ledger is not as it says: on the
// primary now, on every standby after a while.
func (c *Cluster) CheckLedger(primary string, l *Ledger) {
	c.t.Helper()
	present := c.numbers(primary, l.Table)
	if err := l.Check(present); err != nil {
		c.t.Errorf("node %s: %v\n%s", primary, err, c.Picture())
	}
	for _, name := range c.standbys(primary) {
		c.until(fmt.Sprintf("node %s has the same rows in %s as the primary", name, l.Table), func() bool {
			return slices.Equal(c.numbers(name, l.Table), present)
		})
	}
}

// CheckWhole waits until the cluster has converged, its plan is empty, and PostgreSQL
// itself says that there is one primary from which all others stream. All of it has to
// hold at once: a connection that a fault has harmed may die when all seems well.
func (c *Cluster) CheckWhole() reconcile.Status {
	c.t.Helper()
	var s reconcile.Status
	deadline := time.Now().Add(cluster.Patience)
	for {
		s = c.AwaitConverged()
		missing := c.notWhole(s.Primary)
		if missing == nil {
			return s
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("converged, but %v\n%s", missing, c.Picture())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// notWhole says what a cluster that has converged lacks.
func (c *Cluster) notWhole(primary string) error {
	c.t.Helper()
	if r := c.Ctl("plan", "--detailed-exitcode"); r.Code != 0 {
		return fmt.Errorf("the plan is not empty: %s", r)
	}
	var want []string
	for _, name := range c.standbys(primary) {
		want = append(want, pg.ApplicationName(name))
		standby, err := column[bool](c, name, "SELECT pg_is_in_recovery()")
		if err != nil || !standby[0] {
			return fmt.Errorf("node %s takes writes, and the primary is %s: %w", name, primary, err)
		}
	}
	slices.Sort(want)
	got, err := column[string](c, primary, "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming' ORDER BY 1")
	if err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("%v stream from the primary, and %v should: %w", got, want, err)
	}
	return nil
}

// numbers are those that a node has in a table of newTable.
func (c *Cluster) numbers(node, table string) []int64 {
	c.t.Helper()
	numbers, err := column[int64](c, node, "SELECT number FROM "+table+" ORDER BY number")
	if err != nil {
		c.t.Fatalf("node %s: %v\n%s", node, err, c.Picture())
	}
	return numbers
}

// column is the one column of a query on a node.
func column[T any](c *Cluster, node, sql string) ([]T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, at(c.Superuser(), c.Host(node), c.Client))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// until waits for a claim to become true, and fails the test when it does not.
func (c *Cluster) until(claim string, holds func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(cluster.Patience)
	for !holds() {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %s: %s\n%s", cluster.Patience, claim, c.Picture())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
