package instance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

// prober keeps one session and what does not change from look to look.
// belongs to whoever holds busy.
type prober struct {
	// busy holds one value while a probe is under way.
	busy chan struct{}

	conn *pgx.Conn
	slow slowFacts
}

func (p *prober) enter(ctx context.Context) error {
	select {
	case p.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *prober) leave() { <-p.busy }

// drop ends the session; the next probe opens a fresh one.
func (p *prober) drop() {
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = p.conn.Close(ctx)
	p.conn = nil
	p.slow = slowFacts{size: p.slow.size, sizeDue: p.slow.sizeDue}
}

// borrow takes the session that the probes keep, or opens one: to fork another one takes
// time. giveBack returns it.
func (i *Instance) borrow(ctx context.Context) (*pgx.Conn, error) {
	p := &i.prober
	if err := p.enter(ctx); err != nil {
		return nil, fmt.Errorf("a probe is still under way: %w", err)
	}
	conn := p.conn
	p.conn = nil
	p.leave()
	if conn != nil && conn.Ping(ctx) == nil {
		return conn, nil
	}
	if conn != nil {
		closeSoon(conn)
	}
	return i.connect(ctx)
}

func (i *Instance) giveBack(conn *pgx.Conn) {
	p := &i.prober
	p.busy <- struct{}{}
	defer p.leave()
	if p.conn != nil { // somebody has probed meanwhile
		closeSoon(conn)
		return
	}
	p.conn = conn
}

func (p *prober) close() {
	p.busy <- struct{}{}
	defer p.leave()
	p.drop()
}

// Probe looks at the server: whether it runs, and over a session that it keeps, what
// it does. The usual probe is one round trip. names are the settings whose values
// the caller wants.
//
// ctx should have a deadline, for a server that does not answer within it is
// ServerHung. The error is set when the server's state is known but the server
// would not tell more, for a wrong password for instance; what is below PID is
// then unknown. Remains of a server whose postmaster is dead are killed, and are
// ServerStopping until they are gone.
func (i *Instance) Probe(ctx context.Context, names []string) (pg.Server, error) {
	if err := i.prober.enter(ctx); err != nil {
		return pg.Server{}, fmt.Errorf("another probe is still under way: %w", err)
	}
	defer i.prober.leave()
	if err := i.Attach(ctx); err != nil {
		return pg.Server{}, err
	}
	for {
		server, err := i.probeOnce(ctx, names)
		if !errors.Is(err, errRefused) {
			return server, err
		}
		// It may have died this very moment. If not, it is to say so once more.
		select {
		case <-time.After(refusedAgain):
		case <-ctx.Done():
			return server, err
		}
		if pid, _ := i.postmaster(); pid == server.PID {
			return i.probeOnce(ctx, names)
		}
	}
}

// errRefused is returned for a postmaster that is there, says that it is ready, and
// does not let us in.
var errRefused = errors.New("PostgreSQL says that it is ready and refuses on its socket")

// refusedAgain is longer than a killed postmaster takes to vanish.
const refusedAgain = 50 * time.Millisecond

func (i *Instance) probeOnce(ctx context.Context, names []string) (pg.Server, error) {
	var server pg.Server
	server.PID, server.Guarded = i.postmaster()
	if server.PID == 0 {
		i.prober.drop()
		return i.probeStopped(ctx)
	}
	answer, err := i.ask(ctx, names)
	if err != nil {
		server.State, err = i.judge(ctx, err)
		return server, err
	}
	answer.State, answer.PID, answer.Guarded = pg.ServerRunning, server.PID, server.Guarded
	if client := i.guarded(); client != nil && client.Last().State != guard.Running {
		answer.State = pg.ServerStopping
	}
	return answer, nil
}

// probeStopped makes sure that a server without a postmaster is really gone. Only a
// postmaster that did not end in order leaves its lock file. Whoever has written the lock
// file, and lives, has begun since it was looked for: a server that somebody starts, or the
// single-user server of an operator or of initdb.
func (i *Instance) probeStopped(ctx context.Context) (pg.Server, error) {
	stopped := pg.Server{State: pg.ServerStopped}
	if !i.hasLockFile() {
		return stopped, nil
	}
	left, err := guard.Processes(i.cfg.DataDir)
	if err != nil || len(left) == 0 {
		return stopped, err
	}
	stopping := pg.Server{State: pg.ServerStopping, PID: left[0].PID}
	lock := i.readPostmasterPID()
	if lock.PID == 0 || slices.ContainsFunc(left, func(p guard.Process) bool { return p.PID == lock.PID }) {
		return stopping, nil
	}
	i.logger.Warn().Int("processes", len(left)).Msg("the postmaster is dead and left processes behind; killing them")
	return stopping, guard.KillLeftovers(ctx, i.cfg.DataDir)
}

// ask gets the answer over the kept session, or once over a fresh one when that has
// ended.
func (i *Instance) ask(ctx context.Context, names []string) (pg.Server, error) {
	p := &i.prober
	if p.conn != nil {
		answer, err := i.look(ctx, names)
		if err == nil {
			return answer, nil
		}
		p.drop()
		if ctx.Err() != nil {
			return pg.Server{}, err
		}
	}
	conn, err := i.connect(ctx)
	if err != nil {
		return pg.Server{}, err
	}
	p.conn = conn
	answer, err := i.look(ctx, names)
	if err != nil {
		p.drop()
	}
	return answer, err
}

const (
	sqlStateCannotConnectNow = "57P03"
	sqlStateAdminShutdown    = "57P01"
	sqlStateCrashShutdown    = "57P02"
)

// judge tells from a failed look, and from what the postmaster says of itself in its
// lock file, what state the server is in. The error is what an operator has to see
// to; a server that starts, stops or hangs is none.
func (i *Instance) judge(ctx context.Context, failure error) (pg.ServerState, error) {
	says := i.readPostmasterPID().Status
	if client := i.guarded(); says == "stopping" || client != nil && client.Last().State != guard.Running {
		return pg.ServerStopping, nil
	}
	var refusal *pgconn.PgError
	if errors.As(failure, &refusal) {
		refusals := []string{sqlStateCannotConnectNow, sqlStateAdminShutdown, sqlStateCrashShutdown}
		if slices.Contains(refusals, refusal.Code) {
			// Also "ready" passes here while it recovers from the crash of a backend.
			return pg.ServerStarting, nil
		}
		return pg.ServerRunning, fmt.Errorf("probe PostgreSQL: %w", failure)
	}
	if ctx.Err() != nil || errors.Is(failure, os.ErrDeadlineExceeded) || isTimeout(failure) {
		return pg.ServerHung, nil
	}
	if says == "ready" || says == "standby" {
		return pg.ServerHung, fmt.Errorf("%w: %w", errRefused, failure)
	}
	return pg.ServerStarting, nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
