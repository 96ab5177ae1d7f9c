package take

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
)

// receiver hands out the server's messages; one is valid until the next.
type receiver interface {
	Receive() (pgproto3.BackendMessage, error)
}

// position is where a backup begins or ends.
type position struct {
	lsn      pg.LSN
	timeline pg.Timeline
}

// space is one directory tree that the server sends as an archive of its own. OID is
// zero for the data directory.
type space struct {
	oid      uint32
	location string
	size     pg.Bytes // the server's estimate
}

// content is what the bytes that follow in the stream are.
type content int

const (
	contentEnd content = iota // nothing more follows
	contentArchive
	contentManifest
)

// stream is the server's answer to BASE_BACKUP, read in order: begin, then next and
// Read for each archive and for the manifest, then end. Up to version 14 each
// archive is a COPY of its own; from 15 on one COPY holds all, and the first byte of
// each message says what it is.
//
// Not safe for concurrent use.
type stream struct {
	from   receiver
	framed bool
	logger zerolog.Logger

	spaces  []space
	archive int                     // how many archives have begun
	open    bool                    // inside a content, which Read reads
	data    []byte                  // of the current message, not yet read
	pushed  pgproto3.BackendMessage // seen and not yet dealt with
	warned  int
}

// begin reads up to the first archive.
func (s *stream) begin() (position, error) {
	start, err := s.position()
	if err != nil {
		return position{}, err
	}
	rows, err := s.rows()
	if err != nil {
		return position{}, err
	}
	for _, row := range rows {
		sp, err := parseSpace(row)
		if err != nil {
			return position{}, err
		}
		s.spaces = append(s.spaces, sp)
	}
	if len(s.spaces) == 0 {
		return position{}, errors.New("the server announces no data directory")
	}
	if !s.framed {
		return start, nil
	}
	return start, s.copyOut()
}

// next skips what is left of the current content and says what comes; space is set
// for an archive.
func (s *stream) next() (content, space, error) {
	if s.open {
		if _, err := io.Copy(io.Discard, s); err != nil {
			return contentEnd, space{}, err
		}
	}
	pushed := s.pushed
	s.pushed, s.open = nil, false
	if !s.framed {
		return s.nextCopy()
	}
	switch m := pushed.(type) {
	case *pgproto3.CopyDone:
		return contentEnd, space{}, nil
	case *pgproto3.CopyData:
		s.open = true
		if m.Data[0] == 'm' {
			return contentManifest, space{}, nil
		}
		sp, err := s.named(m.Data[1:])
		return contentArchive, sp, err
	}
	return contentEnd, space{}, unexpected(pushed, "an archive")
}

// nextCopy is next for versions that send each content in a COPY of its own: all
// archives in the order in which they were announced, then the manifest.
func (s *stream) nextCopy() (content, space, error) {
	if s.archive > len(s.spaces) {
		return contentEnd, space{}, nil
	}
	if err := s.copyOut(); err != nil {
		return contentEnd, space{}, err
	}
	s.archive++
	if s.archive > len(s.spaces) {
		return contentManifest, space{}, nil
	}
	return contentArchive, s.spaces[s.archive-1], nil
}

// named finds the announced space that a new archive is of: its name and, for a
// tablespace, its location follow, each ended by a zero byte.
func (s *stream) named(text []byte) (space, error) {
	name, rest, ok := bytes.Cut(text, []byte{0})
	location, _, ok2 := bytes.Cut(rest, []byte{0})
	if !ok || !ok2 || s.archive >= len(s.spaces) {
		return space{}, fmt.Errorf("the server sends an archive that it has not announced: %q", text)
	}
	sp := s.spaces[s.archive]
	s.archive++
	want := "base.tar"
	if sp.oid != 0 {
		want = strconv.FormatUint(uint64(sp.oid), 10) + ".tar"
	}
	if string(name) != want || string(location) != sp.location {
		return space{}, fmt.Errorf("the server sends archive %q of %q, announced was %q of %q", name, location, want, sp.location)
	}
	return sp, nil
}

// Read reads the current content up to io.EOF.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.data) == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

func (s *stream) fill() error {
	if s.pushed != nil {
		return io.EOF
	}
	m, err := s.message()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *pgproto3.CopyDone:
		s.pushed = m
		return io.EOF
	case *pgproto3.CopyData:
		if !s.framed {
			s.data = m.Data
			return nil
		}
		return s.unframe(m)
	}
	return unexpected(m, "backup data")
}

// unframe deals with a message whose first byte says what it is. Kinds that later
// versions may add are an error: they could be content.
func (s *stream) unframe(m *pgproto3.CopyData) error {
	if len(m.Data) == 0 {
		return errors.New("the server sends an empty message")
	}
	switch m.Data[0] {
	case 'd':
		s.data = m.Data[1:]
	case 'p': // the server's own progress; the bytes that arrive tell more
	case 'n', 'm':
		s.pushed = &pgproto3.CopyData{Data: bytes.Clone(m.Data)}
		return io.EOF
	default:
		return fmt.Errorf("the server sends a message of kind %q, which this version of ram does not know; update ram", m.Data[0])
	}
	return nil
}

// end reads where the backup ends, and up to the end of the answer.
func (s *stream) end() (position, error) {
	stop, err := s.position()
	if err != nil {
		return position{}, err
	}
	for {
		m, err := s.message()
		if err != nil {
			return position{}, err
		}
		switch m.(type) {
		case *pgproto3.CommandComplete:
		case *pgproto3.ReadyForQuery:
			return stop, nil
		default:
			return position{}, unexpected(m, "the end of the backup")
		}
	}
}

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
