package wal

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestPostgreSQLArchivesABacklog(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d := newDaemon(t, s, newRepository(t, s.systemID(t)), Nobody)
	s.start(t, d.archiving(t)...)
	s.switches(t, 200)
	waitFor(t, "PostgreSQL to have asked", func() bool { return strings.Contains(s.log(), "no part in the cluster") })
	if n := d.stored(t); n != 0 {
		t.Errorf("a node without a part has archived %d segments", n)
	}
	if b := d.State(); b.Backlog < 200 || b.Bytes < 200<<20 || b.Oldest <= 0 {
		t.Errorf("%+v", b)
	}
	d.mood.set(Holder)
	waitFor(t, "the backlog in the repository", func() bool { return d.stored(t) >= 200 })
	s.switches(t, 1) // wakes the archiver, which sleeps for a minute after three failures
	waitFor(t, "PostgreSQL to know", func() bool { return d.State().Backlog == 0 })
	if n := s.sql(t, "SELECT (archived_count >= 201)::text FROM pg_stat_archiver"); n != "true" {
		t.Error("PostgreSQL counts", s.sql(t, "SELECT archived_count::text FROM pg_stat_archiver"))
	}
	s.signal(t, syscall.SIGINT)
}

func TestPostgreSQLGoesOnWithoutRepositoryAndWithoutRamd(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d := newDaemon(t, s, newRepository(t, s.systemID(t)), Holder)
	s.start(t, d.archiving(t)...)
	s.switches(t, 3)
	waitFor(t, "the first segments", func() bool { return d.stored(t) >= 3 })

	if err := os.Rename(d.repo, d.repo+".away"); err != nil {
		t.Fatal(err)
	}
	s.switches(t, 10)
	waitFor(t, "the archiver's complaint", func() bool {
		return strings.Contains(s.log(), "is its file system mounted?") || strings.Contains(s.log(), "ram.json")
	})
	if state := d.State(); state.Error == "" || state.Backlog < 10 {
		t.Errorf("%+v", state)
	}
	if err := os.Rename(d.repo+".away", d.repo); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the backlog to drain by itself", func() bool { return d.stored(t) >= 13 })
	waitFor(t, "the error to be over", func() bool { return d.State().Error == "" })

	d.stop()
	s.switches(t, 3)
	waitFor(t, "the archiver's complaint", func() bool { return strings.Contains(s.log(), "is it running?") })
	d.begin(t, s)
	waitFor(t, "what was missed", func() bool { return d.stored(t) >= 16 })
	s.signal(t, syscall.SIGINT)
}

func TestAStandbyConfirmsWhatItsPrimaryHasArchived(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	repo := newRepository(t, s.systemID(t))
	d := newDaemon(t, s, repo, Holder)
	s.start(t, d.archiving(t)...)
	standby := unmadeServer(t)
	standby.run(t, "pg_basebackup", "-D", standby.data(), "-h", s.dir, "-p", "5432", "-U", "postgres", "-X", "stream", "-c", "fast", "--no-sync", "-R")
	f := newDaemon(t, standby, repo, Follower)
	standby.start(t, append(f.archiving(t), "hot_standby=on")...)
	waitFor(t, "the primary to have nothing left", func() bool { return d.State().Backlog == 0 })
	d.mood.set(Nobody) // it archives nothing for a while
	before := d.stored(t)
	s.switches(t, 2)
	waitFor(t, "the standby to ask", func() bool { return strings.Contains(standby.log(), ErrNotYet.Error()) })
	if n := f.stored(t); n != before {
		t.Errorf("%d segments were archived", n-before)
	}
	waiting := f.State()
	if waiting.Backlog == 0 || waiting.Error != "" {
		t.Errorf("%+v", waiting)
	}
	d.mood.set(Holder)
	waitFor(t, "the primary to archive", func() bool { return d.stored(t) >= before+2 })
	s.switches(t, 1)
	waitFor(t, "the standby to have nothing left", func() bool { return f.State().Backlog == 0 })

	// The standby becomes primary: what it holds alone goes to the repository.
	d.mood.set(Stopping)
	s.signal(t, syscall.SIGINT)
	f.mood.set(Holder)
	standby.sql(t, "SELECT pg_promote()::text")
	standby.switches(t, 2)
	waitFor(t, "the new timeline in the repository", func() bool {
		all := strings.Join(names(t, repo, "wal/"), " ")
		return strings.Contains(all, "00000002.history") && strings.Contains(all, "00000002000000") && f.State().Backlog == 0
	})
	standby.signal(t, syscall.SIGINT)
}

// Shutting down with a backlog that cannot be archived: PostgreSQL's archiver tries three
// times, a second apart, unless the command says that it should end.
func TestStoppingDoesNotWaitForTheArchiver(t *testing.T) {
	t.Parallel()
	took := map[Standing]time.Duration{}
	for _, standing := range []Standing{Nobody, Stopping} {
		s := newServer(t)
		d := newDaemon(t, s, newRepository(t, s.systemID(t)), Nobody)
		s.start(t, d.archiving(t)...)
		s.switches(t, 20)
		waitFor(t, "PostgreSQL to have asked", func() bool { return strings.Contains(s.log(), "no part in the cluster") })
		d.mood.set(standing)
		took[standing] = s.signal(t, syscall.SIGINT)
		if stopped := strings.Contains(s.log(), "archive command failed with exit code 255"); stopped != (standing == Stopping) {
			t.Error("not what the archiver saw\n", s.log())
		}
		if !strings.Contains(s.log(), "database system is shut down") {
			t.Error("not a clean shutdown")
		}
	}
	t.Logf("fast shutdown with a backlog: %s with exit code 1, %s with exit code 255", took[Nobody], took[Stopping])
	if took[Stopping] >= took[Nobody] {
		t.Error("exit code 255 has gained nothing")
	}
}

