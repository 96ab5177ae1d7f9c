package reconcile_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// clock is a record with backups, and a time that passes.
type clock struct {
	t   *testing.T
	rec *reconcile.Record
	obs reconcile.Observed
}

// scheduled is a cluster of a, the primary, and b, which streams, with a backup block.
func scheduled(t *testing.T, at string, b spec.Backup) *clock {
	t.Helper()
	c := &clock{t: t}
	want := mustSpec(t, "a b")
	want.Repositories = []spec.Repository{spec.NewRepository("main")}
	b.Repository = "main"
	want.Backups = []spec.Backup{b}
	c.obs.Now = instant(t, at)
	up := &reconcile.Upstream{Node: "a", Host: "h", Port: 5432}
	c.rec = &reconcile.Record{
		Format: reconcile.RecordFormat, Cluster: want.Name, SystemID: 7, Primary: "a", Term: 1,
		Members:     map[string]reconcile.Member{},
		Assignments: map[string]reconcile.Assignment{"a": {Serial: 1, Role: reconcile.RolePrimary}, "b": {Serial: 1, Role: reconcile.RoleStandby, Upstream: up}},
	}
	for _, n := range want.Nodes {
		c.rec.Members[n.Name] = reconcile.Member{Name: n.Name, Incarnation: "1", Host: n.Host, APIPort: n.Ports.API, RaftPort: n.Ports.Raft}
	}
	c.obs.Nodes = map[string]reconcile.NodeView{
		"a": {Reported: true, Reachable: true, Report: reconcile.Report{Room: pg.TB, Server: pg.Server{State: pg.ServerRunning}}},
		"b": {Reported: true, Reachable: true, Report: reconcile.Report{Room: pg.TB, Server: pg.Server{
			State: pg.ServerRunning, Recovery: true, Receiver: &pg.WALReceiver{Status: "streaming", Host: "h", Port: 5432},
		}}},
	}
	c.do(reconcile.Command{Accept: &reconcile.Accept{Spec: want, Cause: reconcile.CauseApply}})
	return c
}

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (c *clock) do(cmd reconcile.Command) {
	c.t.Helper()
	cmd.At = c.obs.Now
	next, err := reconcile.Transition(c.rec, cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	c.rec = next
}

// look does what NextJob says, and tells it in a word.
func (c *clock) look() string {
	c.t.Helper()
	begin, end := reconcile.NextJob(c.rec, c.obs)
	switch {
	case begin != nil:
		c.do(reconcile.Command{Begin: begin})
		return fmt.Sprintf("%s %s on %s, attempt %d", begin.Job.Kind, begin.Job.Schedule, begin.Job.Node, begin.Job.Attempt)
	case end != nil:
		c.do(reconcile.Command{End: end})
		return "ended: " + strings.TrimSpace(string(end.State)+" "+end.Error)
	}
	return ""
}

func (c *clock) at(text string) string {
	c.t.Helper()
	c.obs.Now = instant(c.t, text)
	return c.look()
}

// report has the job's node report how the job ended.
func (c *clock) report(state reconcile.JobState, catalog ...reconcile.CatalogBackup) {
	v := c.obs.Nodes[c.rec.Job.Node]
	v.Report.Job = &reconcile.JobReport{ID: c.rec.Job.ID, State: state, Error: "the disk is full"}
	if state == reconcile.JobDone {
		v.Report.Job.Error = ""
		v.Report.Job.Result.Catalog = &reconcile.Catalog{Backups: catalog}
	}
	c.obs.Nodes[c.rec.Job.Node] = v
}

func (c *clock) want(step, got, want string) {
	c.t.Helper()
	if got != want {
		c.t.Errorf("%s: got %q, want %q", step, got, want)
	}
}

func nightly() spec.Backup {
	b := spec.NewBackup("nightly")
	b.Schedule = "0 2 * * *"
	return b
}

func TestAScheduledBackupIsDoneOnceAndAtItsTime(t *testing.T) {
	c := scheduled(t, "2026-11-22 12:00:00", nightly())
	c.want("when it has just been written", c.look(), "")
	c.want("before its time", c.at("2026-11-23 01:59:59"), "")
	c.want("at its time", c.at("2026-11-23 02:00:00"), "backup nightly on b, attempt 1")
	c.want("while it goes on", c.at("2026-11-23 02:00:01"), "")
	c.report(reconcile.JobDone)
	c.want("when it has ended", c.at("2026-11-23 02:10:00"), "ended: done")
	c.want("afterwards", c.at("2026-11-23 02:10:01"), "")
	c.want("the day after", c.at("2026-11-24 02:00:30"), "backup nightly on b, attempt 1")
}

func TestRunsThatWereMissedAreMadeUpOnce(t *testing.T) {
	c := scheduled(t, "2026-11-22 12:00:00", nightly())
	c.want("after five days without a leader", c.at("2026-11-27 09:00:00"), "backup nightly on b, attempt 1")
	c.report(reconcile.JobDone)
	c.want("when it has ended", c.at("2026-11-27 09:10:00"), "ended: done")
	c.want("afterwards", c.at("2026-11-27 09:11:00"), "")
}

func TestAFailedRunIsTriedAgainAndNotForEver(t *testing.T) {
	c := scheduled(t, "2026-11-22 12:00:00", nightly())
	c.want("first", c.at("2026-11-23 02:00:00"), "backup nightly on b, attempt 1")
	c.report(reconcile.JobFailed)
	c.want("its end", c.at("2026-11-23 02:01:00"), "ended: failed the disk is full")
	c.want("at once", c.at("2026-11-23 02:01:30"), "")
	c.want("a minute later", c.at("2026-11-23 02:02:00"), "backup nightly on b, attempt 2")
	c.report(reconcile.JobFailed)
	c.want("its end", c.at("2026-11-23 02:03:00"), "ended: failed the disk is full")
	c.want("five minutes later", c.at("2026-11-23 02:08:00"), "backup nightly on b, attempt 3")
	c.report(reconcile.JobFailed)
	c.want("its end", c.at("2026-11-23 02:09:00"), "ended: failed the disk is full")
	c.want("hours later", c.at("2026-11-23 12:00:00"), "")
	c.want("the day after", c.at("2026-11-24 02:00:00"), "backup nightly on b, attempt 1")
}

func TestAJobOfALostNodeEndsAndIsDoneElsewhere(t *testing.T) {
	c := scheduled(t, "2026-11-22 12:00:00", nightly())
	c.want("first", c.at("2026-11-23 02:00:00"), "backup nightly on b, attempt 1")
	v := c.obs.Nodes["b"]
	v.Reachable, v.Silent = false, 20*time.Second
	c.obs.Nodes["b"] = v
	c.want("after a short silence", c.look(), "")
	v.Silent = 31 * time.Second
	c.obs.Nodes["b"] = v
	c.want("after a long one", c.look(), "ended: failed nothing was heard of node b for 30s")
	c.want("the next attempt", c.at("2026-11-23 02:02:00"), "backup nightly on a, attempt 2")
	if note := c.rec.Job.Note; !strings.Contains(note, "no standby is fit") {
		t.Errorf("the note is %q", note)
	}
}

func TestNoTwoJobsAtATime(t *testing.T) {
	c := scheduled(t, "2026-11-22 12:00:00", nightly())
	c.at("2026-11-23 02:00:00")
	refused(t, c.rec, reconcile.Command{Begin: &reconcile.BeginJob{Job: reconcile.Job{Kind: reconcile.JobPrune, Node: "a"}}}, "under way")
}

func TestAPausedClusterBeginsNoScheduledJob(t *testing.T) {
	c := scheduled(t, "2026-11-22 12:00:00", nightly())
	c.do(reconcile.Command{Pause: &reconcile.SetPause{Paused: true}})
	c.want("while paused", c.at("2026-11-23 02:00:00"), "")
	c.do(reconcile.Command{Pause: &reconcile.SetPause{}})
	c.want("resumed", c.at("2026-11-23 08:00:00"), "backup nightly on b, attempt 1")
}

func TestAVerificationTakesTheNewestBackupToANodeWithRoom(t *testing.T) {
	b := nightly()
	b.Verify = &spec.Verify{Schedule: "0 5 * * 0"}
	c := scheduled(t, "2026-11-21 12:00:00", b)
	c.at("2026-11-22 02:00:00")
	c.report(
		reconcile.JobDone, reconcile.CatalogBackup{ID: "old", Name: "nightly"}, reconcile.CatalogBackup{ID: "new", Name: "nightly", Size: pg.GB},
		reconcile.CatalogBackup{ID: "by-hand", Name: "before-upgrade"},
	)
	c.want("the backup's end", c.at("2026-11-22 02:10:00"), "ended: done")
	v := c.obs.Nodes["b"]
	v.Report.Room = pg.GB
	c.obs.Nodes["b"] = v
	c.want("on Sunday at five", c.at("2026-11-22 05:00:00"), "verify nightly on a, attempt 1")
	if got := c.rec.Job.Backup; got != "new" {
		t.Errorf("verifies %q", got)
	}
}

func TestSchedulesKeepTheirMarksWhenTheSpecChangesElsewhere(t *testing.T) {
	c := scheduled(t, "2026-11-22 12:00:00", nightly())
	again := *c.rec.Spec
	again.Failover.Detect *= 2
	c.obs.Now = instant(t, "2026-11-23 03:00:00") // two o'clock has passed, unnoticed
	c.do(reconcile.Command{Accept: &reconcile.Accept{Spec: &again, Base: 1, Cause: reconcile.CauseApply}})
	c.want("after the change", c.look(), "backup nightly on b, attempt 1")
}

func TestExpired(t *testing.T) {
	now := instant(t, "2026-11-22 12:00:00")
	// backups reads "n3 n2+ n1- x0": name and age in days, + proven, - broken.
	backups := func(words string) []reconcile.CatalogBackup {
		var list []reconcile.CatalogBackup
		for word := range strings.FieldsSeq(words) {
			var age int
			fmt.Sscanf(word[1:], "%d", &age)
			at := now.AddDate(0, 0, -age)
			b := reconcile.CatalogBackup{ID: word, Name: "nightly", Started: at, Finished: at}
			if word[0] != 'n' {
				b.Name = "other"
			}
			switch word[len(word)-1] {
			case '+':
				b.Proved = at
			case '-':
				b.Broken = "part 1 is damaged"
			}
			list = append(list, b)
		}
		return list
	}
	for _, rule := range []struct {
		name       string
		last, days int
		backups    string
		want       string
	}{
		{"the last ones stay", 2, 0, "n9 n8 n7 n6", "n9 n8"},
		{"young ones stay besides", 1, 8, "n9 n8 n7 n6", "n9 n8"},
		{"old ones stay when there are not enough", 3, 1, "n90 n80", ""},
		{"other names are not touched", 1, 0, "x90 n8 n7", "n8"},
		{"the newest that was proven stays", 1, 0, "n9+ n8+ n7 n6", "n9+ n7"},
		{"broken ones do not count", 2, 0, "n9 n8 n7-", ""},
		{"broken ones go when enough others have come", 2, 0, "n9- n8 n7", "n9-"},
		{"or as many that are broken", 2, 0, "n10 n9- n8- n7-", "n9-"},
		{"broken and proven once is not proven", 1, 0, "n9+ n8- n7", "n8-"},
		{"nothing to keep, nothing to delete", 1, 0, "", ""},
	} {
		t.Run(rule.name, func(t *testing.T) {
			b := spec.NewBackup("nightly")
			b.Keep = spec.Keep{Last: rule.last, Days: rule.days}
			got := strings.Join(reconcile.Expired(b, backups(rule.backups), now), " ")
			if got != rule.want {
				t.Errorf("got %q, want %q", got, rule.want)
			}
			if list := reconcile.Expired(b, backups(rule.backups), time.Time{}); len(list) > 0 {
				t.Errorf("without a clock %v would go", list)
			}
		})
	}
}

// A year of nightly backups and weekly proofs, hour by hour: the catalog holds what
// the rule says on each day, and the newest proven backup is always among it.
func TestAYearOfSchedules(t *testing.T) {
	b := nightly()
	b.Timezone = "Europe/Stockholm"
	b.Schedule = "30 2 * * *" // does not exist on one night, and comes twice on another
	b.Keep = spec.Keep{Last: 3, Days: 10}
	b.Verify = &spec.Verify{Schedule: "0 5 * * 0"}
	c := scheduled(t, "2026-01-01 00:00:00", b)
	var catalog []reconcile.CatalogBackup
	counts := map[reconcile.JobKind]int{}
	days := map[string]int{}
	for hour := range 365 * 24 {
		c.obs.Now = instant(t, "2026-01-01 00:00:00").Add(time.Duration(hour)*time.Hour + 59*time.Minute)
		for c.look() != "" {
			job := c.rec.Job
			if job == nil {
				break
			}
			counts[job.Kind]++
			switch job.Kind {
			case reconcile.JobBackup:
				days[c.obs.Now.Format(time.DateOnly)]++
				catalog = append(catalog, reconcile.CatalogBackup{ID: c.obs.Now.Format(time.RFC3339), Name: "nightly", Started: c.obs.Now, Finished: c.obs.Now})
			case reconcile.JobVerify:
				catalog[len(catalog)-1].Proved = c.obs.Now
			}
			c.report(reconcile.JobDone, catalog...)
		}
		var kept []reconcile.CatalogBackup
		gone := reconcile.Expired(b, catalog, c.obs.Now)
		for _, x := range catalog {
			if !strings.Contains(strings.Join(gone, " "), x.ID) {
				kept = append(kept, x)
			}
		}
		catalog = kept
		// Nine in the hour in which the clocks have gone back and the night's has not begun.
		if day := hour / 24; day > 20 && (len(catalog) < 9 || len(catalog) > 12) {
			t.Fatalf("on day %d there are %d backups", day, len(catalog))
		}
	}
	want := map[reconcile.JobKind]int{reconcile.JobBackup: 365, reconcile.JobVerify: 52}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("jobs in a year (-want +got):\n%s", diff)
	}
	for day, n := range days {
		if n != 1 {
			t.Errorf("%d backups on %s", n, day)
		}
	}
}

func TestARestorePointIsRemembered(t *testing.T) {
	c := scheduled(t, "2026-11-22 12:00:00", nightly())
	c.do(reconcile.Command{Begin: &reconcile.BeginJob{Job: reconcile.Job{Kind: reconcile.JobPoint, Name: "before-upgrade", Node: "a"}}})
	c.do(reconcile.Command{End: &reconcile.EndJob{ID: 1, State: reconcile.JobDone, Result: reconcile.JobResult{LSN: 0x300}}})
	if p, ok := c.rec.Point("before-upgrade"); !ok || p.LSN != 0x300 {
		t.Errorf("got %v, %t", p, ok)
	}
	if _, ok := c.rec.Point("another"); ok {
		t.Error("an unknown point was found")
	}
}
