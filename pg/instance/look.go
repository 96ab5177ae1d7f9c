package instance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ramhq/ram/pg"
)

// slowFacts are those that are not asked for in each look.
type slowFacts struct {
	// settings are read again when the server has loaded its files again, when others
	// are asked for, and at settingsDue.
	settings    map[string]string
	pending     []string
	names       []string
	loadedAt    time.Time
	settingsDue time.Time

	transactions pg.Transactions
	oldestWAL    pg.LSN
	// newestTimeline is that of the newest WAL segment.
	newestTimeline pg.Timeline
	// began is where the timeline beganOf began; read when a primary has another one.
	began   pg.LSN
	beganOf pg.Timeline
	size    pg.Bytes
	sizeDue time.Time
}

const (
	settingsEvery = 10 * time.Second
	sizeEvery     = time.Minute
	// sizeLimit is how long PostgreSQL may look at its files for the size of the
	// databases. When that is not enough, it is asked again after sizeRetry.
	sizeLimit = "200ms"
	sizeRetry = 10 * time.Minute
)

// The statements of a look. All versions from 13 on know them. Whether a standby has
// read all its WAL is looked up before how far that is.
const (
	serverQuery = `
SELECT s.r, pg_postmaster_start_time(), pg_conf_load_time(),
  CASE WHEN s.r THEN '' ELSE pg_current_wal_flush_lsn()::text END,
  CASE WHEN s.r THEN coalesce(pg_last_wal_receive_lsn()::text, '') ELSE '' END,
  CASE WHEN s.r THEN coalesce(pg_last_wal_replay_lsn()::text, '') ELSE '' END,
  CASE WHEN s.r THEN pg_is_wal_replay_paused() ELSE false END,
  CASE WHEN s.r THEN greatest(w.received_tli, (SELECT timeline_id FROM pg_control_checkpoint()),
                              (SELECT min_recovery_end_timeline FROM pg_control_recovery()))
       ELSE ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int END,
  coalesce(w.status, ''), coalesce(w.sender_host, ''), coalesce(w.sender_port, 0), coalesce(w.slot_name, ''), coalesce(w.received_tli, 0),
  s.complete
FROM (SELECT pg_is_in_recovery() AS r, CASE WHEN pg_is_in_recovery() THEN ` + completeExpression + ` ELSE false END AS complete OFFSET 0) s
LEFT JOIN pg_stat_wal_receiver w ON true`

	sendersQuery = `
SELECT application_name, coalesce(state, ''), coalesce(sync_state, ''),
  coalesce(sent_lsn::text, ''), coalesce(flush_lsn::text, ''), coalesce(replay_lsn::text, '')
FROM pg_stat_replication ORDER BY application_name, pid`

	slotsQuery = `
SELECT slot_name, active, coalesce(restart_lsn::text, ''), coalesce(wal_status, '')
FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary ORDER BY slot_name`

	settingsQuery = `SELECT n, current_setting(n, true) FROM unnest($1::text[]) n`

	// PostgreSQL goes on calling a setting pending that was in a file and is gone from
	// it again before a restart: its default is what runs, and a restart changes nothing.
	pendingQuery = `
SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM pg_settings s WHERE pending_restart
  AND NOT (source = 'default' AND NOT EXISTS (SELECT FROM pg_file_settings f WHERE lower(f.name) = lower(s.name)))`

	// A segment's name is its timeline and its number in two halves.
	oldestQuery = `
SELECT coalesce(min(substr(name, 9)), ''), (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
  coalesce(('x' || max(substr(name, 1, 8)))::bit(32)::int, 0)
FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'`

	// Only sessions of clients: a base backup has a transaction as well.
	transactionsQuery = `
SELECT coalesce(a.pid, 0), coalesce(a.usename, ''), coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8,
  p.number, coalesce(extract(epoch FROM clock_timestamp() - p.first), 0)::float8, coalesce(p.owner, '')
FROM (SELECT count(*) AS number, min(prepared) AS first, (array_agg(owner::text ORDER BY prepared))[1] AS owner FROM pg_prepared_xacts) p
LEFT JOIN (SELECT pid, usename, xact_start FROM pg_stat_activity
           WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
           ORDER BY xact_start LIMIT 1) a ON true`

	sizeQuery = `SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint FROM pg_database`
)

// look asks everything that the session can tell.
func (i *Instance) look(ctx context.Context, names []string) (pg.Server, error) {
	p := &i.prober
	var server pg.Server
	var loadedAt time.Time
	batch := &pgx.Batch{}
	batch.Queue(serverQuery).QueryRow(func(row pgx.Row) error {
		var err error
		server, loadedAt, err = scanServer(row)
		return err
	})
	// The first batch of a session prepares these; from then on it is one round trip.
	var senders []pg.WALSender
	batch.Queue(sendersQuery).Query(func(rows pgx.Rows) (err error) {
		senders, err = pgx.CollectRows(rows, scanSender)
		return err
	})
	var slots []pg.Slot
	batch.Queue(slotsQuery).Query(func(rows pgx.Rows) (err error) {
		slots, err = pgx.CollectRows(rows, scanSlot)
		return err
	})
	if err := p.conn.SendBatch(ctx, batch).Close(); err != nil {
		return pg.Server{}, err
	}
	server.Senders, server.Slots = senders, slots
	err := p.refreshSettings(ctx, names, loadedAt)
	if err != nil {
		return pg.Server{}, err
	}
	p.refreshSize(ctx)
	server.Settings, server.PendingRestart = p.slow.settings, p.slow.pending
	server.OldestWAL, server.Size, server.Transactions = p.slow.oldestWAL, p.slow.size, p.slow.transactions
	if server.Recovery {
		// Without a walreceiver only the control file tells, and that late.
		p.slow.newestTimeline = max(p.slow.newestTimeline, server.Timeline)
		server.Timeline = p.slow.newestTimeline
		return server, nil
	}
	server.TimelineBegan, err = p.timelineBegan(i.cfg.DataDir, server.Timeline)
	return server, err
}

