package instance

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

// noScratch makes sure that a verification has left nothing.
func noScratch(t *testing.T, n *node) {
	t.Helper()
	beside, _ := filepath.Glob(n.DataDir() + ".*")
	sockets, _ := filepath.Glob(filepath.Join(n.SocketDir(), ".s.PGSQL.2*"))
	if len(beside) != 0 || len(sockets) != 0 {
		t.Errorf("left: %v %v", beside, sockets)
	}
	noPrivateServer(t, n.DataDir()+".ram-verify/data")
}

func TestVerifyLooksAtEveryPageAndIndexBesideARunningServer(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "CREATE TABLE public.t AS SELECT n, 'row ' || n AS s FROM generate_series(1, 5000) n")
	w.sql(t, "CREATE INDEX t_lower ON public.t (lower(s))")
	w.sql(t, "CREATE DATABASE \"with space\"")
	w.backUp(t)
	w.sql(t, "INSERT INTO public.t VALUES (0)")
	w.archived(t)
	id := inspect(t, w.node).SystemID

	var phases []string
	o := VerifyOptions{Fetch: w.fetch, SystemID: id}
	o.Progress = func(p RecoveryProgress) {
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
	}
	got, err := w.Verify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := Checked{Checksums: true, Databases: 3}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Checked{}, "Recovered", "Pages", "Files", "Indexes")); diff != "" {
		t.Error(diff)
	}
	if got.Timeline != 2 || got.LSN == 0 || got.Pages < 2000 || got.Files < 500 || got.Indexes < 300 {
		t.Errorf("checked %+v", got)
	}
	if diff := cmp.Diff([]string{PhaseFetch, PhaseRecover, PhasePages, PhaseIndexes}, phases); diff != "" {
		t.Error(diff)
	}
	noScratch(t, w.node)

	t.Run("and further on with an archive", func(t *testing.T) {
		o := VerifyOptions{Fetch: w.fetch, SkipIndexes: true, RecoveryOptions: RecoveryOptions{
			Target: Target{Kind: TargetLatest}, RestoreCommand: w.restoreCommand(),
		}}
		further, err := w.Verify(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if further.LSN <= got.LSN || further.Time.IsZero() || further.Indexes != 0 {
			t.Errorf("checked %+v", further)
		}
	})
	t.Run("backup of another cluster", func(t *testing.T) {
		_, err := w.Verify(t.Context(), VerifyOptions{Fetch: w.fetch, SystemID: id + 1})
		wantError(t, err, ErrWrongSystem)
		noScratch(t, w.node)
	})
	t.Run("cancelled", func(t *testing.T) {
		for _, phase := range []string{PhaseFetch, PhaseRecover, PhasePages, PhaseIndexes} {
			t.Run(phase, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				o := VerifyOptions{SystemID: id}
				o.Fetch = func(ctx context.Context, dir string, uid, gid int) error {
					return errors.Join(w.fetch(ctx, dir, uid, gid), ctx.Err())
				}
				o.Progress = func(p RecoveryProgress) {
					if p.Phase == phase {
						cancel()
					}
				}
				_, err := w.Verify(ctx, o)
				wantError(t, err, context.Canceled)
				noScratch(t, w.node)
			})
		}
	})
	t.Run("only one at a time", func(t *testing.T) {
		o := VerifyOptions{Fetch: func(ctx context.Context, _ string, _, _ int) error {
			_, err := w.Verify(ctx, VerifyOptions{Fetch: w.fetch})
			if removeErr := w.RemoveScratch(ctx, ""); removeErr != nil {
				t.Error(removeErr)
			}
			return err
		}}
		_, err := w.Verify(t.Context(), o)
		wantError(t, err, ErrScratchBusy, "wait for it or cancel it")
		noScratch(t, w.node)
	})
	t.Run("what is in the way stays", func(t *testing.T) {
		dir := filepath.Join(w.dir, "precious")
		if err := os.MkdirAll(filepath.Join(dir, "photos"), 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := w.Verify(t.Context(), VerifyOptions{Fetch: w.fetch, Dir: dir})
		wantError(t, err, nil, "is in the way", "move it away")
		wantError(t, w.RemoveScratch(t.Context(), dir), nil, "is in the way")
		if _, err := os.Stat(filepath.Join(dir, "photos")); err != nil {
			t.Error(err)
		}
	})
	t.Run("tablespace outside the scratch directory", func(t *testing.T) {
		o := VerifyOptions{Fetch: func(ctx context.Context, dir string, uid, gid int) error {
			return errors.Join(w.fetch(ctx, dir, uid, gid), os.Symlink(w.dir, filepath.Join(dir, "pg_tblspc", "16400")))
		}}
		_, err := w.Verify(t.Context(), o)
		wantError(t, err, nil, "tablespace 16400", "outside", "nothing was started")
		noScratch(t, w.node)
	})
	if got := probe(t, w.node); got.Recovery {
		t.Error("the own server was touched")
	}
}

