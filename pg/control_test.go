package pg

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A standby of PostgreSQL 15 that was stopped cleanly.
const controlSample = `pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7710791588047540883
Database cluster state:               shut down in recovery
pg_control last modified:             Sun Nov 22 00:54:34 2026
Latest checkpoint location:           0/5000060
Latest checkpoint's REDO location:    0/5000028
Latest checkpoint's REDO WAL file:    000000020000000000000005
Latest checkpoint's TimeLineID:       2
Latest checkpoint's PrevTimeLineID:   1
Latest checkpoint's oldestCommitTsXid:0
Minimum recovery ending location:     16/B374D848
Min recovery ending loc's timeline:   2
Backup start location:                0/0
Backup end location:                  0/0
End-of-backup record required:        no
wal_level setting:                    replica
max_connections setting:              100
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
Data page checksum version:           1
`

func TestControlDataIsReadByItsLabels(t *testing.T) {
	got, err := ParseControlData(controlSample)
	if err != nil {
		t.Fatal(err)
	}
	want := ControlData{
		ControlVersion:         1300,
		CatalogVersion:         202209061,
		SystemID:               7710791588047540883,
		State:                  "shut down in recovery",
		Checkpoint:             0x5000060,
		CheckpointRedo:         0x5000028,
		Timeline:               2,
		PrevTimeline:           1,
		MinRecoveryEnd:         0x16B374D848,
		MinRecoveryEndTimeline: 2,
		ChecksumVersion:        1,
		SegmentSize:            16 * MB,
		Settings: map[string]string{
			"wal_level": "replica", "max_connections": "100", "max_prepared_transactions": "0", "max_locks_per_transaction": "64",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got.CleanlyStopped() {
		t.Error("a standby that was shut down counts as not cleanly stopped")
	}
}

func TestControlDataThatCannotBeTrustedIsAnError(t *testing.T) {
	for _, c := range []struct{ rule, text, want string }{
		{
			"a warning of damage",
			"WARNING: Calculated CRC checksum does not match value stored in file.\n" + controlSample,
			"pg_controldata: Calculated CRC checksum does not match value stored in file.",
		},
		{
			"a missing field",
			strings.Replace(controlSample, "Database cluster state", "Datenbank-Cluster-Status", 1),
			`pg_controldata prints no "Database cluster state"; run it with LC_ALL=C`,
		},
		{
			"a field of another kind",
			strings.Replace(controlSample, "0/5000060", "here", 1),
			`pg_controldata: Latest checkpoint location: LSN "here" is not of the form 0/16B3748`,
		},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if _, err := ParseControlData(c.text); err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// skip leaves a test out where a program is missing, which CI has to have.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// checkControlData compares the program's output with the server's own functions.
func (s *scratch) checkControlData(t *testing.T) {
	program := filepath.Join(binDir(t), "pg_controldata")
	if _, err := os.Stat(program); err != nil {
		skip(t, "this PostgreSQL has no pg_controldata")
	}
	if _, err := s.conn.Exec(t.Context(), "CHECKPOINT"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-D", s.data())
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := ParseControlData(string(out))
	if err != nil {
		t.Fatal(err)
	}
	want := got
	var system, timeline int64
	var checkpoint, redo string
	err = s.conn.QueryRow(t.Context(), `
		SELECT pg_control_version, catalog_version_no, system_identifier, checkpoint_lsn::text, redo_lsn::text, timeline_id, data_page_checksum_version, bytes_per_wal_segment
		FROM pg_control_system(), pg_control_checkpoint(), pg_control_init()`).
		Scan(&want.ControlVersion, &want.CatalogVersion, &system, &checkpoint, &redo, &timeline, &want.ChecksumVersion, &want.SegmentSize)
	if err != nil {
		t.Fatal(err)
	}
	want.SystemID, want.Timeline, want.State = SystemID(system), Timeline(timeline), "in production"
	if want.Checkpoint, err = ParseLSN(checkpoint); err != nil {
		t.Fatal(err)
	}
	if want.CheckpointRedo, err = ParseLSN(redo); err != nil {
		t.Fatal(err)
	}
	for name := range got.Settings {
		want.Settings[name] = s.show(t, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPostmasterPIDGrowsWhileTheServerStarts(t *testing.T) {
	whole := "4711\n/srv/pg\n1795308569\n5432\n/run/postgresql\n127.0.0.1\n  5432001         4\nready   \n"
	for _, c := range []struct{ rule, text, want string }{
		{"a running server", whole, "4711 false /srv/pg 1795308569 5432 /run/postgresql 127.0.0.1 [5432001 4] ready"},
		{"no socket and no address", "4711\n/srv/pg\n1795308569\n5432\n\n\n  1 2\nstandby \n", "4711 false /srv/pg 1795308569 5432   [1 2] standby"},
		{"the first lines only", "4711\n/srv/pg\n1795308569\n5432\n/run/postgresql\n", "4711 false /srv/pg 1795308569 5432 /run/postgresql  [] "},
		{"the process only", "4711", "4711 false  none 0   [] "},
		{"a single-user server", "-4711\n/srv/pg\n", "4711 true /srv/pg none 0   [] "},
		{"nothing yet", "", `postmaster.pid begins with "", which is no process id`},
		{"something else", "x\n", `postmaster.pid begins with "x", which is no process id`},
		{"process zero", "0\n", `postmaster.pid begins with "0", which is no process id`},
		{"a broken start time", "1\n/d\nsoon\n", `postmaster.pid: start time "soon" is not a number`},
		{"a broken port", "1\n/d\n1\n99999\n", `postmaster.pid: port "99999" is not a port`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := pidNotation(ParsePostmasterPID(c.text)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func pidNotation(p PostmasterPID, err error) string {
	if err != nil {
		return err.Error()
	}
	started := "none"
	if !p.StartedAt.IsZero() {
		started = strconv.FormatInt(p.StartedAt.Unix(), 10)
	}
	return strings.Join([]string{
		strconv.Itoa(p.PID), strconv.FormatBool(p.Standalone), p.DataDir, started, strconv.Itoa(p.Port),
		p.SocketDir, p.ListenAddr, "[" + p.SharedMemoryKey + "]", p.Status,
	}, " ")
}

// checkPostmasterPID reads the file of the running server.
func (s *scratch) checkPostmasterPID(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if os.IsPermission(err) {
		t.Skip("postmaster.pid can be read by its owner only")
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParsePostmasterPID(string(text))
	if err != nil {
		t.Fatal(err)
	}
	want := PostmasterPID{
		PID: s.pid, DataDir: s.data(), Port: 5432, SocketDir: s.dir, Status: "ready",
		SharedMemoryKey: got.SharedMemoryKey,
	}
	if err := s.conn.QueryRow(t.Context(), "SELECT date_trunc('second', pg_postmaster_start_time())").Scan(&want.StartedAt); err != nil {
		t.Fatal(err)
	}
	// The file's time is taken a moment before the function's.
	if early := want.StartedAt.Sub(got.StartedAt); early < 0 || early.Seconds() > 5 {
		t.Errorf("started at %s, the file says %s", want.StartedAt, got.StartedAt)
	}
	want.StartedAt = got.StartedAt
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(strings.Fields(got.SharedMemoryKey)) != 2 {
		t.Errorf("shared memory key %q", got.SharedMemoryKey)
	}
}

func FuzzParseControlDataTakesAnyText(f *testing.F) {
	f.Add(controlSample)
	f.Add("WARNING: x")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseControlData(text); err == nil && c.State == "" {
			t.Fatalf("%+v", c)
		}
	})
}

func FuzzParsePostmasterPIDTakesAnyText(f *testing.F) {
	f.Add("4711\n/srv/pg\n1795308569\n5432\n/run/postgresql\n127.0.0.1\n  5432001         4\nready   \n")
	f.Add("-1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParsePostmasterPID(text); err == nil && p.PID <= 0 {
			t.Fatalf("%+v", p)
		}
	})
}
