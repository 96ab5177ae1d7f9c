package instance

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
)

// FreshSync is what a session that was just opened shows as
// synchronous_standby_names, and the end of WAL after that. Since the postmaster
// opens no session while it passes a reload on, every walsender has been told of
// what is shown. Whether commits wait at all is up to the checkpointer: settled has
// it do a checkpoint first, before which it reads the configuration. It is needed
// when the server waited for nobody before.
func (i *Instance) FreshSync(ctx context.Context, settled bool) (names string, end pg.LSN, err error) {
	conn, err := i.connect(ctx)
	if err != nil {
		return "", 0, fmt.Errorf("open a session: %w", err)
	}
	defer closeSoon(conn)
	if err := conn.QueryRow(ctx, "SHOW synchronous_standby_names").Scan(&names); err != nil {
		return "", 0, fmt.Errorf("read synchronous_standby_names: %w", err)
	}
	if settled {
		if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
			return "", 0, fmt.Errorf("checkpoint: %w", err)
		}
	}
	var position string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(&position); err != nil {
		return "", 0, fmt.Errorf("read the end of WAL: %w", err)
	}
	end, err = pg.ParseLSN(position)
	return names, end, err
}

// Checkpoint has the server write what a shutdown would otherwise have to write.
func (i *Instance) Checkpoint(ctx context.Context) error {
	return i.withSession(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CHECKPOINT")
		return err
	})
}
