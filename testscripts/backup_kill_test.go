package testscripts

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// ofJob matches what the agent logs when it has begun a job; the group is its node.
func ofJob(kind reconcile.JobKind) *regexp.Regexp {
	return regexp.MustCompile(`"node":"(\w+)","part":"agent","job":\d+,"kind":"` + string(kind) + `","what"`)
}

// jobEnded waits for the end of the job that is under way, and returns it.
func jobEnded(c *cluster.Cluster) reconcile.Job {
	c.Await("the job ends", func(s reconcile.Status) error {
		if s.Backups == nil || s.Backups.Job != nil || !s.Raft.HasQuorum {
			return fmt.Errorf("backups %+v", s.Backups)
		}
		return nil
	})
	jobs := jobsOf(c)
	return jobs[len(jobs)-1]
}

// struckJob begins a job and strikes when its node is at it.
func struckJob(t *testing.T, c *cluster.Cluster, s strike, kind reconcile.JobKind, command ...string) {
	t.Helper()
	logs, before := c.MarkLogs(), len(backups(c))
	c.CtlOK(append(append([]string{"backup"}, command...), "--detach")...)
	node, _ := c.Logged(logs, ofJob(kind))
	time.Sleep(rand.N(time.Second))
	s.kill(c, node)
	job := jobEnded(c)
	c.CheckHealthy()
	got := len(backups(c)) - before
	switch {
	case job.State == reconcile.JobDone && (kind != reconcile.JobBackup || got == 1):
	case job.State == reconcile.JobFailed && job.Error != "" && got == 0:
	default:
		t.Errorf("after the strike %d more backups are seen, and the job is %+v", got, job)
	}
	for _, name := range c.Running() {
		for _, p := range c.Processes(name) {
			if strings.Contains(p.Command, c.DataDir(name)+".ram-") {
				t.Errorf("a process is left on node %s: %s", name, p)
			}
		}
	}
}

// wholeRepository checks that a repository holds the backups that are seen, and no
// remains of others.
func wholeRepository(t *testing.T, c *cluster.Cluster, dir string) {
	t.Helper()
	var seen, there []string
	for _, b := range backups(c) {
		seen = append(seen, b.ID)
		c.CtlOK("backup", "verify", b.ID, "--quick")
	}
	entries, err := os.ReadDir(filepath.Join(dir, "backups"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		there = append(there, e.Name())
	}
	slices.Sort(seen)
	if diff := cmp.Diff(seen, there); diff != "" {
		t.Errorf("backups (-listed +stored):\n%s", diff)
	}
}

func TestBackupsAreStruck(t *testing.T) {
	t.Parallel()
	dir, url := emptyRepository(t)
	c := applied(t, backedUp(threeNodes, repositoryAt(url)))
	fill(c, primaryOf(c), 48)
	first := backUp(c, "--name", "first")

	// Some here, and all, again and again, when seeds are asked for.
	backupStrikes, proofStrikes := []strike{strikes[0], strikes[2]}, []strike{strikes[1]}
	if os.Getenv("RAM_TEST_SEEDS") != "" {
		backupStrikes, proofStrikes = strikes, strikes
	}
	for range seeds() {
		for _, s := range backupStrikes {
			c.Part("a backup, and "+s.name, func(t *testing.T) { struckJob(t, c, s, reconcile.JobBackup, "create") })
		}
		for _, s := range proofStrikes {
			c.Part("a proof, and "+s.name, func(t *testing.T) { struckJob(t, c, s, reconcile.JobVerify, "verify", first) })
		}
	}
	c.Part("a backup that is cancelled is never seen", func(t *testing.T) {
		var before int
		cancelled := false
		for n := 0; !cancelled; n++ { // one that was over too soon is followed by a longer one
			c.Exec(primaryOf(c), fmt.Sprintf("CREATE TABLE more_%d AS SELECT a.* FROM accounts AS a, generate_series(1, 3)", n))
			logs := c.MarkLogs()
			before = len(backups(c))
			c.CtlOK("backup", "create", "--detach")
			c.Logged(logs, ofJob(reconcile.JobBackup))
			second := c.Ctl("backup", "create")
			cancelled = c.Ctl("backup", "cancel").Code == 0
			if cancelled && (second.Code == 0 || !strings.Contains(second.Stderr, "is under way") || !strings.Contains(second.Stderr, "ramctrl backup cancel")) {
				t.Errorf("a second backup: %s", second)
			}
		}
		if job := jobEnded(c); job.State != reconcile.JobCancelled || len(backups(c)) != before {
			t.Errorf("job %+v; %d backups, were %d", job, len(backups(c)), before)
		}
	})
	c.Part("nothing of all that is left", func(t *testing.T) {
		c.CtlOK("backup", "verify", backUp(c))
		wholeRepository(t, c, dir)
		nothingBeside(t, c)
	})
	want, target := betweenMarks(t, c)
	c.Part("a restore of the cluster goes on whatever is killed", func(t *testing.T) {
		before := c.AwaitConverged()
		logs := c.MarkLogs()
		c.CtlOK("backup", "restore", "--to-time", target, "--auto-approve", "--detach")
		c.CtlFails([]string{"a restore is under way already", "--abort"}, "backup", "restore", "--auto-approve")
		c.CtlFails([]string{"the cluster is being restored"}, "backup", "create")
		for _, s := range []strike{strikes[0], strikes[2]} {
			node, _ := c.Logged(logs, ofAgent("restore"))
			time.Sleep(rand.N(2 * time.Second))
			logs = c.MarkLogs()
			s.kill(c, node)
		}
		isRestored(t, c, before)
		holds(t, c, want)
	})
	c.Part("a restore that is given up goes back to the data of before", func(t *testing.T) {
		was := c.Contents(primaryOf(c))
		logs := c.MarkLogs()
		c.CtlOK("backup", "restore", "--to-backup-end", "--backup", first, "--auto-approve", "--detach")
		c.Logged(logs, ofAgent("restore"))
		c.CtlOK("backup", "restore", "--abort", "--auto-approve")
		holds(t, c, was)
	})
}
