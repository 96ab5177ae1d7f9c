package instance

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// connConfig is how ramd reaches its own server: as superuser, over the socket in
// its own directory. The session's settings keep what an operator has configured
// for everybody from getting in the way: no object of another schema is called by
// mistake, nothing is logged each second, nothing waits for standbys.
func (i *Instance) connConfig() (*pgx.ConnConfig, error) {
	// Every value that libpq's environment variables could set is given.
	config, err := pgx.ParseConfig(fmt.Sprintf(
		"host='%s' port=%d user=%s dbname=postgres password=unset sslmode=disable target_session_attrs=any connect_timeout=0",
		conninfoEscape.Replace(i.SocketDir()), i.cfg.Port, Superuser))
	if err != nil {
		return nil, err
	}
	config.Password = i.cfg.SuperuserPassword
	config.RuntimeParams = map[string]string{
		"application_name":              "ramd",
		"search_path":                   "pg_catalog",
		"client_encoding":               "UTF8",
		"DateStyle":                     "ISO",
		"statement_timeout":             "0",
		"lock_timeout":                  "0",
		"jit":                           "off",
		"log_statement":                 "none",
		"log_min_duration_statement":    "-1",
		"log_duration":                  "off",
		"default_transaction_read_only": "off",
		// What ramd writes is written again when it is missing, so it does not wait for a
		// standby that may not exist yet.
		"synchronous_commit": "local",
	}
	if i.cfg.Major >= 14 {
		config.RuntimeParams["idle_session_timeout"] = "0"
	}
	return config, nil
}

var conninfoEscape = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

// connect opens a session. Whoever asks closes it.
func (i *Instance) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := i.connConfig()
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// withSession runs fn in a session of its own, so that nothing waits for it.
func (i *Instance) withSession(ctx context.Context, fn func(*pgx.Conn) error) error {
	conn, err := i.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to the own server: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}
