package instance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
)

// rewindSource is what has to be known of a primary before a directory is rewound to
// it.
type rewindSource struct {
	systemID pg.SystemID
	timeline pg.Timeline
	history  string // of the timeline; empty for the first
}

// conninfo is the source with time limits and a database, where it does not have its
// own.
func (o RewindOptions) conninfo() pg.Conninfo {
	c := pg.Conninfo{"application_name": "ramd rewind", "dbname": "postgres"}
	for _, from := range []pg.Conninfo{sourceTimeouts, o.Source} {
		for keyword, value := range from {
			c[keyword] = value
		}
	}
	delete(c, "password")
	return c
}

// errSourceStandby is returned for a source that is no primary.
var errSourceStandby = errors.New("the source is in recovery; only a primary can be rewound to")

// readRewindSource asks the primary who it is. A control file that still has the
// timeline from before the promotion makes pg_rewind, before version 16, say that
// there is nothing to do: a checkpoint brings it up to date.
func (i *Instance) readRewindSource(ctx context.Context, o RewindOptions) (rewindSource, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := o.connect(ctx)
	if err != nil {
		return rewindSource{}, fmt.Errorf("reach the primary: %w", err)
	}
	defer closeSoon(conn)
	source, upToDate, err := askRewindSource(ctx, conn)
	if err == nil && !upToDate {
		if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
			return rewindSource{}, fmt.Errorf("checkpoint on the primary: %w", err)
		}
		source, upToDate, err = askRewindSource(ctx, conn)
		if err == nil && !upToDate {
			err = errors.New("the primary's control file has another timeline than its WAL, also after a checkpoint")
		}
	}
	return source, err
}

// connect opens a session. What only libpq knows is left out, for pgx would pass it
// on as a setting.
func (o RewindOptions) connect(ctx context.Context) (*pgx.Conn, error) {
	c := o.conninfo()
	for keyword := range c {
		if strings.HasPrefix(keyword, "keepalives") || keyword == "tcp_user_timeout" || keyword == "gssencmode" {
			delete(c, keyword)
		}
	}
	c["password"] = o.Password
	c["search_path"] = "pg_catalog"
	return pgx.Connect(ctx, c.String())
}

func askRewindSource(ctx context.Context, conn *pgx.Conn) (source rewindSource, upToDate bool, err error) {
	var recovery bool
	var id, inControl, inWAL int64
	err = conn.QueryRow(ctx, `SELECT s.r, (SELECT system_identifier FROM pg_control_system()),
		(SELECT timeline_id FROM pg_control_checkpoint()),
		CASE WHEN s.r THEN 0 ELSE ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int END
		FROM (SELECT pg_is_in_recovery() AS r OFFSET 0) s`).Scan(&recovery, &id, &inControl, &inWAL)
	if err != nil {
		return source, false, fmt.Errorf("ask the primary for its timeline: %w", err)
	}
	if recovery {
		return source, false, errSourceStandby
	}
	source.systemID, source.timeline = pg.SystemID(id), pg.Timeline(inWAL)
	if source.timeline > 1 {
		err = conn.QueryRow(ctx, "SELECT pg_read_file($1)", fmt.Sprintf("pg_wal/%08X.history", uint32(inWAL))).Scan(&source.history)
		if err != nil {
			return source, false, fmt.Errorf("read the history of the primary's timeline: %w", err)
		}
	}
	return source, inControl == inWAL, nil
}
