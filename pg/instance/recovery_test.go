package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ramhq/ram/pg"
)

// world is a server with an archive, a base backup of it, and what happened after.
type world struct {
	*node
	archive string
	backup  string
}

// newWorld is a primary that archives into a plain directory.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp(scratch(), "ram-archive")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{archive: filepath.Join(dir, "archive"), backup: filepath.Join(dir, "backup")}
	w.node = newPrimary(t, "archive_mode = on", "archive_command = 'cp %p "+w.archive+"/%f'", "max_wal_senders = 10")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{w.archive, w.backup} {
		if err := w.user.makeDir(path); err != nil {
			t.Fatal(err)
		}
	}
	w.start(t)
	if err := w.EnsureReplicationRole(t.Context(), replicator, replicating); err != nil {
		t.Fatal(err)
	}
	return w
}

// backUp takes a base backup with the WAL that it needs.
func (w *world) backUp(t *testing.T, args ...string) {
	t.Helper()
	conninfo := pg.Conninfo{"host": "127.0.0.1", "port": strconv.Itoa(w.cfg.Port), "user": replicator}
	err := w.run(t.Context(), child{
		program: "pg_basebackup", env: []string{"PGPASSWORD=" + replicating},
		args: append([]string{"-D", w.backup, "-d", conninfo.String(), "--no-password", "--wal-method=fetch", "--checkpoint=fast", "--no-sync"}, args...),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fetch copies the backup as a restore would.
func (w *world) fetch(ctx context.Context, dir string, uid, gid int) error {
	return copyBackup(w.backup)(ctx, dir, uid, gid)
}

func copyBackup(from string) func(context.Context, string, int, int) error {
	return func(_ context.Context, dir string, _, _ int) error {
		out, err := exec.Command("cp", "-a", from+"/.", dir).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

func (w *world) restoreCommand() string { return "cp " + w.archive + "/%f %p" }

// restoreOptions are those of generation 2 from the world's backup.
func (w *world) restoreOptions(target Target) RestoreOptions {
	return RestoreOptions{
		Generation: 2, Fetch: w.fetch, Files: files(),
		RecoveryOptions: RecoveryOptions{Target: target, RestoreCommand: w.restoreCommand()},
	}
}

// archived waits until all WAL is in the archive.
func (w *world) archived(t *testing.T) {
	t.Helper()
	segment := w.sql(t, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	w.sql(t, "SELECT pg_switch_wal()")
	waitFor(t, "the archive", func() bool {
		_, err := os.Stat(filepath.Join(w.archive, segment))
		return err == nil
	})
}

// at is the server's clock, with a distance to what came before and comes after.
func (w *world) at(t *testing.T) time.Time {
	t.Helper()
	time.Sleep(2 * time.Millisecond)
	text := w.sql(t, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')")
	at, err := time.Parse(timeLayout, text)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond)
	return at
}

func (w *world) lsn(t *testing.T, statement string) pg.LSN {
	t.Helper()
	at, err := pg.ParseLSN(w.sql(t, "SELECT ("+statement+")::text"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// rows are what a restored server has of the table, in order.
func rows(t *testing.T, n *node) string {
	t.Helper()
	return n.sql(t, "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM public.t")
}

func TestRestoreEndsExactlyAtItsTarget(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "CREATE TABLE public.t (n int)")
	early := w.at(t)
	w.backUp(t)
	ended := w.at(t)
	w.sql(t, "INSERT INTO public.t VALUES (1)")
	between := w.at(t)
	w.sql(t, "INSERT INTO public.t VALUES (2)")
	second := w.lsn(t, "pg_current_wal_insert_lsn()")
	point := w.lsn(t, "pg_create_restore_point('before the third')")
	w.sql(t, "INSERT INTO public.t VALUES (3)")
	before := w.at(t)
	w.archived(t)
	end := w.lsn(t, "pg_current_wal_lsn()")

	for name, test := range map[string]struct {
		target Target
		rows   string
		// from and to bound where recovery ends.
		from, to pg.LSN
	}{
		"latest":                          {Target{}, "1 2 3", second, end},
		"time between two transactions":   {Target{Kind: TargetTime, Time: between}, "1", 0, second},
		"LSN, inclusive":                  {Target{Kind: TargetLSN, LSN: second, Inclusive: true}, "1 2", second, point},
		"LSN":                             {Target{Kind: TargetLSN, LSN: second}, "1 2", second, second},
		"restore point":                   {Target{Kind: TargetName, Name: "before the third"}, "1 2", point, point},
		"end of the backup":               {Target{Kind: TargetImmediate}, "", 0, second},
		"LSN on a timeline that is named": {Target{Kind: TargetLSN, LSN: second, Timeline: 1}, "1 2", second, second},
	} {
		t.Run(name, func(t *testing.T) {
			b := newNode(t, "b")
			o := w.restoreOptions(test.target)
			if test.target.Kind == TargetImmediate {
				o.RestoreCommand = "" // needs no archive
			}
			var phases []string
			o.Progress = func(p RecoveryProgress) {
				if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
					phases = append(phases, p.Phase)
				}
			}
			done, err := b.Restore(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if done.Timeline != 2 || done.LSN < test.from || done.LSN > test.to {
				t.Errorf("recovered to %s on timeline %d, want %s to %s on 2", done.LSN, done.Timeline, test.from, test.to)
			}
			if (test.rows == "") != done.Time.IsZero() || done.Time.After(before) || !done.Time.IsZero() && done.Time.Before(early) {
				t.Errorf("the last commit is of %s", done.Time)
			}
			if diff := cmp.Diff([]string{PhaseFetch, PhaseRecover, PhaseFlush}, phases); diff != "" {
				t.Error(diff)
			}
			made := inspect(t, b)
			want := pg.DataDirectory{State: pg.DirCluster, Version: b.cfg.Major, SystemID: inspect(t, w.node).SystemID, Timeline: 2, ControlState: "shut down", Generation: 2}
			if diff := cmp.Diff(want, made, cmpopts.IgnoreFields(pg.DataDirectory{}, "Checkpoint", "Least")); diff != "" {
				t.Error(diff)
			}
			if got, err := b.ReadConfig(); err != nil || got != o.Files {
				t.Errorf("configuration: %v: %s", err, cmp.Diff(o.Files, got))
			}
			noLeftovers(t, b)
			again, err := b.Restore(t.Context(), RestoreOptions{Generation: 2})
			if diff := cmp.Diff(done, again); diff != "" || err != nil {
				t.Errorf("the same again: %v %s", err, diff)
			}
			b.start(t)
			if got := rows(t, b); got != test.rows {
				t.Errorf("it has rows %q, want %q", got, test.rows)
			}
		})
	}

	t.Run("target that is not in the archive", func(t *testing.T) {
		for name, target := range map[string]Target{
			"time":          {Kind: TargetTime, Time: before.Add(time.Hour)},
			"LSN":           {Kind: TargetLSN, LSN: end + 1<<30},
			"restore point": {Kind: TargetName, Name: "never made"},
		} {
			t.Run(name, func(t *testing.T) {
				b := newNode(t, "b")
				_, err := b.Restore(t.Context(), w.restoreOptions(target))
				wantError(t, err, ErrTarget, target.String(), "the last commit replayed is of "+before.Format("2006-01-02"), "choose an earlier target")
				var missed *TargetError
				if !errors.As(err, &missed) || missed.Early || missed.Reached.LSN < second || missed.Reached.Time.After(before) || missed.Reached.Time.Before(between) {
					t.Errorf("it says %+v", missed)
				}
				absent(t, b)
			})
		}
	})
	t.Run("target before the end of the backup", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{Kind: TargetTime, Time: early})
		o.BackupEnded = ended
		_, err := b.Restore(t.Context(), o)
		wantError(t, err, ErrTarget, "before the end of the backup", "earlier backup")
		absent(t, b)
		_, err = b.Restore(t.Context(), w.restoreOptions(Target{Kind: TargetLSN, LSN: 1 << 20}))
		wantError(t, err, ErrTarget, "before the end of the backup", "earlier backup")
		absent(t, b)
	})
	t.Run("recovery that ends before what is asked for at least", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{})
		o.AtLeast = end + 1<<30
		_, err := b.Restore(t.Context(), o)
		wantError(t, err, ErrTarget, "before "+o.AtLeast.String())
		absent(t, b)
	})
	t.Run("archive that fails rather than lacks a file", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{})
		o.RestoreCommand = "exit 200"
		_, err := b.Restore(t.Context(), o)
		wantError(t, err, nil, "could not restore file", "exit code 200")
		absent(t, b)
	})
	t.Run("new timeline is not below the least", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{Kind: TargetName, Name: "before the third"})
		o.MinTimeline = 5
		done, err := b.Restore(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if done.Timeline != 5 || done.LSN != point || inspect(t, b).Timeline != 5 {
			t.Errorf("recovered to %s on timeline %d", done.LSN, done.Timeline)
		}
		b.start(t)
		if got := rows(t, b); got != "1 2" {
			t.Errorf("it has rows %q", got)
		}
		t.Run("and a standby follows it", func(t *testing.T) {
			if err := b.CreateSlot(t.Context(), "ram_b"); err != nil {
				t.Fatal(err)
			}
			c := newNode(t, "c").clone(t, b).start(t)
			waitFor(t, "streaming", func() bool { return probe(t, c).Receiver.Streaming() })
		})
	})
	t.Run("as a standby it is left to the server to recover", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{})
		o.Standby, o.Files = true, standbyFiles(w.node, "")
		o.Files.Managed += "restore_command = '" + w.restoreCommand() + "'\n"
		if _, err := b.Restore(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if made := inspect(t, b); !made.Standby || !made.BackupLabel || made.Generation != 2 {
			t.Errorf("made %+v", made)
		}
		noLeftovers(t, b)
		b.start(t)
		waitFor(t, "streaming", func() bool { return probe(t, b).Receiver.Streaming() })
		waitFor(t, "all rows", func() bool { return rows(t, b) == "1 2 3" })
	})
}

