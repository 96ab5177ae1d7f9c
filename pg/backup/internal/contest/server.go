package contest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Account is whom PostgreSQL runs as: it refuses root. Nil means this process's own.
func Account(b *testing.B) *syscall.Credential {
	b.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		b.Fatal("as root, these benchmarks need the system user postgres")
	}
	uid, _ := strconv.ParseUint(account.Uid, 10, 32)
	gid, _ := strconv.ParseUint(account.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// Program is one of PostgreSQL's, of the newest version, to be run as its user.
func Program(b *testing.B, name string, args ...string) *exec.Cmd {
	b.Helper()
	for major := 18; major >= 15; major-- {
		path := fmt.Sprintf("/usr/lib/postgresql/%d/bin/%s", major, name)
		if _, err := os.Stat(path); err == nil {
			return As(b, path, args...)
		}
	}
	b.Fatal("these benchmarks need PostgreSQL 15 or newer: apt-get install postgresql-15")
	return nil
}

// As is a command that runs as PostgreSQL's user.
func As(b *testing.B, name string, args ...string) *exec.Cmd {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: Account(b)}
	return cmd
}

// Must runs a command to its good end.
func Must(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// Server is a PostgreSQL with pgbench's tables, on a Unix socket in Dir.
type Server struct {
	Dir string
	pid int
}

// StartServer has tables of a scale (15 MB each), and page checksums. Its data are on
// disk. It ends with the benchmark.
func StartServer(b *testing.B, scale int, settings ...string) *Server {
	b.Helper()
	s := &Server{Dir: Place(b)}
	Must(b, Program(b, "initdb", "-D", s.Data(), "-N", "-k", "-U", "postgres", "--locale=C", "--encoding=UTF8", "-A", "trust"))
	options := "-k " + s.Dir + " -c listen_addresses= -c max_wal_size=8GB -c fsync=off"
	for _, setting := range settings {
		options += " -c " + setting
	}
	Must(b, s.control(b, "start", "-l", filepath.Join(s.Dir, "log"), "-o", options))
	b.Cleanup(func() { _ = s.control(b, "stop", "-m", "immediate").Run() })
	text, err := os.ReadFile(filepath.Join(s.Data(), "postmaster.pid"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(string(text), &s.pid); err != nil {
		b.Fatal(err)
	}
	s.Pgbench(b, "-i", "-q", "-s", strconv.Itoa(scale))
	for _, statement := range []string{"CHECKPOINT", "SELECT pg_switch_wal()", "CHECKPOINT"} {
		Must(b, Program(b, "psql", "-h", s.Dir, "-U", "postgres", "-qc", statement, "postgres"))
	}
	Must(b, exec.Command("sync"))
	return s
}

func (s *Server) control(b *testing.B, verb string, args ...string) *exec.Cmd {
	return Program(b, "pg_ctl", append([]string{verb, "-w", "-D", s.Data()}, args...)...)
}

// Stop has all that the server knows on disk.
func (s *Server) Stop(b *testing.B) {
	b.Helper()
	Must(b, s.control(b, "stop", "-m", "fast"))
}

// Pgbench runs it on the server.
func (s *Server) Pgbench(b *testing.B, args ...string) {
	b.Helper()
	Must(b, Program(b, "pgbench", append(args, "-h", s.Dir, "-U", "postgres", "postgres")...))
}

// Data is the data directory.
func (s *Server) Data() string { return filepath.Join(s.Dir, "data") }

// Size is that of the data directory.
func (s *Server) Size(b *testing.B) int64 { return size(b, s.Data()) }

// SystemID is the system identifier in decimal digits.
func (s *Server) SystemID(b *testing.B) string {
	b.Helper()
	out, err := Program(b, "pg_controldata", "-D", s.Data()).Output()
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(out), "Database system identifier:")
	id, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(id)
}

// CPU is what the server and its children that have ended have used.
func (s *Server) CPU(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	var ticks int64
	for _, field := range strings.Fields(rest)[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}
