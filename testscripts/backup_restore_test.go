package testscripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// history is what a cluster has left in its repository.
type history struct {
	backup string // ID
	// inBetween was there at the time target, last at the end of the archive.
	target          string
	inBetween, last map[string]string
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	dir, url := emptyRepository(t)
	var was history
	for _, part := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"of a running cluster", func(t *testing.T) { was = backUpAndRestore(t, url) }},
		{"as a new cluster that only reads the repository", func(t *testing.T) { restoreElsewhere(t, dir, url, was) }},
		{"as a new cluster that goes on in the repository", func(t *testing.T) { restoreInPlace(t, dir, url, was) }},
	} {
		if !t.Run(part.name, part.do) {
			return // the next ones begin with what it left
		}
	}
}

func backUpAndRestore(t *testing.T, url string) (was history) {
	t.Helper()
	c := applied(t, backedUp(threeNodes, repositoryAt(url)))
	home := primaryOf(c)
	fill(c, home, 4)

	c.Part("a backup is taken from a standby while the primary is written to", func(t *testing.T) {
		w := startWriter(t, c, home)
		was.backup = backUp(c)
		if n := w.end(); n == 0 {
			t.Error("nothing was written meanwhile")
		}
		list := backups(c)
		if len(list) != 1 || list[0].ID != was.backup || list[0].Role != "standby" || !strings.HasSuffix(was.backup, "-nightly") {
			t.Fatalf("backups: %+v", list)
		}
		s := c.AwaitConverged()
		if b := s.Backups; b == nil || b.Last == nil || b.Last.ID != was.backup || b.Count != 1 || b.Job != nil || !b.LastProof.IsZero() {
			t.Errorf("status tells %+v", b)
		}
	})
	c.Part("and is proven", func(t *testing.T) {
		c.CtlOK("backup", "verify", was.backup)
		detail := backupOf(c, was.backup)
		if p := detail.Proof; p == nil || !p.OK || p.Pages == 0 || p.LSN < detail.StopLSN {
			t.Errorf("proof %+v of %+v", p, detail)
		}
		if s, _ := c.Status(); s.Backups.LastProof.IsZero() {
			t.Error("status knows nothing of the proof")
		}
		nothingBeside(t, c)
	})
	c.Part("targets that cannot be reached are refused before anything is touched", func(t *testing.T) {
		refusesUnreachable(t, c, was.backup)
	})
	c.Part("the whole cluster goes back to between two transactions", func(t *testing.T) {
		w := startWriter(t, c, home)
		c.CtlOK("backup", "point", "half-way")
		w.end()
		one := mark(t, c, home, "one")
		was.inBetween = c.Contents(home)
		was.target = between(one, mark(t, c, home, "two"))
		w = startWriter(t, c, home)
		archived(c)
		w.end()
		restore(t, c, "--to-time", was.target)
		holds(t, c, was.inBetween)
		if kept := c.Beside(home); len(kept) != 1 || !strings.HasPrefix(kept[0], ".ram-removed-") {
			t.Errorf("beside the data directory there is %q, want the one of before", kept)
		}
	})
	c.Part("and to a point on the new timeline, on another node", func(t *testing.T) {
		fore := primaryOf(c)
		mark(t, c, fore, "three")
		atPoint := c.Contents(fore)
		c.CtlOK("backup", "point", "after-all")
		c.Exec(fore, "DELETE FROM marks WHERE name = 'one'")
		c.Exec(fore, "DELETE FROM accounts")
		to := others(threeNodes.Nodes, fore)[0]
		restore(t, c, "--to-point", "after-all", "--node", to)
		if now := primaryOf(c); now != to {
			t.Errorf("the primary is %s, want %s", now, to)
		}
		holds(t, c, atPoint)
	})
	c.Part("a standby is made anew from the backup and the archive", func(t *testing.T) {
		seq, primary := c.LastEvent(), primaryOf(c)
		node := others(threeNodes.Nodes, primary)[0]
		mark(t, c, primary, "four")
		c.CtlOK("reinit", node, "--from", "backup", "--auto-approve")
		c.CheckHealthy()
		if steps := stepsSince(c, seq); !strings.Contains(steps, "restore/"+node) {
			t.Errorf("steps %s", steps)
		}
		if diff := cmp.Diff(c.Contents(primary), c.Contents(node)); diff != "" {
			t.Errorf("contents (-primary +%s):\n%s", node, diff)
		}
	})
	c.Part("a standby whose WAL the primary has no more catches up from the archive", func(t *testing.T) {
		catchesUpFromArchive(t, c)
	})
	was.last = c.Contents(primaryOf(c))
	archived(c)
	return was
}

func nothingBeside(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, node := range c.Running() {
		if left := c.Beside(node); len(left) > 0 {
			t.Errorf("beside the data directory of node %s there is %q", node, left)
		}
	}
}

