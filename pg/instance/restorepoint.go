package instance

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
)

// RestorePoint writes a named restore point into the WAL of a primary, and has the WAL
// up to it archived soon. It returns where the point is.
func (i *Instance) RestorePoint(ctx context.Context, name string) (pg.LSN, error) {
	var text string
	err := i.withSession(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, "SELECT pg_create_restore_point($1)::text", name).Scan(&text); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "SELECT pg_switch_wal()")
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("write restore point %s: %w", name, err)
	}
	return pg.ParseLSN(text)
}
