package instance

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ramhq/ram/pg/guard"
)

const (
	// promoteGrace is how long a promotion may stand still before what may be in its
	// way is removed.
	promoteGrace = 100 * time.Millisecond

	sqlStateNotInRecovery = "55000" // object_not_in_prerequisite_state
)

// Promote makes a running standby a primary and returns when it takes writes. All WAL
// that it has is replayed first. Sessions on the standby that keep replay from going
// on are ended. A server that is no standby any more is promoted; a call that was
// interrupted is repeated.
func (i *Instance) Promote(ctx context.Context) error {
	conn, err := i.borrow(ctx)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	p := promotion{Instance: i, conn: conn}
	if err := p.run(ctx); err != nil {
		closeSoon(conn)
		return fmt.Errorf("promote: %w", err)
	}
	i.giveBack(conn)
	return nil
}

// promotion is one call of Promote.
type promotion struct {
	*Instance
	conn *pgx.Conn
	// replayed and event are how far it was when it was last seen to move, at moved.
	replayed, event string
	moved           time.Time
}

func (p *promotion) run(ctx context.Context) error {
	r, err := readWALReading(ctx, p.conn)
	if err != nil || !r.recovery {
		return err
	}
	begin := time.Now()
	if err := p.trigger(ctx, r); err != nil {
		return err
	}
	for p.moved = begin; ; {
		done, err := p.look(ctx)
		if err != nil {
			return err
		}
		if done {
			p.logger.Info().Dur("took", time.Since(begin)).Msg("promoted")
			return nil
		}
		if err := sleep(ctx, freezePoll); err != nil {
			return fmt.Errorf("still in recovery at %s, its startup process waits for %q: %w", p.replayed, p.event, err)
		}
	}
}

// trigger asks for the promotion. A pause is ended before, since afterwards it would
// only end by itself within a second. The startup process may sleep for
// wal_retrieve_retry_interval: it is woken by the reload.
func (p *promotion) trigger(ctx context.Context, r walReading) error {
	if r.paused {
		if err := p.inRecovery(ctx, "SELECT pg_wal_replay_resume()"); err != nil {
			return err
		}
	}
	if err := p.inRecovery(ctx, "SELECT pg_promote(false)"); err != nil {
		return err
	}
	if r.receiver != 0 {
		guard.Signal(p.cfg.DataDir, r.receiver, syscall.SIGTERM)
	}
	return p.Reload(ctx)
}

// inRecovery executes a statement that is refused outside recovery, which then is
// over.
func (p *promotion) inRecovery(ctx context.Context, statement string) error {
	_, err := p.conn.Exec(ctx, statement)
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) && refusal.Code == sqlStateNotInRecovery {
		return nil // or the promotion goes on already; the look will tell
	}
	return err
}

// look reports whether recovery is over, and helps it when it stands still.
func (p *promotion) look(ctx context.Context) (done bool, err error) {
	var recovery bool
	var replayed, event, eventType string
	err = p.conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn()::text, ''),
		coalesce(s.wait_event, ''), coalesce(s.wait_event_type, '')
		FROM (SELECT 1) one LEFT JOIN pg_stat_activity s ON s.backend_type = 'startup'`).Scan(&recovery, &replayed, &event, &eventType)
	if err != nil || !recovery {
		return !recovery, err
	}
	if replayed != p.replayed || event != p.event {
		p.replayed, p.event, p.moved = replayed, event, time.Now()
		return false, nil
	}
	if time.Since(p.moved) < promoteGrace {
		return false, nil
	}
	p.moved = time.Now()
	return false, p.unblock(ctx, eventType)
}

// unblock is called when a promotion has not moved for a while.
func (p *promotion) unblock(ctx context.Context, eventType string) error {
	if eventType != "IO" && p.event != "RestoreCommand" {
		if err := p.endClients(ctx, p.conn, "they keep the promotion from going on"); err != nil {
			return err
		}
	}
	if p.event == "RecoveryPause" { // somebody has paused it again
		if err := p.inRecovery(ctx, "SELECT pg_wal_replay_resume()"); err != nil {
			return err
		}
	}
	// The first request is lost when it came while the startup process was not there
	// to be told.
	if err := p.inRecovery(ctx, "SELECT pg_promote(false)"); err != nil {
		return err
	}
	return p.Reload(ctx)
}
