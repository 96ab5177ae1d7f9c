package faults

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Pace is how a client works. The zero Pace is that of one that writes every 5 ms
// and gives an answer, or a connection, half a second.
type Pace struct {
	Every, Timeout time.Duration
}

func (p Pace) orDefault() Pace {
	if p.Every == 0 {
		p.Every = 5 * time.Millisecond
	}
	if p.Timeout == 0 {
		p.Timeout = 500 * time.Millisecond
	}
	return p
}

// session is a client that does one transaction after the other, on one connection as
// long as it lasts.
//
// It connects as libpq does with several hosts: to one after the other, until it finds
// one that takes writes. The host that has failed it last comes last.
type session struct {
	table string
	// keep says to stay with a server that refuses writes.
	keep   bool
	pace   Pace
	hosts  []*pgconn.Config
	stop   context.CancelFunc
	ended  sync.WaitGroup
	warned string // by the server, during the statement that runs
}

// start runs a client until end is called, or the test ends.
func (s *session) start(c *Cluster, p Pace, table string, config *pgx.ConnConfig, run func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	s.table, s.pace, s.stop, s.hosts = table, p.orDefault(), stop, oneByOne(config)
	for _, h := range s.hosts {
		h.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			if n.SeverityUnlocalized == "WARNING" {
				s.warned = n.Message
			}
		}
	}
	s.ended.Go(func() { run(ctx) })
	c.t.Cleanup(s.end)
}

func (s *session) end() {
	s.stop()
	s.ended.Wait()
}

// oneByOne is the hosts of a DSN, each as a DSN of its own.
func oneByOne(config *pgx.ConnConfig) []*pgconn.Config {
	first := config.Config.Copy()
	first.Fallbacks = nil
	hosts := []*pgconn.Config{first}
	for _, f := range config.Fallbacks {
		next := first.Copy()
		next.Host, next.Port, next.TLSConfig = f.Host, f.Port, f.TLSConfig
		hosts = append(hosts, next)
	}
	return hosts
}

// each calls do at the client's pace, with a connection whenever there is one. do says
// whether the connection is good for another call.
func (s *session) each(ctx context.Context, do func(*pgconn.PgConn) (again bool)) {
	var conn *pgconn.PgConn
	for ctx.Err() == nil {
		began := time.Now()
		if conn == nil {
			conn = s.connect(ctx)
		}
		if conn != nil && !do(conn) {
			s.failed()
			closeNow(conn)
			conn = nil
		}
		sleep(ctx, time.Until(began.Add(s.pace.Every)))
	}
	if conn != nil {
		closeNow(conn)
	}
}

// connect tries each host once; nil when none takes writes.
func (s *session) connect(ctx context.Context) *pgconn.PgConn {
	for range s.hosts {
		attempt, cancel := context.WithTimeout(ctx, s.pace.Timeout)
		conn, err := pgconn.ConnectConfig(attempt, s.hosts[0])
		cancel()
		if err == nil {
			return conn
		}
		s.failed()
	}
	return nil
}

// failed puts the host in use behind all others.
func (s *session) failed() { s.hosts = append(s.hosts[1:], s.hosts[0]) }

// answer is what came of a statement.
type answer struct {
	sent, ended time.Time
	value       string // the first column of the first row
	// reason is why the statement does not count as done; empty when it does.
	reason  string
	refused bool // it has surely not been done
	again   bool // the session is good for another one
}

// do runs one statement as a transaction. It is not interrupted by the client's end:
// an answer that may still come is waited for.
func (s *session) do(conn *pgconn.PgConn, sql string) answer {
	ctx, cancel := context.WithTimeout(context.Background(), s.pace.Timeout)
	defer cancel()
	s.warned = ""
	a := answer{sent: time.Now()}
	results, err := conn.Exec(ctx, sql).ReadAll()
	a.ended = time.Now()
	// pgconn.SafeToRetry is not asked: it says yes to a statement that was sent on a
	// connection that has ended since.
	var refusal *pgconn.PgError
	switch {
	case err == nil:
		a.reason, a.again = s.warned, true
		if len(results[0].Rows) > 0 {
			a.value = string(results[0].Rows[0][0])
		}
		return a
	case errors.As(err, &refusal) && refusal.SeverityUnlocalized == "ERROR":
		a.refused, a.again = true, s.keep
	}
	a.reason = err.Error()
	return a
}

// closeNow gives a connection up without waiting for a server that may be silent.
func closeNow(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// sleep waits, but not beyond the end of the context.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