func scanServer(row pgx.Row) (server pg.Server, loadedAt time.Time, err error) {
	var flushed, received, replayed string
	var timeline, receivedTimeline int32
	var receiver pg.WALReceiver
	err = row.Scan(&server.Recovery, &server.StartedAt, &loadedAt, &flushed, &received, &replayed,
		&server.ReplayPaused, &timeline,
		&receiver.Status, &receiver.Host, &receiver.Port, &receiver.Slot, &receivedTimeline, &server.WALComplete)
	if err != nil {
		return pg.Server{}, time.Time{}, err
	}
	var positions [3]pg.LSN
	for n, text := range []string{flushed, received, replayed} {
		if positions[n], err = pg.ParseLSN(text); err != nil {
			return pg.Server{}, time.Time{}, err
		}
	}
	server.Timeline = pg.Timeline(timeline)
	server.LSN, server.ReplayLSN = max(positions[0], positions[1], positions[2]), positions[2]
	if receiver.Status != "" {
		receiver.Timeline = pg.Timeline(receivedTimeline)
		server.Receiver = &receiver
	}
	return server, loadedAt, nil
}

func scanSender(row pgx.CollectableRow) (sender pg.WALSender, err error) {
	var positions [3]string
	err = row.Scan(&sender.Application, &sender.State, &sender.SyncState, &positions[0], &positions[1], &positions[2])
	for n, to := range []*pg.LSN{&sender.SentLSN, &sender.FlushLSN, &sender.ReplayLSN} {
		if err == nil {
			*to, err = pg.ParseLSN(positions[n])
		}
	}
	return sender, err
}

func scanSlot(row pgx.CollectableRow) (slot pg.Slot, err error) {
	var position string
	if err := row.Scan(&slot.Name, &slot.Active, &position, &slot.WALStatus); err != nil {
		return slot, err
	}
	slot.RestartLSN, err = pg.ParseLSN(position)
	return slot, err
}

// refreshSettings reads settings, and what is slow alike, when they may have changed.
// A session takes new values when it loads the files, which its load time tells.
func (p *prober) refreshSettings(ctx context.Context, names []string, loadedAt time.Time) error {
	s := &p.slow
	now := time.Now()
	if s.settings != nil && loadedAt.Equal(s.loadedAt) && slices.Equal(names, s.names) && now.Before(s.settingsDue) {
		return nil
	}
	settings := make(map[string]string, len(names))
	var pending []string
	var segment string
	var segmentSize int64
	var newest int32
	batch := &pgx.Batch{}
	batch.Queue(settingsQuery, names).Query(func(rows pgx.Rows) error {
		var name string
		var value *string
		_, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
			if value != nil { // unknown to this version otherwise
				settings[name] = *value
			}
			return nil
		})
		return err
	})
	batch.Queue(pendingQuery).QueryRow(func(row pgx.Row) error { return row.Scan(&pending) })
	batch.Queue(oldestQuery).QueryRow(func(row pgx.Row) error { return row.Scan(&segment, &segmentSize, &newest) })
	var transactions pg.Transactions
	batch.Queue(transactionsQuery).QueryRow(func(row pgx.Row) (err error) {
		transactions, err = scanTransactions(row)
		return err
	})
	if err := p.conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	oldest, err := segmentStart(segment, segmentSize)
	if err != nil {
		return err
	}
	s.settings, s.pending, s.oldestWAL, s.transactions = settings, pending, oldest, transactions
	s.newestTimeline = max(s.newestTimeline, pg.Timeline(newest))
	s.names, s.loadedAt, s.settingsDue = slices.Clone(names), loadedAt, now.Add(settingsEvery)
	return nil
}

func scanTransactions(row pgx.Row) (t pg.Transactions, err error) {
	var age, preparedAge float64
	err = row.Scan(&t.PID, &t.User, &age, &t.Prepared, &preparedAge, &t.PreparedBy)
	t.Age, t.PreparedAge = time.Duration(age*float64(time.Second)), time.Duration(preparedAge*float64(time.Second))
	return t, err
}

// segmentStart is where a WAL segment begins; its name comes without the timeline.
func segmentStart(name string, size int64) (pg.LSN, error) {
	if name == "" {
		return 0, nil
	}
	var high, low uint64
	if _, err := fmt.Sscanf(name, "%8X%8X", &high, &low); err != nil {
		return 0, fmt.Errorf("WAL segment name %q: %w", name, err)
	}
	return pg.LSN(high<<32 + low*uint64(size)), nil
}

// refreshSize sums up the databases now and then. That takes PostgreSQL long when
// there are many files, so it has a limit of its own, and the old size stays when
// it is not kept.
func (p *prober) refreshSize(ctx context.Context) {
	now := time.Now()
	if now.Before(p.slow.sizeDue) {
		return
	}
	p.slow.sizeDue = now.Add(sizeEvery)
	batch := &pgx.Batch{}
	batch.Queue("SET statement_timeout = '" + sizeLimit + "'")
	var size int64
	batch.Queue(sizeQuery).QueryRow(func(row pgx.Row) error { return row.Scan(&size) })
	err := p.conn.SendBatch(ctx, batch).Close()
	var refusal *pgconn.PgError
	switch {
	case err == nil:
		p.slow.size = pg.Bytes(size)
	case errors.As(err, &refusal):
		p.slow.sizeDue = now.Add(sizeRetry)
	}
	if !p.conn.IsClosed() {
		_, _ = p.conn.Exec(ctx, "SET statement_timeout = 0")
	}
}
