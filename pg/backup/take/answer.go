package take

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/ramhq/ram/pg"
)

// position reads a result of one row: an LSN and a timeline.
func (s *stream) position() (position, error) {
	rows, err := s.rows()
	if err != nil {
		return position{}, err
	}
	if len(rows) != 1 || len(rows[0]) < 2 {
		return position{}, errors.New("the server does not say where the backup begins or ends")
	}
	lsn, err := pg.ParseLSN(string(rows[0][0]))
	if err != nil {
		return position{}, err
	}
	timeline, err := strconv.ParseUint(string(rows[0][1]), 10, 32)
	if err != nil || lsn == 0 || timeline == 0 {
		return position{}, fmt.Errorf("the server says that the backup begins or ends at %q on timeline %q", rows[0][0], rows[0][1])
	}
	return position{lsn: lsn, timeline: pg.Timeline(timeline)}, nil
}

// rows reads one result set. A null value is nil.
func (s *stream) rows() ([][][]byte, error) {
	var rows [][][]byte
	for {
		m, err := s.message()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
		case *pgproto3.DataRow:
			row := make([][]byte, len(m.Values))
			for i, value := range m.Values {
				row[i] = bytes.Clone(value)
			}
			rows = append(rows, row)
		case *pgproto3.CommandComplete:
			return rows, nil
		default:
			return nil, unexpected(m, "a row")
		}
	}
}

func (s *stream) copyOut() error {
	m, err := s.message()
	if err != nil {
		return err
	}
	if _, ok := m.(*pgproto3.CopyOutResponse); !ok {
		return unexpected(m, "the beginning of a copy")
	}
	s.open = true
	return nil
}

// mostWarnings are logged of those that one backup brings: a server may have one for
// each of its files.
const mostWarnings = 20

// message is the next message that belongs to the answer. What the server warns of
// is logged: damaged pages among other things.
func (s *stream) message() (pgproto3.BackendMessage, error) {
	for {
		m, err := s.from.Receive()
		if err != nil {
			return nil, fmt.Errorf("the connection to PostgreSQL broke: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("PostgreSQL ends the backup: %w", pgconn.ErrorResponseToPgError(m))
		case *pgproto3.NoticeResponse:
			if s.warned++; s.warned <= mostWarnings {
				s.logger.Warn().Str("severity", m.Severity).Str("text", m.Message).Str("detail", m.Detail).Msg("PostgreSQL says during the backup")
			}
		case *pgproto3.ParameterStatus:
		default:
			return m, nil
		}
	}
}

func parseSpace(row [][]byte) (space, error) {
	if len(row) < 3 {
		return space{}, errors.New("the server announces a tablespace without its size")
	}
	var sp space
	if row[0] != nil {
		oid, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil || oid == 0 || len(row[1]) == 0 {
			return space{}, fmt.Errorf("the server announces tablespace %q at %q", row[0], row[1])
		}
		sp.oid, sp.location = uint32(oid), string(row[1])
	}
	if row[2] != nil {
		kilobytes, err := strconv.ParseInt(string(row[2]), 10, 64)
		if err != nil || kilobytes < 0 || kilobytes > int64(1<<63-1)/int64(pg.KB) {
			return space{}, fmt.Errorf("the server estimates %q kilobytes", row[2])
		}
		sp.size = pg.Bytes(kilobytes) * pg.KB
	}
	return sp, nil
}

func unexpected(m pgproto3.BackendMessage, want string) error {
	return fmt.Errorf("the server sends %T where %s was due; is this a PostgreSQL server of version %d or later?", m, want, oldestMajor)
}
