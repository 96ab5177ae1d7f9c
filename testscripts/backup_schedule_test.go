package testscripts

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/testscripts/cluster"
)

// eachMinute is the schedule that comes up most often.
const eachMinute = "* * * * *"

// scheduled is a spec with one backup block, of these lines.
func scheduled(url string, lines ...string) string {
	s := threeNodes
	s.Cluster = repositoryAt(url) + "archive {\n  repository = \"main\"\n}\nbackup \"often\" {\n  repository = \"main\"\n"
	for _, line := range lines {
		s.Cluster += line + "\n"
	}
	s.Cluster += "}\n"
	return s.String()
}

func schedule(line string) string { return fmt.Sprintf("schedule = %q", line) }

func verified(line string) string { return fmt.Sprintf("verify {\n  schedule = %q\n}", line) }

func keepLast(n int) string { return fmt.Sprintf("keep {\n  last = %d\n}", n) }

// bySchedule are the jobs of a kind that a schedule began, oldest first.
func bySchedule(c *cluster.Cluster, kind reconcile.JobKind) []reconcile.Job {
	return slices.DeleteFunc(jobsOf(c), func(j reconcile.Job) bool { return j.Kind != kind || j.By != "schedule" })
}

// scheduledJob waits until the nth job of a kind that a schedule began is done.
func scheduledJob(c *cluster.Cluster, kind reconcile.JobKind, n int) reconcile.Job {
	var job reconcile.Job
	c.Until(fmt.Sprintf("%s number %d by the schedule is done", kind, n), cluster.Patience+time.Minute, func() bool {
		jobs := bySchedule(c, kind)
		if len(jobs) >= n {
			job = jobs[n-1]
		}
		return job.State == reconcile.JobDone
	})
	return job
}

// onceAMoment checks that no minute has two backups.
func onceAMoment(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	at := map[time.Time]uint64{}
	for _, job := range bySchedule(c, reconcile.JobBackup) {
		moment := job.Begun.Truncate(time.Minute)
		if before, twice := at[moment]; twice {
			t.Errorf("jobs %d and %d are of the same minute, %s", before, job.ID, moment)
		}
		at[moment] = job.ID
	}
}

// kept waits until the repository holds these backups and no others.
func kept(c *cluster.Cluster, want ...string) {
	var diff string
	c.Until("retention has done its work", cluster.Patience, func() bool {
		var ids []string
		for _, b := range backups(c) {
			ids = append(ids, b.ID)
		}
		diff = cmp.Diff(want, ids)
		return diff == ""
	})
}

func TestBackupsOfASchedule(t *testing.T) {
	t.Parallel()
	dir, url := emptyRepository(t)
	c := cluster.NewIdle(t, scheduled(url, schedule(never)))
	c.Start(threeNodes.Nodes...)
	c.Apply("")
	c.CheckHealthy()

	c.Part("the Raft leader is killed when a backup has begun: it is taken once, and proven", func(t *testing.T) {
		logs := c.MarkLogs()
		c.Apply(scheduled(url, schedule(eachMinute), verified(eachMinute), `from = "primary"`))
		c.Until("the schedule comes up", cluster.Patience+time.Minute, func() bool { return len(jobsOf(c)) > 0 })
		leader, source := c.Leader(), primaryOf(c)
		if node, _ := c.Logged(logs, ofJob(reconcile.JobBackup)); node != source || node == leader {
			t.Errorf("the backup is taken from node %s, want the primary, %s; %s leads", node, source, leader)
		}
		c.Kill9(leader)
		c.Start(leader)
		backup, proof := scheduledJob(c, reconcile.JobBackup, 1), scheduledJob(c, reconcile.JobVerify, 1)
		if proof.Backup != backup.Result.Backup || backupOf(c, proof.Backup).Proof == nil {
			t.Errorf("backup %+v, proof %+v", backup, proof)
		}
		onceAMoment(t, c)
	})

	rare := scheduled(url, schedule(never), keepLast(2))
	c.Part("the plan tells of a changed schedule", func(t *testing.T) {
		c.WriteSpec("a", rare)
		text := c.CtlOK("plan", c.SpecFile("a"))
		if !lineWith(text, []string{"schedule", eachMinute, "->", never}) || !lineWith(text, []string{"keep", "2"}) {
			t.Errorf("the plan tells nothing of what changes:\n%s", text)
		}
		c.Apply(rare)
		c.Await("no job is under way", func(s reconcile.Status) error {
			if s.Backups.Job != nil {
				return fmt.Errorf("job %+v", s.Backups.Job)
			}
			return nil
		})
	})
	var newest []string
	c.Part("what is not kept any more goes, but never the newest that is proven", func(t *testing.T) {
		var proven string
		for _, b := range backups(c) {
			if !b.Proved.IsZero() {
				proven = b.ID
			}
		}
		newest = []string{backUp(c), backUp(c)}
		kept(c, proven, newest[0], newest[1])
		c.CtlOK("backup", "verify", newest[1])
		kept(c, newest...)
	})
	c.Part("what the spec in force keeps goes only when the operator says so", func(t *testing.T) {
		fewer := scheduled(url, schedule(never), keepLast(1))
		if r := c.TryApply(fewer); r.Code == 0 || !strings.Contains(r.String(), newest[0]) || !strings.Contains(r.String(), "--allow-destroy") {
			t.Errorf("an apply that deletes a backup: %s", r)
		}
		kept(c, newest...)
		c.Apply(fewer, "--allow-destroy")
		kept(c, newest[1])
	})
	c.Part("moments that pass while the cluster is down are made up for once", func(t *testing.T) {
		if s := time.Now().Second(); s > 30 {
			time.Sleep(time.Duration(61-s) * time.Second)
		}
		before := len(bySchedule(c, reconcile.JobBackup))
		c.Apply(scheduled(url, schedule(eachMinute)))
		c.KillTree(threeNodes.Nodes...)
		down := time.Now()
		time.Sleep(time.Until(down.Truncate(time.Minute).Add(2*time.Minute + time.Second)))
		c.Start(threeNodes.Nodes...)
		c.AwaitConverged()
		job := scheduledJob(c, reconcile.JobBackup, before+1)
		if late := job.Begun.Sub(down); late > 2*time.Minute+cluster.Patience {
			t.Errorf("it was begun %s after the cluster went down", late)
		}
		c.Apply(scheduled(url, schedule(never)))
		onceAMoment(t, c)
		c.CheckHealthy()
	})
	wholeRepository(t, c, dir)
}
