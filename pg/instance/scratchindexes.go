package instance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// indexesQuery lists the B-tree indexes that have pages of their own, the largest
// first. Those of temporary tables are of sessions that are gone.
const indexesQuery = `
SELECT i.indexrelid, format('%I.%I', n.nspname, c.relname)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
WHERE a.amname = 'btree' AND i.indisvalid AND i.indisready AND c.relkind = 'i'
  AND t.relkind IN ('r', 't', 'm') AND c.relpersistence <> 't'
ORDER BY c.relpages DESC, i.indexrelid`

type indexOf struct {
	oid  uint32
	name string
}

// session opens one as superuser in a database of the private server. Unlike that of
// the instance's own server it has the ordinary search_path: expressions of indexes may
// need it. Event triggers do not fire.
func (s *privateServer) session(ctx context.Context, database string) (*pgx.Conn, error) {
	config, err := s.i.connConfig()
	if err != nil {
		return nil, err
	}
	config.Port, config.Database = uint16(s.port), database
	delete(config.RuntimeParams, "search_path")
	config.RuntimeParams["session_replication_role"] = "replica"
	config.RuntimeParams["maintenance_work_mem"] = "128MB"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to database %s of the recovered server: %w", database, err)
	}
	return conn, nil
}

// checkAllIndexes compares every index of every database with its table.
func (s *privateServer) checkAllIndexes(ctx context.Context, progress func(RecoveryProgress), checked *Checked) error {
	tell(progress, PhaseIndexes)
	databases, err := s.databases(ctx)
	if err != nil {
		return err
	}
	var damaged []string
	for _, database := range databases {
		found, err := s.checkDatabase(ctx, database, progress, checked)
		if err != nil {
			return err
		}
		damaged = append(damaged, found...)
	}
	if len(damaged) == 0 {
		return nil
	}
	more := ""
	if len(damaged) > maxNamed {
		more = fmt.Sprintf("; and %d more", len(damaged)-maxNamed)
	}
	return fmt.Errorf("%w: %d indexes: %s%s", ErrCorrupt, len(damaged), strings.Join(damaged[:min(len(damaged), maxNamed)], "; "), more)
}

// databases are those that take connections. One of the usual ones must be there to
// ask.
func (s *privateServer) databases(ctx context.Context) (names []string, err error) {
	conn, err := s.session(ctx, "postgres")
	if err != nil {
		var first error
		if conn, first = s.session(ctx, "template1"); first != nil {
			return nil, err
		}
	}
	defer closeSoon(conn)
	rows, err := conn.Query(ctx, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// checkDatabase returns what is damaged in one database.
func (s *privateServer) checkDatabase(ctx context.Context, database string, progress func(RecoveryProgress), checked *Checked) (damaged []string, err error) {
	conn, err := s.session(ctx, database)
	if err != nil {
		return nil, asCorrupt(err)
	}
	defer closeSoon(conn)
	function, err := amcheckFunction(ctx, conn)
	if err != nil {
		return nil, asCorrupt(fmt.Errorf("database %s: %w", database, err))
	}
	if function == "" {
		checked.Skipped = append(checked.Skipped, database)
		s.i.logger.Warn().Str("database", database).Msg("extension amcheck is not available: the indexes of the backup are not checked")
		return nil, nil
	}
	rows, err := conn.Query(ctx, indexesQuery)
	if err != nil {
		return nil, asCorrupt(fmt.Errorf("database %s: %w", database, err))
	}
	indexes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x indexOf, err error) {
		err = row.Scan(&x.oid, &x.name)
		return x, err
	})
	if err != nil {
		return nil, asCorrupt(fmt.Errorf("database %s: %w", database, err))
	}
	for n, index := range indexes {
		err := checkIndex(ctx, conn, function, index)
		var refusal *pgconn.PgError
		switch {
		case err == nil:
			checked.Indexes++
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &refusal):
			damaged = append(damaged, fmt.Sprintf("database %s, index %s: %s", database, index.name, describeRefusal(refusal)))
		default:
			return nil, fmt.Errorf("database %s, index %s: %w", database, index.name, err)
		}
		if progress != nil {
			progress(RecoveryProgress{Phase: PhaseIndexes, Done: int64(n + 1), Total: int64(len(indexes))})
		}
	}
	checked.Databases++
	return damaged, nil
}

// amcheckFunction is the function that checks an index, with its schema; empty when
// this host does not have the extension.
func amcheckFunction(ctx context.Context, conn *pgx.Conn) (string, error) {
	var available bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')").Scan(&available)
	if err != nil || !available {
		return "", err
	}
	// There may be no other schema to create it in.
	if _, err := conn.Exec(ctx, "SET client_min_messages = error; CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA pg_catalog"); err != nil {
		return "", fmt.Errorf("create extension amcheck: %w", err)
	}
	var function string
	err = conn.QueryRow(ctx, `SELECT format('%I.bt_index_check', n.nspname) FROM pg_extension e
JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'`).Scan(&function)
	return function, err
}

// checkIndex checks an index against all tuples of its table. When that fails for
// another reason than damage, a function in an index expression that does not work
// here for example, the index is checked by itself.
func checkIndex(ctx context.Context, conn *pgx.Conn, function string, index indexOf) error {
	_, err := conn.Exec(ctx, "SELECT "+function+"($1::pg_catalog.oid::pg_catalog.regclass, true)", index.oid)
	if err == nil || isCorrupt(err) || ctx.Err() != nil || conn.IsClosed() {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT "+function+"($1::pg_catalog.oid::pg_catalog.regclass, false)", index.oid)
	return err
}

// isCorrupt recognises data_corrupted and index_corrupted.
func isCorrupt(err error) bool {
	var refusal *pgconn.PgError
	return errors.As(err, &refusal) && (refusal.Code == "XX001" || refusal.Code == "XX002")
}

func asCorrupt(err error) error {
	if isCorrupt(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

func describeRefusal(e *pgconn.PgError) string {
	if e.Detail == "" {
		return e.Message
	}
	return e.Message + " (" + strings.Join(strings.Fields(e.Detail), " ") + ")"
}
