package instance

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

// Frozen is the end of what a standby has, once it takes no more.
type Frozen struct {
	// LSN is the end of its WAL: the larger of received and replayed. It does not
	// grow while Complete is set.
	LSN      pg.LSN
	Timeline pg.Timeline
	// Complete is false while it is not known where the WAL on disk ends: the server
	// was started and has not read all of it yet.
	Complete bool
}

var (
	// ErrNotStandby is returned when a server that should be a standby is none.
	ErrNotStandby = errors.New("the server is not in recovery")
	// ErrConnects is returned when the configuration that is in force still names a
	// primary.
	ErrConnects = errors.New("primary_conninfo is not empty in the server's configuration")
)

const (
	// freezePoll is how often a freezing or promoting standby is looked at.
	freezePoll = 2 * time.Millisecond
	// emptiedWithin is how long a reload may take to show.
	emptiedWithin = 2 * time.Second
	// nudgeAfter is how long the startup process may keep to itself whether it has
	// read the configuration.
	nudgeAfter = 150 * time.Millisecond
)

// Freeze ends the connection of a running standby to its primary, whose
// configuration files must already say primary_conninfo = ”. Once it has
// returned without an error no later flush can be acknowledged to the old primary,
// until files with another primary_conninfo are loaded. It works while replay is
// paused or blocked. Repeating it is cheap.
//
// Each wait ends with ctx. The error is ErrNotStandby or ErrConnects when there is
// nothing to freeze.
func (i *Instance) Freeze(ctx context.Context) (Frozen, error) {
	f := freezer{Instance: i}
	defer f.disconnect()
	if err := f.freeze(ctx); err != nil {
		return Frozen{}, fmt.Errorf("freeze the standby: %w", err)
	}
	return f.end(ctx)
}

// frozenMark says for which load of its files which postmaster was seen frozen. As
// long as both are the same, it still is.
type frozenMark struct {
	pid      int
	loadedAt time.Time
}

// freezer is one call of Freeze.
type freezer struct {
	*Instance
	// conn is a session that was forked after the files were loaded. That it shows the
	// empty setting proves that the startup process has been signalled, for the
	// postmaster forks no session between loading and signalling.
	conn *pgx.Conn
	// wasPaused and pausing are set once the startup process was asked to show itself.
	wasPaused, pausing bool
}

// walReading is what a standby's processes that read WAL are doing.
type walReading struct {
	recovery, emptied, forkedAfterLoad bool
	loadedAt                           time.Time
	receiver                           int // process number, zero for none
	status                             string
	event, eventType                   string // what the startup process waits for
	paused                             bool
}

const readingQuery = `
SELECT pg_is_in_recovery(), current_setting('primary_conninfo') = '', pg_conf_load_time(),
  pg_conf_load_time() < (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()),
  coalesce((SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver' LIMIT 1), 0),
  coalesce((SELECT status FROM pg_stat_wal_receiver), ''),
  coalesce(s.wait_event, ''), coalesce(s.wait_event_type, ''),
  CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END
FROM (SELECT 1) one LEFT JOIN pg_stat_activity s ON s.backend_type = 'startup'`

func readWALReading(ctx context.Context, conn *pgx.Conn) (r walReading, err error) {
	err = conn.QueryRow(ctx, readingQuery).Scan(&r.recovery, &r.emptied, &r.loadedAt, &r.forkedAfterLoad,
		&r.receiver, &r.status, &r.event, &r.eventType, &r.paused)
	return r, err
}

// blocked reports whether replay waits for a session.
func (r walReading) blocked() bool {
	return r.eventType == "Lock" || r.eventType == "BufferPin" || r.event == "BufferPin" ||
		r.event == "RecoveryConflictSnapshot" || r.event == "RecoveryConflictTablespace"
}

