package take

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/ramhq/ram/pg"
)

// The versions whose protocol this package speaks. Later ones are tried with the
// newest that is known.
const (
	oldestMajor = 13
	framedMajor = 15 // options in parentheses, one COPY stream for everything
)

// source is the server that the backup comes from, over one replication connection.
type source struct {
	conn        *pgconn.PgConn
	raw         net.Conn // conn's, once a backup has begun
	role        string
	major       int
	version     string // as the server writes it, without the distribution's own
	systemID    pg.SystemID
	segmentSize int64 // bytes
}

// connect opens a replication connection and asks the server who it is.
func connect(ctx context.Context, c pg.Conninfo, password string) (*source, error) {
	config, err := connConfig(c, password)
	if err != nil {
		return nil, fmt.Errorf("connection to PostgreSQL: %w", err)
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, advise(fmt.Errorf("connect to PostgreSQL for a base backup: %w", err), config.User)
	}
	s := &source{conn: conn, role: config.User}
	if err := s.identify(ctx); err != nil {
		s.close()
		return nil, advise(err, s.role)
	}
	return s, nil
}

// connConfig is the connection as pgconn wants it. What only libpq knows is left out,
// for pgconn would pass it on as a setting; what libpq's environment variables could
// set is given.
func connConfig(c pg.Conninfo, password string) (*pgconn.Config, error) {
	all := pg.Conninfo{
		"application_name": "ramd backup", "sslmode": "prefer", "target_session_attrs": "any", "connect_timeout": "10",
	}
	maps.Copy(all, c)
	for keyword := range all {
		if strings.HasPrefix(keyword, "keepalives") || slices.Contains([]string{"tcp_user_timeout", "gssencmode", "dbname"}, keyword) {
			delete(all, keyword)
		}
	}
	all["password"] = "unset"
	all["replication"] = "yes"
	config, err := pgconn.ParseConfig(all.String())
	if err != nil {
		return nil, err
	}
	config.Password = password
	// A host that vanishes sends nothing any more: a minute of silence on a connection
	// that is asked ends it. A server that only takes its time answers the probes.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
	return config, nil
}

// identify reads what the connection alone does not tell.
func (s *source) identify(ctx context.Context) error {
	var err error
	if s.major, s.version, err = serverVersion(s.conn.ParameterStatus("server_version")); err != nil {
		return err
	}
	row, err := s.ask(ctx, "IDENTIFY_SYSTEM", 4)
	if err != nil {
		return err
	}
	if s.systemID, err = pg.ParseSystemID(row[0]); err != nil {
		return fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
	}
	row, err = s.ask(ctx, "SHOW wal_segment_size", 1)
	if err != nil {
		return err
	}
	size, err := pg.ParseBytes(row[0])
	if err != nil || size <= 0 {
		return fmt.Errorf("wal_segment_size is %q, which is no size", row[0])
	}
	s.segmentSize = int64(size)
	return nil
}

// serverVersion reads the parameter server_version, such as
// "15.18 (Debian 15.18-0+deb12u1)" or "18beta1".
func serverVersion(text string) (major int, version string, err error) {
	v, err := pg.ParseVersion("postgres (PostgreSQL) " + text)
	if err != nil {
		return 0, "", fmt.Errorf("the server does not tell its version: server_version is %q", text)
	}
	if v.Major < oldestMajor {
		return 0, "", fmt.Errorf("PostgreSQL %s is too old for a base backup with a manifest; upgrade to %d or later", v, oldestMajor)
	}
	return v.Major, v.Text, nil
}

// ask runs a command of the replication protocol that answers with one row.
func (s *source) ask(ctx context.Context, command string, columns int) ([]string, error) {
	results, err := s.conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < columns {
		return nil, fmt.Errorf("%s: the answer is not one row of %d columns; is this a PostgreSQL server?", command, columns)
	}
	var row []string
	for _, value := range results[0].Rows[0] {
		row = append(row, string(value))
	}
	return row, nil
}

// keepWAL makes the server keep, from its last checkpoint on and until the
// connection ends, the WAL that the backup will need. The name does not begin as
// the slots of members do, so that nobody takes it for a leftover of one.
func (s *source) keepWAL(ctx context.Context) error {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	command := "CREATE_REPLICATION_SLOT backup_" + hex.EncodeToString(random[:]) + " TEMPORARY PHYSICAL "
	if s.major >= framedMajor {
		command += "(RESERVE_WAL)"
	} else {
		command += "RESERVE_WAL"
	}
	_, err := s.ask(ctx, command, 2)
	return advise(err, s.role)
}

// begin sends a command whose answer is read message by message. From then on the
// connection serves nothing else.
func (s *source) begin(command string) (*pgproto3.Frontend, error) {
	hijacked, err := s.conn.Hijack()
	if err != nil {
		return nil, err
	}
	s.raw = hijacked.Conn
	hijacked.Frontend.Send(&pgproto3.Query{String: command})
	return hijacked.Frontend, hijacked.Frontend.Flush()
}

// close ends the connection: at once when a backup has begun, for a server in the
// middle of one does not listen.
func (s *source) close() {
	if s.raw != nil {
		_ = s.raw.Close() // nothing of value is lost with it
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
}

// baseBackup is the command in the words of the server's version.
func baseBackup(major int, label string, maxRate pg.Bytes) string {
	type option struct{ keyword, value string }
	options := []option{{"LABEL", "'" + label + "'"}, {"PROGRESS", ""}}
	fast, noWait := option{"CHECKPOINT", "'fast'"}, option{"WAIT", "false"}
	if major < framedMajor {
		fast, noWait = option{"FAST", ""}, option{"NOWAIT", ""}
	}
	options = append(options, fast, option{"WAL", ""}, noWait)
	if maxRate > 0 {
		options = append(options, option{"MAX_RATE", strconv.FormatInt(int64(maxRate/pg.KB), 10)})
	}
	options = append(options, option{"TABLESPACE_MAP", ""}, option{"MANIFEST", "'yes'"}, option{"MANIFEST_CHECKSUMS", "'CRC32C'"})

	var words []string
	for _, o := range options {
		words = append(words, strings.TrimSpace(o.keyword+" "+o.value))
	}
	if major < framedMajor {
		return "BASE_BACKUP " + strings.Join(words, " ")
	}
	return "BASE_BACKUP (" + strings.Join(words, ", ") + ")"
}
