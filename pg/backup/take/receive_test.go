package take

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestWhatTheServerSays(t *testing.T) {
	file := func(s *script, n int) *scriptFile { return &s.archives[1].files[n] }
	// before changes a file after the manifest was made.
	before := func(change func(s *script)) func(s *script) {
		return func(s *script) {
			text := s.manifestText()
			s.manifest = func(string) string { return text }
			change(s)
		}
	}
	drop := func(kind func(pgproto3.BackendMessage) bool) func(s *script) {
		return func(s *script) {
			s.messages = func(m []pgproto3.BackendMessage) []pgproto3.BackendMessage {
				for i := range m {
					if kind(m[i]) {
						return append(m[:i:i], m[i+1:]...)
					}
				}
				panic("the script has no such message")
			}
		}
	}
	insertInData := func(message pgproto3.BackendMessage) func(s *script) {
		return func(s *script) {
			s.messages = func(m []pgproto3.BackendMessage) []pgproto3.BackendMessage {
				for i := range m {
					if _, ok := m[i].(*pgproto3.CopyData); ok {
						return append(append(m[:i+1:i+1], message), m[i+1:]...)
					}
				}
				panic("the script has no data")
			}
		}
	}
	for _, test := range []struct {
		rule   string
		only   string // the protocol that can say it: framed or plain; empty: both
		change func(s *script)
		says   string // empty: the backup is good
	}{
		{"a good backup", "", nil, ""},
		{"a manifest in another order is the same", "", func(s *script) {
			s.listed = []listed{}
			for _, f := range []int{3, 6, 0, 2, 1} {
				s.listed = append(s.listed, listing(file(s, f).name, file(s, f).content))
			}
			s.listed = append(s.listed, listing("pg_tblspc/16385/PG_15/1/2", "tablespace"))
		}, ""},
		{"an end within the first segment needs no other", "", func(s *script) {
			s.archives[1].files = append(s.archives[1].files[:5], s.archives[1].files[6:]...)
			s.stop.lsn = 0x20000
			s.ranges = `{ "Timeline": 2, "Start-LSN": "0/10028", "End-LSN": "0/20000" }`
		}, ""},
		{"a changed byte", "", before(func(s *script) { file(s, 1).content = "PAGE" + file(s, 1).content[4:] }), `"base/1/1259" arrived with CRC32C`},
		{"a shorter file", "", before(func(s *script) { file(s, 1).content = "x" }), `"base/1/1259" arrived with 1 bytes instead of 20000`},
		{"a missing file", "", before(func(s *script) { s.archives[1].files = append(s.archives[1].files[:1], s.archives[1].files[2:]...) }), `"base/1/1259" did not arrive`},
		{"a missing last file", "", before(func(s *script) { s.archives[1].files = s.archives[1].files[:6] }), `.done" did not arrive`},
		{"a file too many at the end", "", before(func(s *script) { s.archives[1].files = append(s.archives[1].files, scriptFile{"more", ""}) }), `"more" is not in the manifest`},
		{"a file too many in the middle", "", before(func(s *script) { s.archives[0].files = append(s.archives[0].files, scriptFile{"more", ""}) }), `"pg_tblspc/16385/more" is not in the manifest`},
		{"a file twice", "", before(func(s *script) { s.archives[1].files = append(s.archives[1].files, *file(s, 1)) }), `"base/1/1259" is not in the manifest`},
		{"many wrong files", "", before(func(s *script) {
			for n := range 30 {
				s.archives[1].files = append(s.archives[1].files, scriptFile{fmt.Sprintf("more%02d", n), ""})
			}
		}), `"more04" is not in the manifest and 25 more; take another backup`},
		{"a file outside", "", func(s *script) { file(s, 2).name = "../base/1/x" }, "outside of its directory"},
		{"a missing segment", "", func(s *script) { file(s, 5).name = "pg_wal/000000020000000000000003" }, "WAL segment 000000020000000000000002, which the backup needs, arrived with 0 bytes"},
		{"a short segment", "", func(s *script) { file(s, 4).content = "short" }, "000000020000000000000001, which the backup needs, arrived with 5 bytes instead of 65536"},
		{"a changed manifest", "", func(s *script) {
			s.manifest = func(text string) string { return strings.Replace(text, `"x"`, `"y"`, 1) }
		}, "it was damaged on the way"},
		{"a cut manifest", "", func(s *script) { s.manifest = func(text string) string { return text[:len(text)/2] } }, "manifest: unexpected EOF"},
		{"an empty manifest", "", func(s *script) { s.manifest = func(string) string { return "" } }, "manifest: EOF"},
		{"a manifest of a later version", "", func(s *script) {
			s.manifest = func(text string) string { return resum(strings.Replace(text, `Version": 2`, `Version": 3`, 1)) }
		}, "it is of version 3, known are 1 to 2; update ram"},
		{"other checksums than asked for", "", func(s *script) {
			s.manifest = func(text string) string { return resum(strings.Replace(text, `"CRC32C"`, `"SHA224"`, 1)) }
		}, "instead of CRC32C"},
		{"a manifest without files", "", func(s *script) {
			s.manifest = func(text string) string { return resum(strings.Replace(text, `"Files"`, `"Filed"`, 1)) }
		}, "it lists no files"},
		{"another system identifier in the manifest", "", func(s *script) { s.systemID = 8 }, "manifest is of system identifier 8, the server has 7"},
		{"a new timeline at the end", "", func(s *script) { s.stop.timeline = 3 }, "timeline changed during the backup"},
		{"two timelines in the manifest", "", func(s *script) {
			s.ranges += `, { "Timeline": 1, "Start-LSN": "0/0", "End-LSN": "0/10000" }`
		}, "timeline changed during the backup"},
		{"another end in the manifest", "", func(s *script) { s.ranges = strings.Replace(s.ranges, "20100", "20200", 1) }, "the manifest asks for the WAL"},
		{"another beginning in backup_label", "", func(s *script) {
			file(s, 0).content = strings.Replace(file(s, 0).content, "0/10028", "0/10030", 1)
		}, "backup_label says that the backup began at 0/10030"},
		{"a backup_label without a role", "", func(s *script) {
			file(s, 0).content = strings.Replace(file(s, 0).content, "BACKUP FROM", "BACKUP OF", 1)
		}, "whether it is of a primary or a standby"},
		{"no backup_label", "", func(s *script) { s.archives[1].files = s.archives[1].files[1:] }, "backup_label says"},
		{"no archive of a tablespace", "framed", func(s *script) { s.archives = s.archives[1:] }, `sends archive "base.tar" of "", announced was "16385.tar" of "/space"`},
		{"archives in another order", "framed", func(s *script) { s.archives[0], s.archives[1] = s.archives[1], s.archives[0] }, `announced was "16385.tar"`},
		{"an archive too many", "framed", func(s *script) { s.archives = append(s.archives, s.archives[1]) }, "that it has not announced"},
		{"the manifest too early", "framed", func(s *script) { s.archives = s.archives[:1] }, "sent 1 of 2 archives"},
		{"no manifest", "plain", func(s *script) {
			s.messages = func(m []pgproto3.BackendMessage) []pgproto3.BackendMessage {
				last := 0
				for i := range m {
					if _, ok := m[i].(*pgproto3.CopyOutResponse); ok {
						last = i
					}
				}
				return append(m[:last:last], m[len(m)-5:]...)
			}
		}, "where the beginning of a copy was due"},
		{"an error in the middle", "", insertInData(&pgproto3.ErrorResponse{Code: "58P01", Message: "no such file"}), "PostgreSQL ends the backup: : no such file"},
		{"something else in the middle", "", insertInData(&pgproto3.BindComplete{}), "where backup data was due"},
		{"a kind of message that is not known", "framed", insertInData(&pgproto3.CopyData{Data: []byte("x")}), `of kind 'x', which this version of ram does not know`},
		{"an empty message", "framed", insertInData(&pgproto3.CopyData{}), "an empty message"},
		{"lost data", "", drop(func(m pgproto3.BackendMessage) bool {
			d, ok := m.(*pgproto3.CopyData)
			return ok && len(d.Data) >= 10000
		}), "the server's archive: "},
		{"an end in the middle", "", func(s *script) {
			s.messages = func(m []pgproto3.BackendMessage) []pgproto3.BackendMessage { return m[:len(m)/2] }
		}, "the connection to PostgreSQL broke"},
		{"an end before the last message", "", func(s *script) {
			s.messages = func(m []pgproto3.BackendMessage) []pgproto3.BackendMessage { return m[:len(m)-1] }
		}, "the connection to PostgreSQL broke"},
		{"no data directory", "", func(s *script) { s.spaces = nil }, "announces no data directory"},
		{"a tablespace without a place", "", func(s *script) { s.spaces[0].location = "" }, "announces tablespace"},
		{"no position", "", func(s *script) { s.start.lsn = 0 }, "begins or ends at"},
	} {
		for _, protocol := range []string{"framed", "plain"} {
			if test.only != "" && test.only != protocol {
				continue
			}
			t.Run(test.rule+", "+protocol, func(t *testing.T) {
				s := good()
				if test.change != nil {
					test.change(&s)
				}
				words := recited(s.say(protocol == "framed"))
				repository, _ := newRepository(t, "zstd", false)
				r, err := hear(t, &words, protocol == "framed", &source{systemID: 7, segmentSize: scriptSegment}, repository)
				if test.says != "" {
					wantError(t, err, nil, test.says)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if !r.result.standby || r.result.start != s.start || r.result.stop != s.stop || len(words) != 0 {
					t.Errorf("%+v, %d messages are left", r.result, len(words))
				}
			})
		}
	}
}

// resum gives a changed manifest a checksum of its own.
func resum(text string) string {
	text = text[:strings.LastIndex(text, `"Manifest-Checksum"`)]
	return text + fmt.Sprintf("\"Manifest-Checksum\": \"%x\"}\n", sha256.Sum256([]byte(text)))
}