func refusesUnreachable(t *testing.T, c *cluster.Cluster, first string) {
	t.Helper()
	seq, before := c.LastEvent(), c.AwaitConverged()
	for _, unreachable := range []struct{ flags, parts []string }{
		{[]string{"--to-time", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, []string{"in the future", "what can be restored is"}},
		{[]string{"--to-time", "2020-01-01T00:00:00Z"}, []string{"no backup leads to 2020-01-01T00:00:00Z", first, "after that"}},
		{[]string{"--to-lsn", "0/28"}, []string{"no backup leads to LSN 0/28", first, "after that"}},
		{[]string{"--to-lsn", "FF/28"}, []string{"LSN FF/28 cannot be reached", "no further"}},
		{[]string{"--to-point", "nobody-wrote"}, []string{"no restore point", "nobody-wrote"}},
		{[]string{"--backup", "20200101T000000Z-nightly"}, []string{"20200101T000000Z-nightly", "ramctrl backup list"}},
		{[]string{"--node", "z"}, []string{`"z"`}},
	} {
		c.CtlFails(unreachable.parts, append([]string{"backup", "restore", "--auto-approve"}, unreachable.flags...)...)
	}
	after := c.AwaitConverged()
	if after.Term != before.Term || after.Timeline != before.Timeline || c.LastEvent() != seq {
		t.Errorf("something was touched: term %d, timeline %d; events %v", after.Term, after.Timeline, c.Since(seq))
	}
}

// stepsSince are the steps that were done in runs since an event, in the words of events.
func stepsSince(c *cluster.Cluster, seq uint64) string {
	var steps []string
	for _, e := range c.Since(seq) {
		steps = append(steps, e.Message)
	}
	for _, r := range c.Runs() {
		for _, s := range r.Steps {
			steps = append(steps, s.ID)
		}
	}
	return strings.Join(steps, "\n")
}

func catchesUpFromArchive(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	primary := primaryOf(c)
	node := others(threeNodes.Nodes, primary)[1]
	c.StopPostgres(node)
	needed := c.Query(primary, "SELECT pg_walfile_name(pg_current_wal_lsn())")[0]
	mark(t, c, primary, "five")
	c.Until("the primary has removed "+needed, cluster.Patience, func() bool {
		mark(t, c, primary, "")
		c.Query(primary, "SELECT pg_switch_wal()::text")
		// ram makes the slot anew before long, and keeps WAL with it from then on.
		c.Exec(primary, fmt.Sprintf(`DO $$ BEGIN
			PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '%s';
			EXCEPTION WHEN object_in_use OR undefined_object THEN NULL; END $$`, pg.SlotName(node)))
		c.Exec(primary, "CHECKPOINT")
		return c.Query(primary, "SELECT count(*)::text FROM pg_ls_waldir() WHERE name = $1", needed)[0] == "0"
	})
	logs := c.MarkLogs()
	c.Start(node)
	c.CheckHealthy()
	if log := c.Log(node)[logs[node]:]; strings.Contains(log, `"act":"clone"`) {
		t.Errorf("node %s was cloned:\n%s", node, log)
	}
	if diff := cmp.Diff(c.Contents(primary), c.Contents(node)); diff != "" {
		t.Errorf("contents (-primary +%s):\n%s", node, diff)
	}
}

func ownerOf(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ram.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// begun is a new cluster to which nothing was written yet.
func begun(t *testing.T, s cluster.Spec) *cluster.Cluster {
	t.Helper()
	c := cluster.New(t, s.String())
	c.Start(s.Nodes...)
	c.Apply("")
	return c
}

// restoreElsewhere makes a cluster from the repository of another, and has an archive
// of its own.
func restoreElsewhere(t *testing.T, dir, url string, was history) {
	t.Helper()
	owner := ownerOf(t, dir)
	_, own := emptyRepository(t)
	spec := backedUp(alone, repositoryAt(own)+fmt.Sprintf(`
repository "theirs" {
  url = %q
}
bootstrap {
  restore {
    repository  = "theirs"
    target_time = %q
  }
}
`, url, was.target))
	c := begun(t, spec)
	holds(t, c, was.inBetween)
	c.Part("it archives and is backed up in its own", func(t *testing.T) {
		archived(c)
		id := backUp(c, "--repository", "main")
		c.CtlOK("backup", "verify", id, "--repository", "main")
	})
	c.Part("it is refused to write to the other's", func(t *testing.T) {
		c.CtlFails([]string{"belongs to another cluster", "URL of its own"}, "backup", "create", "--repository", "theirs")
		c.AwaitEvent(0, "failed: back up", "belongs to another cluster")
		c.Apply(strings.Replace(spec.String(), "archive {\n  repository = \"main\"", "archive {\n  repository = \"theirs\"", 1))
		c.Exec("a", "SELECT pg_switch_wal()::text")
		c.Await("status tells whose the repository is", func(s reconcile.Status) error {
			if a := s.Backups.Archive; a == nil || a.Backlog == 0 || !strings.Contains(a.Failure, "belongs to another cluster") {
				return fmt.Errorf("archive %+v", a)
			}
			return nil
		})
		c.Write() // all the same
	})
	if now := ownerOf(t, dir); now != owner {
		t.Errorf("the other's repository has another owner:\n%s", now)
	}
}

// restoreInPlace makes a cluster from the end of the archive of one that is gone, in the
// repository of which it goes on.
func restoreInPlace(t *testing.T, dir, url string, was history) {
	t.Helper()
	owner := ownerOf(t, dir)
	c := begun(t, backedUp(alone, repositoryAt(url)+"bootstrap {\n  restore {\n    repository = \"main\"\n  }\n}\n"))
	holds(t, c, was.last)
	c.CtlFails([]string{"belongs to another cluster", "ramctrl backup takeover"}, "backup", "create")
	c.CtlOK("backup", "takeover", "--auto-approve")
	archived(c)
	second := backUp(c)
	var ids []string
	for _, b := range backups(c) {
		ids = append(ids, b.ID)
	}
	if diff := cmp.Diff([]string{was.backup, second}, ids); diff != "" {
		t.Errorf("backups (-want +got):\n%s", diff)
	}
	if now := ownerOf(t, dir); now == owner {
		t.Error("the repository has the owner of before")
	}
	c.Part("back to before it was made", func(t *testing.T) {
		restore(t, c, "--to-time", was.target)
		holds(t, c, was.inBetween)
	})
}
