package instance

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

func TestKilledRestoreStartsOverOrIsFinished(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "CREATE TABLE public.t AS SELECT 1 AS n")
	w.backUp(t)
	w.sql(t, "INSERT INTO public.t VALUES (2)")
	w.archived(t)
	o := w.restoreOptions(Target{})
	for _, step := range []struct {
		name    string
		inPlace bool
	}{
		{"building", false},
		{"fetched", false},
		{"promoted", false},
		{"recovered", false},
		{"new directory built", false},
		{"new directory complete", true},
		{"new directory in place", true},
	} {
		t.Run(step.name, func(t *testing.T) {
			b := newNode(t, "b")
			dieAt(t, errand{Config: b.plain(), Restore: &o, Backup: w.backup, DieAt: step.name})
			want := pg.DirAbsent
			if step.inPlace {
				want = pg.DirCluster
			}
			if got := inspect(t, b); got.State != want {
				t.Errorf("the next look finds %s, want %s", got.State, want)
			}
			noPrivateServer(t, b.newData())
			done, err := b.Restore(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if done.Timeline != 2 || done.LSN == 0 || done.Time.IsZero() {
				t.Errorf("recovered to %+v", done)
			}
			noLeftovers(t, b)
			b.start(t)
			if got := rows(t, b); got != "1 2" {
				t.Errorf("rows %q", got)
			}
		})
	}
	t.Run("while it replays", func(t *testing.T) {
		b := newNode(t, "b")
		slow := o
		slow.RestoreCommand = "sleep 60"
		cmd := ramd(t, errand{Config: b.plain(), Restore: &slow, Backup: w.backup})
		waitFor(t, "the recovery", func() bool {
			found, err := guard.Processes(b.newData())
			return err == nil && len(found) >= 2
		})
		kill(t, cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if got := inspect(t, b).State; got != pg.DirAbsent {
			t.Errorf("the next look finds %s", got)
		}
		if _, err := b.Restore(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		noLeftovers(t, b)
		noPrivateServer(t, b.DataDir())
	})
}

// noPrivateServer makes sure that no server works in a directory, after the moment
// that it takes one to notice that ramd has died.
func noPrivateServer(t *testing.T, dir string) {
	t.Helper()
	waitFor(t, "the private server to go", func() bool {
		found, err := guard.Processes(dir)
		return err == nil && len(found) == 0
	})
}

// withTablespace gives a world a tablespace, and returns its place.
func (w *world) withTablespace(t *testing.T, name string) string {
	t.Helper()
	place := filepath.Join(filepath.Dir(w.archive), name)
	if err := w.user.makeDir(place); err != nil {
		t.Fatal(err)
	}
	w.sql(t, "CREATE TABLESPACE "+name+" LOCATION '"+place+"'")
	return place
}

func TestTablespaceOfAnotherDirectoryIsNotWrittenTo(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "CREATE TABLE public.t AS SELECT 1 AS n")
	w.backUp(t)
	place := w.withTablespace(t, "later")
	w.sql(t, "CREATE TABLE public.u TABLESPACE later AS SELECT 1")
	w.sql(t, "INSERT INTO public.t VALUES (2)")
	w.archived(t)

	t.Run("a verification does not replay into it", func(t *testing.T) {
		o := VerifyOptions{Fetch: w.fetch, RecoveryOptions: RecoveryOptions{Target: Target{Kind: TargetLatest}, RestoreCommand: w.restoreCommand()}}
		_, err := newNode(t, "b").Verify(t.Context(), o)
		wantError(t, err, nil, "pg_tblspc", "take a backup after it was made")
	})
	t.Run("nor a restore that keeps the old directory", func(t *testing.T) {
		w.stop(t)
		files := listFiles(t, place)
		o := w.restoreOptions(Target{})
		_, err := w.Restore(t.Context(), o)
		wantError(t, err, nil, "pg_tblspc", "take a backup after it was made")
		if got := listFiles(t, place); got != files {
			t.Errorf("its files were %s and are %s", files, got)
		}
		w.start(t)
		if got := w.sql(t, "SELECT count(*) FROM public.u"); got != "1" {
			t.Errorf("the old server has %s rows", got)
		}
	})
}

// listFiles are the paths and times of all files.
func listFiles(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			list.WriteString(path + " " + info.ModTime().Format(time.RFC3339Nano) + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

func TestKilledRestoreDoesNotLeaveItsTablespacesInTheWay(t *testing.T) {
	w := newWorld(t)
	first := w.withTablespace(t, "first")
	w.sql(t, "CREATE TABLE public.t TABLESPACE first AS SELECT 1 AS n")
	second := filepath.Join(filepath.Dir(w.archive), "second")
	if err := w.user.makeDir(second); err != nil {
		t.Fatal(err)
	}
	w.backUp(t, "--tablespace-mapping="+first+"="+second)
	oid := w.sql(t, "SELECT oid::text FROM pg_tablespace WHERE spcname = 'first'")

	// What a restore had made when it was killed.
	b := newNode(t, "b")
	o := w.restoreOptions(Target{Kind: TargetImmediate})
	dieAt(t, errand{Config: b.plain(), Restore: &o, Backup: w.backup, DieAt: "fetched"})
	place := filepath.Join(b.dir, "tablespace")
	if err := b.user.makeDir(place); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(b.newData(), "pg_tblspc", oid)
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(place, link); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(place, "PG_15_202209061", "5")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(place, "keep")
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Restore(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("what the killed restore left is still there")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error("what is not PostgreSQL's was removed")
	}
	b.start(t)
	if got := rows(t, b); got != "1" {
		t.Errorf("rows %q", got)
	}
}
