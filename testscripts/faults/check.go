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
	ledgers := []*Ledger{w.Writer.Stop()}
	for _, p := range w.probes {
		ledgers = append(ledgers, p.Stop())
	}
	var histories []Operation
	for _, r := range w.registers {
		histories = append(histories, r.Stop()...)
	}
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

// CheckLedger fails the test when the table of a ledger is not as it says: on the
// primary now, on every standby after a while.
func (c *Cluster) CheckLedger(primary string, l *Ledger) {
	c.t.Helper()
	query := "SELECT number FROM " + l.Table + " ORDER BY number"
	present := c.Numbers(primary, query)
	if err := l.Check(present); err != nil {
		c.t.Errorf("node %s: %v\n%s", primary, err, c.Picture())
	}
	for _, name := range c.Others(primary) {
		c.until(fmt.Sprintf("node %s has the same rows in %s as the primary", name, l.Table), func() bool {
			return slices.Equal(c.Numbers(name, query), present)
		})
	}
}

// CheckWhole waits for convergence, and then fails the test unless the plan is empty
// and PostgreSQL itself says that there is one primary from which all others stream.
func (c *Cluster) CheckWhole() reconcile.Status {
	c.t.Helper()
	s := c.AwaitConverged()
	if r := c.Ctl("plan", "--detailed-exitcode"); r.Code != 0 {
		c.t.Errorf("converged, and the plan is not empty: %s", r)
	}
	var want []string
	for _, name := range c.Others(s.Primary) {
		want = append(want, pg.ApplicationName(name))
		if standby := c.text(name, "SELECT pg_is_in_recovery()::text"); standby[0] != "true" {
			c.t.Errorf("node %s takes writes, and the primary is %s", name, s.Primary)
		}
	}
	slices.Sort(want)
	c.until("all others stream from "+s.Primary, func() bool {
		return slices.Equal(want, c.text(s.Primary, "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming' ORDER BY 1"))
	})
	return s
}

// text is the one column of a query on a node.
func (c *Cluster) text(node, sql string) []string {
	c.t.Helper()
	return column[string](c, node, sql)
}

// Numbers are the one column of integers of a query on a node.
func (c *Cluster) Numbers(node, sql string) []int64 {
	c.t.Helper()
	return column[int64](c, node, sql)
}

func column[T any](c *Cluster, node, sql string) []T {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cluster.Patience)
	defer cancel()
	var values []T
	conn, err := pgx.ConnectConfig(ctx, at(c.Superuser(), c.Host(node), c.Client))
	if err == nil {
		defer conn.Close(ctx)
		var rows pgx.Rows
		if rows, err = conn.Query(ctx, sql); err == nil {
			values, err = pgx.CollectRows(rows, pgx.RowTo[T])
		}
	}
	if err != nil {
		c.t.Fatalf("node %s: %s: %v\n%s", node, sql, err, c.Picture())
	}
	return values
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