func TestRecoveryFetchesItsWALAhead(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	repo := newRepository(t, s.systemID(t))
	d := newDaemon(t, s, repo, Holder)
	s.start(t, d.archiving(t)...)
	copied := unmadeServer(t)
	copied.run(t, "pg_basebackup", "-D", copied.data(), "-h", s.dir, "-p", "5432", "-U", "postgres", "-X", "none", "-c", "fast", "--no-sync", "--no-manifest")
	s.sql(t, "CREATE TABLE t AS SELECT 0 AS n WHERE false")
	for range 25 {
		s.sql(t, "INSERT INTO t SELECT count(*) FROM t RETURNING n::text")
		s.sql(t, "SELECT pg_switch_wal()::text")
	}
	waitFor(t, "everything in the repository", func() bool { return d.State().Backlog == 0 && d.stored(t) >= 25 })
	s.signal(t, syscall.SIGINT)

	f := newDaemon(t, copied, repo, Nobody)
	if err := os.WriteFile(filepath.Join(copied.data(), "recovery.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	copied.account.own(t, copied.data())
	copied.start(t, "restore_command="+RecoveryCommand(program(t), f.socket), "recovery_target_action=promote")
	waitFor(t, "the end of recovery", func() bool { return copied.sql(t, "SELECT pg_is_in_recovery()::text") == "false" })
	if n := copied.sql(t, "SELECT count(*)::text FROM t"); n != "25" {
		t.Errorf("%s rows of 25", n)
	}
	if ahead := f.served(); ahead < 10 {
		t.Errorf("only %d segments were there before PostgreSQL asked", ahead)
	}
	copied.signal(t, syscall.SIGINT)
}

func TestRecoveryDoesNotTakeAnUnreachableArchiveForItsEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	repo := newRepository(t, s.systemID(t))
	d := newDaemon(t, s, repo, Holder)
	s.start(t, d.archiving(t)...)
	copied := unmadeServer(t)
	copied.run(t, "pg_basebackup", "-D", copied.data(), "-h", s.dir, "-p", "5432", "-U", "postgres", "-X", "none", "-c", "fast", "--no-sync", "--no-manifest")
	s.sql(t, "CREATE TABLE t AS SELECT 1 AS n")
	s.switches(t, 3)
	waitFor(t, "everything in the repository", func() bool { return d.State().Backlog == 0 })
	s.signal(t, syscall.SIGINT)

	f := newDaemon(t, copied, repo, Nobody)
	if err := os.Rename(repo, repo+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied.data(), "recovery.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	copied.account.own(t, copied.data())
	restore := "restore_command=" + RecoveryCommand(program(t), f.socket)
	copied.launch(t, restore)
	time.Sleep(time.Second)
	select {
	case err := <-copied.exited:
		copied.cmd = nil
		t.Fatal("recovery has ended", err)
	default:
	}
	// It can be stopped while it waits, and goes on afterwards.
	if took := copied.signal(t, syscall.SIGINT); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
	copied.launch(t, restore)
	time.Sleep(300 * time.Millisecond)
	f.stop() // and without ramd it waits as well
	time.Sleep(time.Second)
	if err := os.Rename(repo+".away", repo); err != nil {
		t.Fatal(err)
	}
	f.begin(t, copied)
	waitFor(t, "recovery's own end", func() bool { return strings.Contains(copied.log(), "archive recovery complete") })
	if strings.Contains(copied.log(), "FATAL:  could not restore") {
		t.Error(copied.log())
	}
	if _, err := os.Stat(filepath.Join(copied.data(), "recovery.signal")); !errors.Is(err, os.ErrNotExist) {
		t.Error("recovery has not ended:", err)
	}
	copied.signal(t, syscall.SIGINT)
}

func TestKilledServiceLosesNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	d := &daemon{home: place(t), repo: newRepository(t, s.systemID(t))}
	d.socket = filepath.Join(d.home, "sock")
	s.start(t, d.archiving(t)...)
	killed := 0
	for range 4 {
		kill := serveApart(t, s, d)
		s.switches(t, 22)
		waitFor(t, "some more segments", func() bool { return d.stored(t) >= killed+3 })
		kill()
		killed = d.stored(t)
		t.Logf("%d segments archived when it was killed", killed)
	}
	s.switches(t, 2)
	d.mood.set(Holder)
	d.begin(t, s)
	waitFor(t, "everything in the repository", func() bool { return d.stored(t) >= 90 })
	for _, name := range names(t, d.repo, "wal/") { // each is whole
		if err := d.Fetch(t.Context(), name, filepath.Join(d.home, "fetched")); err != nil {
			t.Error(err)
		}
	}
	s.switches(t, 1)
	waitFor(t, "PostgreSQL to know", func() bool { return d.State().Backlog == 0 })
	s.signal(t, syscall.SIGINT)
}

// serveApart serves a server as its holder from a process of its own, until kill.
func serveApart(t *testing.T, s *server, d *daemon) (kill func()) {
	t.Helper()
	cmd := exec.Command(program(t), "serve", d.home, d.repo, s.wal(), strconv.Itoa(s.account.uid))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return kill
}
