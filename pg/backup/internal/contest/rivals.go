package contest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// PgBackRest runs it on one server and one repository, with nothing of its own outside of
// their directories: no configuration file, no log.
type PgBackRest struct{ Server *Server }

// FindPgBackRest says so when it is not installed; then it is not among the contestants.
func FindPgBackRest(b *testing.B) bool {
	b.Helper()
	if _, err := exec.LookPath("pgbackrest"); err == nil {
		return true
	}
	// What a benchmark skips is not shown.
	fmt.Fprintln(os.Stderr, "pgbackrest is not installed: apt-get install pgbackrest")
	return false
}

// Command is one of its commands on the repository in a directory.
func (p PgBackRest) Command(b *testing.B, dir, command string, args ...string) *exec.Cmd {
	b.Helper()
	return As(b, "pgbackrest", append(p.Args(dir), append(args, command)...)...)
}

// Args are what every command needs that has the server's data directory.
func (p PgBackRest) Args(dir string) []string {
	return append(p.here(dir), "--pg1-path="+p.Server.Data())
}

func (p PgBackRest) here(dir string) []string {
	return []string{
		"--no-config", "--stanza=bench", "--repo1-path=" + filepath.Join(dir, "repo"), "--lock-path=" + filepath.Join(dir, "lock"),
		"--log-level-file=off", "--log-level-console=warn",
	}
}

// Prepare makes a repository, without asking the server.
func (p PgBackRest) Prepare(b *testing.B, dir string) {
	b.Helper()
	Must(b, p.Command(b, dir, "stanza-create", "--no-online"))
}

// Backup is a full backup, with two processes as all that it does. WAL is left to the
// archive, of which it has none here.
func (p PgBackRest) Backup(b *testing.B, dir string, args ...string) *exec.Cmd {
	b.Helper()
	return p.Command(b, dir, "backup", append(args, "--pg1-socket-path="+p.Server.Dir, "--pg1-user=postgres", "--process-max=2", "--compress-type=zst",
		"--start-fast", "--no-archive-check", "--type=full", "--no-expire-auto", "--repo1-retention-full=9")...)
}

// Restore is that of the only backup into a new directory.
func (p PgBackRest) Restore(b *testing.B, dir, into string) *exec.Cmd {
	b.Helper()
	return As(b, "pgbackrest", append(p.here(dir), "--pg1-path="+into, "--process-max=2", "--type=none", "restore")...)
}

// PgBaseBackup is pg_basebackup as tar files.
func PgBaseBackup(b *testing.B, s *Server, into, compress string) *exec.Cmd {
	b.Helper()
	return Program(b, "pg_basebackup", "-h", s.Dir, "-U", "postgres", "-Ft", "-X", "fetch", "-c", "fast", "-D", into, "--compress="+compress)
}
