package take

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

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
