package instance

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ramhq/ram/pg"
)

func TestRestoreFollowsTheTimelineThatItIsTold(t *testing.T) {
	w := newWorld(t)
	w.sql(t, "CREATE TABLE public.t (n int)")
	w.backUp(t)
	w.sql(t, "INSERT INTO public.t VALUES (1)")
	fork := w.lsn(t, "pg_create_restore_point('fork')")
	w.sql(t, "INSERT INTO public.t VALUES (2)")
	w.archived(t)
	w.stop(t)

	// A second timeline begins at the restore point, and goes into the same archive.
	b := &world{node: newNode(t, "b"), archive: w.archive, backup: w.backup}
	o := w.restoreOptions(Target{Kind: TargetName, Name: "fork"})
	o.Files = files("archive_mode = on", "archive_command = 'cp %p "+w.archive+"/%f'")
	if _, err := b.Restore(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	b.sql(t, "INSERT INTO public.t VALUES (3)")
	b.archived(t)
	b.stop(t)

	for name, test := range map[string]struct {
		target Target
		rows   string
		from   pg.LSN
	}{
		"latest":           {Target{}, "1 3", fork},
		"the first":        {Target{Timeline: 1}, "1 2", fork},
		"the second":       {Target{Timeline: 2}, "1 3", fork},
		"that of a backup": {Target{Kind: TargetImmediate}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := newNode(t, "c")
			done, err := c.Restore(t.Context(), w.restoreOptions(test.target))
			if err != nil {
				t.Fatal(err)
			}
			// Its number is that of no timeline in the archive.
			if done.Timeline != 3 || done.LSN < test.from {
				t.Errorf("recovered to %s on timeline %d", done.LSN, done.Timeline)
			}
			c.start(t)
			if got := rows(t, c); got != test.rows {
				t.Errorf("rows %q, want %q", got, test.rows)
			}
		})
	}
	t.Run("with a number that leaves others out", func(t *testing.T) {
		c := &world{node: newNode(t, "c"), archive: w.archive, backup: w.backup}
		o := w.restoreOptions(Target{Timeline: 1})
		o.MinTimeline = 6
		o.Files = files("archive_mode = on", "archive_command = 'cp %p "+w.archive+"/%f'")
		if done, err := c.Restore(t.Context(), o); err != nil || done.Timeline != 6 {
			t.Fatalf("recovered to %+v: %v", done, err)
		}
		c.start(t)
		c.sql(t, "INSERT INTO public.t VALUES (4)")
		c.archived(t)
		for name, want := range map[string]bool{"00000003.history": true, "00000004.history": false, "00000005.history": false, "00000006.history": true} {
			_, err := os.Stat(filepath.Join(w.archive, name))
			if (err == nil) != want {
				t.Errorf("%s in the archive: %v", name, err)
			}
		}
		d := newNode(t, "d")
		if _, err := d.Restore(t.Context(), w.restoreOptions(Target{Timeline: 6})); err != nil {
			t.Fatal(err)
		}
		d.start(t)
		if got := rows(t, d); got != "1 2 4" {
			t.Errorf("rows %q", got)
		}
	})
	t.Run("one that is not there", func(t *testing.T) {
		c := newNode(t, "c")
		_, err := c.Restore(t.Context(), w.restoreOptions(Target{Timeline: 7}))
		wantError(t, err, nil, "recovery target timeline 7 does not exist")
		absent(t, c)
	})
}