func (f *freezer) freeze(ctx context.Context) error {
	if still, err := f.stillFrozen(ctx); still || err != nil {
		return err
	}
	if err := f.Reload(ctx); err != nil {
		return err
	}
	r, err := f.awaitEmptied(ctx)
	if err != nil {
		return err
	}
	defer f.resume(ctx)
	if err := f.awaitNoReceiver(ctx, r); err != nil {
		return err
	}
	pid, _ := f.postmaster()
	f.mu.Lock()
	f.frozen = frozenMark{pid: pid, loadedAt: r.loadedAt}
	f.mu.Unlock()
	return nil
}

// stillFrozen reports whether nothing has changed since the last proof.
func (f *freezer) stillFrozen(ctx context.Context) (bool, error) {
	pid, _ := f.postmaster()
	f.mu.Lock()
	mark := f.frozen
	f.mu.Unlock()
	if mark.pid == 0 || mark.pid != pid {
		return false, nil
	}
	r, err := f.reconnect(ctx)
	if err != nil {
		return false, err
	}
	return r.recovery && r.emptied && r.forkedAfterLoad && r.receiver == 0 && mark.loadedAt.Equal(r.loadedAt), nil
}

// reconnect opens a fresh session and has a first look through it.
func (f *freezer) reconnect(ctx context.Context) (walReading, error) {
	f.disconnect()
	conn, err := f.connect(ctx)
	if err != nil {
		return walReading{}, err
	}
	f.conn = conn
	return readWALReading(ctx, conn)
}

func (f *freezer) disconnect() {
	if f.conn != nil {
		closeSoon(f.conn)
		f.conn = nil
	}
}

// awaitEmptied waits for a session that was forked after the postmaster had loaded
// the files.
func (f *freezer) awaitEmptied(ctx context.Context) (walReading, error) {
	for deadline := time.Now().Add(emptiedWithin); ; {
		r, err := f.reconnect(ctx)
		if err != nil {
			return r, err
		}
		if !r.recovery {
			return r, ErrNotStandby
		}
		if r.emptied && r.forkedAfterLoad {
			return r, nil
		}
		if time.Now().After(deadline) {
			return r, ErrConnects
		}
		if err := sleep(ctx, freezePoll); err != nil {
			return r, err
		}
	}
}

// awaitNoReceiver ends the walreceiver and waits until no other can come. The startup
// process starts one only while it changes from files to streaming, by the setting
// that it has read last. Its having been signalled is not enough: it reads the
// setting between records. One of these shows that it reads it first:
//
//   - It waits to retry. It reads it right after, and has ended every walreceiver before.
//   - It was streaming after it had been signalled. On the way from there to the
//     next walreceiver it reads it.
//   - It says that it has paused, having been asked to after it had been signalled.
func (f *freezer) awaitNoReceiver(ctx context.Context, r walReading) error {
	begin, reads := time.Now(), false
	for nudged := false; ; {
		reads = reads || r.status == "streaming" || r.event == "RecoveryRetrieveRetryInterval"
		if r.receiver != 0 {
			guard.Signal(f.cfg.DataDir, r.receiver, syscall.SIGTERM)
		} else if r.status == "" && reads {
			return nil
		}
		if !nudged && !reads && time.Since(begin) > nudgeAfter {
			nudged = true
			if err := f.nudge(ctx, r); err != nil {
				return err
			}
		}
		if err := sleep(ctx, freezePoll); err != nil {
			return err
		}
		var err error
		if r, err = readWALReading(ctx, f.conn); err != nil {
			return err
		}
		if !r.recovery {
			return ErrNotStandby
		}
		if f.pausing && !reads {
			if reads, err = f.hasPaused(ctx); err != nil {
				return err
			}
		}
	}
}