func TestVerifyNamesDamagedPages(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "CREATE TABLE public.t AS SELECT n FROM generate_series(1, 5000) n")
	file := w.sql(t, "SELECT pg_relation_filepath('public.t')")
	w.backUp(t)
	flip(t, filepath.Join(w.backup, file), 3*8192+4000)
	flip(t, filepath.Join(w.backup, file), 7*8192+4000)
	b := newNode(t, "b")
	checked, err := b.Verify(t.Context(), VerifyOptions{Fetch: w.fetch})
	wantError(t, err, ErrCorrupt, "2 pages", file+" block 3, "+file+" block 7")
	if checked.LSN == 0 || checked.Timeline != 2 {
		t.Errorf("it does not say how far it came: %+v", checked)
	}
	noScratch(t, b)
}

// flip changes one byte of a file.
func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyNamesDamagedIndexes(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "CREATE TABLE public.t AS SELECT n FROM generate_series(1, 5000) n")
	w.sql(t, "CREATE INDEX damaged ON public.t (n)")
	// The catalog says that the function gives n, and it does so no more: entries
	// of the index do not fit the table. No page has a wrong checksum.
	w.sql(t, "CREATE FUNCTION public.f(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n'")
	w.sql(t, "CREATE INDEX outdated ON public.t (public.f(n))")
	w.sql(t, "CREATE OR REPLACE FUNCTION public.f(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT -n'")
	w.backUp(t)
	b := newNode(t, "b")
	checked, err := b.Verify(t.Context(), VerifyOptions{Fetch: w.fetch})
	wantError(t, err, ErrCorrupt, "1 indexes", "database postgres, index public.outdated", "lacks matching index tuple")
	if checked.Pages == 0 || checked.Indexes == 0 {
		t.Errorf("checked %+v", checked)
	}
	noScratch(t, b)
}

func TestVerifyWithoutChecksumsSaysSo(t *testing.T) {
	w := newWorld(t)
	w.stop(t)
	if err := w.run(t.Context(), child{program: "pg_checksums", args: []string{"--disable", "--no-sync", "-D", w.DataDir()}}); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	w.backUp(t)
	var said strings.Builder
	b := newNode(t, "b", func(c *Config) { c.Logger = zerolog.New(&said) })
	checked, err := b.Verify(t.Context(), VerifyOptions{Fetch: w.fetch, SkipIndexes: true})
	if err != nil || checked.Checksums || checked.Pages != 0 {
		t.Errorf("%+v, %v", checked, err)
	}
	if !strings.Contains(said.String(), "data checksums are off") {
		t.Errorf("it says %q", said.String())
	}
}

func TestKilledVerificationIsClearedAway(t *testing.T) {
	w := newWorld(t)
	w.backUp(t)
	for _, step := range []string{"scratch directory locked", "verifying", "fetched", "promoted", "recovered"} {
		t.Run(step, func(t *testing.T) {
			b := newNode(t, "b")
			dieAt(t, errand{Config: b.plain(), Verify: &VerifyOptions{}, Backup: w.backup, DieAt: step})
			if step == "fetched" {
				if _, err := b.Verify(t.Context(), VerifyOptions{Fetch: w.fetch, SkipIndexes: true}); err != nil {
					t.Error(err)
				}
			} else if err := b.RemoveScratch(t.Context(), ""); err != nil {
				t.Error(err)
			}
			noScratch(t, b)
		})
	}
	t.Run("while it replays", func(t *testing.T) {
		b := newNode(t, "b")
		slow := &VerifyOptions{RecoveryOptions: RecoveryOptions{Target: Target{Kind: TargetLatest}, RestoreCommand: "sleep 60"}}
		cmd := ramd(t, errand{Config: b.plain(), Verify: slow, Backup: w.backup})
		data := b.DataDir() + ".ram-verify/data"
		waitFor(t, "the recovery", func() bool {
			found, err := guard.Processes(data)
			return err == nil && len(found) >= 2
		})
		if err := b.RemoveScratch(t.Context(), ""); err != nil {
			t.Error(err)
		}
		if found, _ := guard.Processes(data); len(found) == 0 {
			t.Error("a verification that is under way was removed")
		}
		kill(t, cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if err := b.RemoveScratch(t.Context(), ""); err != nil {
			t.Error(err)
		}
		noScratch(t, b)
	})
}

func TestPrivateServerIsReachedByNobody(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "ALTER SYSTEM SET listen_addresses = '127.0.0.1'")
	w.sql(t, "ALTER SYSTEM SET archive_command = 'touch "+w.archive+"/mine'")
	w.backUp(t)
	w.stop(t)
	b := newNode(t, "b")
	seen := 0
	o := VerifyOptions{Fetch: w.fetch}
	o.Progress = func(p RecoveryProgress) {
		if p.Phase != PhaseIndexes || p.Total == 0 || seen > 0 {
			return
		}
		seen++
		text, err := os.ReadFile(b.DataDir() + ".ram-verify/data/postmaster.pid")
		if err != nil {
			t.Error(err)
		}
		file, err := pg.ParsePostmasterPID(string(text))
		if err != nil || file.ListenAddr != "" || file.SocketDir != b.SocketDir() {
			t.Errorf("%+v %v", file, err)
		}
	}
	if _, err := b.Verify(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(w.archive, "mine")); err == nil {
		t.Error("the private server has archived")
	}
	if seen == 0 {
		t.Error("the server was not looked at")
	}
}