// absent makes sure that a failed restore has left nothing.
func absent(t *testing.T, n *node) {
	t.Helper()
	if got := inspect(t, n).State; got != pg.DirAbsent {
		t.Errorf("the data directory is %s", got)
	}
	beside, _ := filepath.Glob(n.DataDir() + "*")
	if len(beside) != 0 {
		t.Errorf("left: %v", beside)
	}
	if got := processes(t, n); got != 0 {
		t.Errorf("%d processes", got)
	}
}

func TestRestoreRefusals(t *testing.T) {
	w := newWorld(t)
	w.backUp(t)
	id := inspect(t, w.node).SystemID
	t.Run("backup of another cluster", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{})
		o.SystemID = id + 1
		_, err := b.Restore(t.Context(), o)
		wantError(t, err, ErrWrongSystem, "the backup", id.String())
		absent(t, b)
	})
	t.Run("data directory of another cluster", func(t *testing.T) {
		b := newNode(t, "b")
		if err := b.Init(t.Context(), InitOptions{Generation: 5, Files: files()}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []pg.SystemID{0, id} {
			o := w.restoreOptions(Target{})
			o.SystemID = want
			_, err := b.Restore(t.Context(), o)
			wantError(t, err, ErrWrongSystem)
			if got := inspect(t, b); got.Generation != 5 || b.HasAside() {
				t.Errorf("generation %d is in place", got.Generation)
			}
		}
	})
	t.Run("server that runs", func(t *testing.T) {
		o := w.restoreOptions(Target{})
		o.Generation = 9
		_, err := w.Restore(t.Context(), o)
		wantError(t, err, ErrRunning, "stop it first")
	})
	t.Run("target that makes no sense", func(t *testing.T) {
		for _, target := range []Target{{Kind: "yesterday"}, {Kind: TargetTime}, {Kind: TargetLSN}, {Kind: TargetName}, {Kind: TargetName, Name: strings.Repeat("x", 64)}} {
			_, err := newNode(t, "b").Restore(t.Context(), w.restoreOptions(target))
			wantError(t, err, nil)
		}
	})
	t.Run("backup of another major version", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{})
		o.Fetch = func(ctx context.Context, dir string, uid, gid int) error {
			if err := w.fetch(ctx, dir, uid, gid); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("99\n"), 0o600)
		}
		_, err := b.Restore(t.Context(), o)
		wantError(t, err, nil, "the backup is of PostgreSQL 99", "this node has")
		absent(t, b)
	})
	t.Run("directory without a backup label", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{})
		o.Fetch = func(ctx context.Context, dir string, uid, gid int) error {
			if err := w.fetch(ctx, dir, uid, gid); err != nil {
				return err
			}
			return os.Remove(filepath.Join(dir, "backup_label"))
		}
		_, err := b.Restore(t.Context(), o)
		wantError(t, err, nil, "no backup_label")
		absent(t, b)
	})
	t.Run("fetch that fails", func(t *testing.T) {
		b := newNode(t, "b")
		o := w.restoreOptions(Target{})
		broken := errors.New("part 3 is damaged")
		o.Fetch = func(context.Context, string, int, int) error { return broken }
		_, err := b.Restore(t.Context(), o)
		wantError(t, err, broken)
		absent(t, b)
	})
	t.Run("cancelled while it waits for the archive", func(t *testing.T) {
		b := newNode(t, "b")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o := w.restoreOptions(Target{})
		waiting := filepath.Join(w.archive, "waiting")
		o.RestoreCommand = "echo $$ > " + waiting + "; exec sleep 60"
		time.AfterFunc(50*time.Millisecond, func() {
			for ; ; time.Sleep(5 * time.Millisecond) {
				if text, err := os.ReadFile(waiting); err == nil && len(text) > 1 {
					cancel()
					return
				}
			}
		})
		_, err := b.Restore(ctx, o)
		wantError(t, err, context.Canceled)
		absent(t, b)
		text, _ := os.ReadFile(waiting)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		waitFor(t, "the restore_command to end", func() bool { return syscall.Kill(pid, 0) != nil })
	})
}

func TestRestoreKeepsWhatItReplaces(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "CREATE TABLE public.t AS SELECT 1 AS n")
	w.backUp(t)
	w.sql(t, "DELETE FROM public.t")
	w.archived(t)
	w.stop(t)
	o := w.restoreOptions(Target{Kind: TargetImmediate})
	o.SystemID = inspect(t, w.node).SystemID
	if _, err := w.Restore(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if !hasGeneration(w.DataDir()+".ram-aside-1", 1) || !hasGeneration(w.DataDir(), 2) {
		t.Error("the old directory is not aside, or the new one not in place")
	}
	w.start(t)
	if got := rows(t, w.node); got != "1" {
		t.Errorf("rows %q", got)
	}
}
