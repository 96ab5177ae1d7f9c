package take

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
)

// script is what a server says during a backup, as a value that a test can change.
type script struct {
	start, stop position
	spaces      []space
	archives    []scriptArchive
	listed      []listed // the manifest's files; nil: those of the archives
	manifest    func(text string) string
	ranges      string
	systemID    pg.SystemID
	messages    func([]pgproto3.BackendMessage) []pgproto3.BackendMessage
}

type scriptArchive struct {
	name, location, prefix string
	files                  []scriptFile
}

type scriptFile struct{ name, content string }

const scriptSegment = 64 << 10

// good is a backup with nothing wrong: a tablespace and the data directory, from
// 0/10028 to 0/20100, so that it needs two segments of 64 kB.
func good() script {
	label := "START WAL LOCATION: 0/10028 (file 000000020000000000000001)\nCHECKPOINT LOCATION: 0/10060\nBACKUP METHOD: streamed\nBACKUP FROM: standby\nSTART TIME: 2026-01-02 02:00:00 UTC\nLABEL: ram\nSTART TIMELINE: 2\n"
	wal := strings.Repeat("w", scriptSegment)
	return script{
		start: position{0x10028, 2}, stop: position{0x20100, 2},
		spaces: []space{{oid: 16385, location: "/space", size: 8 * pg.KB}, {size: 100 * pg.KB}},
		archives: []scriptArchive{
			{"16385.tar", "/space", "pg_tblspc/16385/", []scriptFile{{"PG_15/1/2", "tablespace"}}},
			{"base.tar", "", "", []scriptFile{
				{"backup_label", label},
				{"base/1/1259", strings.Repeat("page", 5000)},
				{"base/1/empty", ""},
				{"global/pg_control", "control"},
				{"pg_wal/000000020000000000000001", wal},
				{"pg_wal/000000020000000000000002", wal},
				{"pg_wal/archive_status/000000020000000000000001.done", ""},
			}},
		},
		ranges:   `{ "Timeline": 2, "Start-LSN": "0/10028", "End-LSN": "0/20100" }`,
		systemID: 7,
	}
}

func (a scriptArchive) tar() []byte {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, f := range a.files {
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.content)), Mode: 0o600, ModTime: time.Unix(1, 0)})
		_, _ = io.WriteString(w, f.content)
	}
	_ = w.Flush() // the server leaves out the end
	return text.Bytes()
}

// manifestText is the server's manifest with its own checksum.
func (s script) manifestText() string {
	files := s.listed
	if files == nil {
		for _, a := range s.archives {
			for _, f := range a.files {
				if !strings.HasPrefix(f.name, "pg_wal/0") {
					files = append(files, listing(a.prefix+f.name, f.content))
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n")
	fmt.Fprintf(&b, "\"System-Identifier\": %s,\n\"Files\": [", s.systemID)
	for i, f := range files {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n{ \"Path\": %q, \"Size\": %d, \"Last-Modified\": \"x\", \"Checksum-Algorithm\": %q, \"Checksum\": %q }", f.Path, f.Size, f.Algorithm, f.Checksum)
	}
	fmt.Fprintf(&b, "\n],\n\"WAL-Ranges\": [\n%s\n],\n", s.ranges)
	text := b.String()
	text += fmt.Sprintf("\"Manifest-Checksum\": \"%x\"}\n", sha256.Sum256([]byte(text)))
	if s.manifest != nil {
		text = s.manifest(text)
	}
	return text
}

func listing(path, content string) listed {
	sum := crc32.Checksum([]byte(content), castagnoli)
	return listed{
		Path: path, Size: int64(len(content)), Algorithm: "CRC32C",
		Checksum: fmt.Sprintf("%02x%02x%02x%02x", byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)),
	}
}

// say is the script as messages of the protocol with or without frames.
func (s script) say(framed bool) []pgproto3.BackendMessage {
	result := func(rows ...[][]byte) []pgproto3.BackendMessage {
		m := []pgproto3.BackendMessage{&pgproto3.RowDescription{}}
		for _, row := range rows {
			m = append(m, &pgproto3.DataRow{Values: row})
		}
		return append(m, &pgproto3.CommandComplete{})
	}
	at := func(p position) []pgproto3.BackendMessage {
		return result([][]byte{[]byte(p.lsn.String()), fmt.Append(nil, p.timeline)})
	}
	var spaces [][][]byte
	for _, sp := range s.spaces {
		row := [][]byte{nil, nil, fmt.Append(nil, int64(sp.size/pg.KB))}
		if sp.oid != 0 {
			row[0], row[1] = fmt.Append(nil, sp.oid), []byte(sp.location)
		}
		spaces = append(spaces, row)
	}
	m := append(at(s.start), result(spaces...)...)
	m = append(m, &pgproto3.NoticeResponse{Severity: "WARNING", Message: "careful"}, &pgproto3.ParameterStatus{})
	if framed {
		m = append(m, &pgproto3.CopyOutResponse{})
	}
	content := func(head, text []byte) {
		kind := []byte("d")
		if framed {
			m = append(m, &pgproto3.CopyData{Data: head})
		} else {
			m, kind = append(m, &pgproto3.CopyOutResponse{}), nil
		}
		for len(text) > 0 {
			n := min(len(text), 10000)
			m = append(m, &pgproto3.CopyData{Data: append(bytes.Clone(kind), text[:n]...)})
			text = text[n:]
		}
		if framed {
			m = append(m, &pgproto3.CopyData{Data: []byte("p12345678")})
		} else {
			m = append(m, &pgproto3.CopyDone{})
		}
	}
	for _, a := range s.archives {
		content([]byte("n"+a.name+"\x00"+a.location+"\x00"), a.tar())
	}
	content([]byte("m"), []byte(s.manifestText()))
	if framed {
		m = append(m, &pgproto3.CopyDone{})
	}
	m = append(m, at(s.stop)...)
	m = append(m, &pgproto3.CommandComplete{}, &pgproto3.ReadyForQuery{})
	if s.messages != nil {
		m = s.messages(m)
	}
	return m
}

// recited hands out messages one after the other.
type recited []pgproto3.BackendMessage

func (r *recited) Receive() (pgproto3.BackendMessage, error) {
	if len(*r) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	m := (*r)[0]
	*r = (*r)[1:]
	return m, nil
}

// hear receives a script into a repository.
func hear(t *testing.T, from receiver, framed bool, src *source, repository *backup.Repository) (*reception, error) {
	t.Helper()
	o := Options{Repository: repository, ID: testID, PartSize: 4 * pg.MB, Workers: 1, Now: time.Now}
	r := &reception{
		options: o, parts: newParts(t.Context(), o), source: src, buffer: make([]byte, 64<<10),
		stream: &stream{from: from, framed: framed, logger: zerolog.Nop()},
	}
	err := r.all()
	if err == nil {
		err = r.parts.wait()
	}
	r.parts.abort()
	return r, err
}
