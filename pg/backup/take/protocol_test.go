package take

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/ramhq/ram/pg"
)

// TestProtocolBeforeFifteen has a real server's backup in the words of older ones.
func TestProtocolBeforeFifteen(t *testing.T) {
	s := startPrimary(t)
	mkdir(t, s.dir+"/space", 0o700)
	s.sql(t, "CREATE TABLESPACE elsewhere LOCATION '"+s.dir+"/space'", "CREATE TABLE t TABLESPACE elsewhere AS SELECT generate_series(1, 1000) g")
	src, err := connect(t.Context(), s.conninfo("postgres"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer src.close()
	if err := src.keepWAL(t.Context()); err != nil {
		t.Fatal(err)
	}
	frontend, err := src.begin(baseBackup(src.major, "test", 0))
	if err != nil {
		t.Fatal(err)
	}
	repository, _ := newRepository(t, "lz4", false)
	r, err := hear(t, &translated{from: frontend}, false, src, repository)
	if err != nil {
		t.Fatal(err)
	}
	if r.result.standby || len(r.result.spaces) != 2 || r.result.spaces[0].location != s.dir+"/space" || len(r.inventory.files) < 900 {
		t.Errorf("%d files, %+v", len(r.inventory.files), r.result)
	}
}

// translated turns the frames of 15 and later into a COPY for each content.
type translated struct {
	from receiver
	next []pgproto3.BackendMessage
	open bool
}

func (tr *translated) Receive() (pgproto3.BackendMessage, error) {
	for len(tr.next) == 0 {
		m, err := tr.from.Receive()
		if err != nil {
			return nil, err
		}
		tr.translate(m)
	}
	m := tr.next[0]
	tr.next = tr.next[1:]
	return m, nil
}

func (tr *translated) translate(m pgproto3.BackendMessage) {
	switch m := m.(type) {
	case *pgproto3.CopyOutResponse:
	case *pgproto3.CopyData:
		switch m.Data[0] {
		case 'n', 'm':
			if tr.open {
				tr.next = append(tr.next, &pgproto3.CopyDone{})
			}
			tr.open = true
			tr.next = append(tr.next, &pgproto3.CopyOutResponse{})
		case 'd':
			tr.next = append(tr.next, &pgproto3.CopyData{Data: bytes.Clone(m.Data[1:])})
		}
	default:
		tr.next = append(tr.next, m)
	}
}

func TestCommandInTheWordsOfEachVersion(t *testing.T) {
	for _, test := range []struct {
		major int
		rate  pg.Bytes
		want  string
	}{
		{13, 0, "BASE_BACKUP LABEL 'ram x' PROGRESS FAST WAL NOWAIT TABLESPACE_MAP MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"},
		{14, 32 * pg.KB, "BASE_BACKUP LABEL 'ram x' PROGRESS FAST WAL NOWAIT MAX_RATE 32 TABLESPACE_MAP MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"},
		{15, 0, "BASE_BACKUP (LABEL 'ram x', PROGRESS, CHECKPOINT 'fast', WAL, WAIT false, TABLESPACE_MAP, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"},
		{18, pg.GB, "BASE_BACKUP (LABEL 'ram x', PROGRESS, CHECKPOINT 'fast', WAL, WAIT false, MAX_RATE 1048576, TABLESPACE_MAP, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"},
	} {
		if got := baseBackup(test.major, "ram x", test.rate); got != test.want {
			t.Errorf("%d: %s", test.major, got)
		}
	}
}

func TestServerVersion(t *testing.T) {
	for text, want := range map[string]string{
		"15.18 (Debian 15.18-0+deb12u1)": "15 15.18", "18beta1": "18 18beta1", "13.2": "13 13.2",
		"12.9": "too old", "9.6.24": "too old", "": "does not tell its version",
	} {
		major, version, err := serverVersion(text)
		got := fmt.Sprintf("%d %s", major, version)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: %s", text, got)
		}
	}
}