// nudge makes a startup process show that it has read the setting, when it has
// something else to do: PostgreSQL says that replay has paused at a place where it
// also reads the setting. (Version 13 does not say so: there a paused replay goes on
// until it waits for WAL.) A replay that waits for a session gets rid of it.
func (f *freezer) nudge(ctx context.Context, r walReading) error {
	if r.blocked() {
		return f.endClients(ctx, f.conn, "they keep replay from going on, so that the standby cannot be seen to be frozen")
	}
	f.wasPaused = r.paused
	if r.paused {
		f.pausing = true
		if _, err := f.conn.Exec(ctx, "SELECT pg_wal_replay_resume()"); err != nil {
			return err
		}
	}
	if f.cfg.Major < 14 {
		return nil
	}
	f.pausing = true
	_, err := f.conn.Exec(ctx, "SELECT pg_wal_replay_pause()")
	return err
}

func (f *freezer) hasPaused(ctx context.Context) (paused bool, err error) {
	if f.cfg.Major < 14 {
		return false, nil
	}
	err = f.conn.QueryRow(ctx, "SELECT pg_get_wal_replay_pause_state() = 'paused'").Scan(&paused)
	return paused, err
}

// resume leaves replay as paused as it was.
func (f *freezer) resume(ctx context.Context) {
	if !f.pausing {
		return
	}
	statement := "SELECT pg_wal_replay_resume()"
	if f.wasPaused {
		statement = "SELECT pg_wal_replay_pause()"
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := f.conn.Exec(ctx, statement); err != nil {
		f.logger.Warn().Err(err).Bool("paused before", f.wasPaused).Msg("replay is not as paused as it was")
	}
}

// endQuery first looks whether all was read, and then how far that is.
const endQuery = `
SELECT c.complete, coalesce(pg_last_wal_receive_lsn()::text, ''), coalesce(pg_last_wal_replay_lsn()::text, ''), c.timeline
FROM (SELECT ` + completeExpression + ` AS complete, ` + standbyTimelineExpression + ` AS timeline OFFSET 0) c`

// completeExpression is true when a standby has read all WAL that it has. Before it
// streams for the first time it has read all of its files. The names of the events are
// those of all versions from 13 on.
const completeExpression = `(pg_last_wal_receive_lsn() IS NOT NULL OR EXISTS (SELECT FROM pg_stat_activity
  WHERE backend_type = 'startup' AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream')))`

// standbyTimelineExpression is the timeline of the newest WAL that a standby has. The
// control file says it late, so the names of the segments count too.
const standbyTimelineExpression = `greatest((SELECT received_tli FROM pg_stat_wal_receiver),
  (SELECT timeline_id FROM pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
  (SELECT ('x' || max(substr(name, 1, 8)))::bit(32)::int FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'))`

func (f *freezer) end(ctx context.Context) (Frozen, error) {
	var received, replayed string
	var timeline int32
	var frozen Frozen
	if err := f.conn.QueryRow(ctx, endQuery).Scan(&frozen.Complete, &received, &replayed, &timeline); err != nil {
		return Frozen{}, fmt.Errorf("read the frozen standby's position: %w", err)
	}
	for _, text := range []string{received, replayed} {
		lsn, err := pg.ParseLSN(text)
		if err != nil {
			return Frozen{}, err
		}
		frozen.LSN = max(frozen.LSN, lsn)
	}
	frozen.Timeline = pg.Timeline(timeline)
	return frozen, nil
}

// endClients ends all sessions of clients but ramd's own.
func (i *Instance) endClients(ctx context.Context, conn *pgx.Conn, why string) error {
	var ended int
	err := conn.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
		AND NOT (application_name = 'ramd' AND usename = $1 AND client_addr IS NULL)`, Superuser).Scan(&ended)
	if err != nil {
		return fmt.Errorf("end the sessions on the standby: %w", err)
	}
	if ended > 0 {
		i.logger.Warn().Int("sessions", ended).Str("why", why).Msg("ended sessions on the standby")
	}
	return nil
}

// sleep waits, or returns the error of a ctx that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeSoon ends a session, and does not wait until the server has ended it too.
func closeSoon(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}
