package faults

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Writer is a client that inserts growing numbers into a table of its own, one in
// each transaction, never one twice, until Stop.
type Writer struct {
	session
	ledger       Ledger // the writing goroutine's until it has ended
	acknowledged atomic.Int64
}

// Acknowledged is how many writes have been acknowledged so far. It may be called
// while the writer runs.
func (w *Writer) Acknowledged() int64 { return w.acknowledged.Load() }

// StartWriter starts a writer on the client's host, with the DSN that ramctrl prints.
// Its table is made first.
func (c *Cluster) StartWriter(p Pace) *Writer {
	c.t.Helper()
	return c.startWriter(p, c.newTable("ledger"), c.Superuser(), false)
}

// StartProbes starts a writer on the host of each node that writes to that node alone,
// whether or not it is cut off: what clients beside a server see.
func (c *Cluster) StartProbes() []*Writer {
	c.t.Helper()
	var probes []*Writer
	config := c.Superuser()
	for _, name := range c.names {
		h := c.Host(name)
		pace := Pace{Every: 20 * time.Millisecond, Timeout: time.Second}
		probes = append(probes, c.startWriter(pace, c.newTable("probe_"+name), at(config, h, h), true))
	}
	return probes
}

// newTable makes a table for numbers, with a name that begins with prefix.
func (c *Cluster) newTable(prefix string) string {
	c.t.Helper()
	c.tables++
	name := fmt.Sprintf("%s_%d", prefix, c.tables)
	c.Exec("CREATE TABLE " + name + " (number bigint PRIMARY KEY)")
	return name
}

func (c *Cluster) startWriter(p Pace, table string, config *pgx.ConnConfig, keep bool) *Writer {
	w := &Writer{session: session{keep: keep}, ledger: Ledger{Table: table, Begun: time.Now()}}
	w.start(c, p, table, config, w.run)
	return w
}

// Stop ends the writer and returns its ledger. It may be called again.
func (w *Writer) Stop() *Ledger {
	w.end()
	return &w.ledger
}

func (w *Writer) run(ctx context.Context) {
	next := int64(0)
	w.each(ctx, func(conn *pgconn.PgConn) (again bool) {
		next++
		done, again := w.write(conn, next)
		w.ledger.Writes = append(w.ledger.Writes, done)
		return again
	})
	w.ledger.End = time.Now()
}

// insert inserts a number and tells which reign took it.
const insert = `INSERT INTO %s VALUES (%d) RETURNING 'started ' || pg_postmaster_start_time() ||
	', timeline ' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)`

func (w *Writer) write(conn *pgconn.PgConn, number int64) (done Write, again bool) {
	a := w.do(conn, fmt.Sprintf(insert, w.table, number))
	done = Write{Number: number, Sent: a.sent, Ended: a.ended, Reason: a.reason}
	switch {
	case a.refused:
		done.Outcome = Refused
	case a.reason == "":
		w.acknowledged.Add(1)
		done.Outcome = Acknowledged
		done.Reign = conn.Conn().RemoteAddr().String() + " " + a.value
	}
	return done, a.again
}
