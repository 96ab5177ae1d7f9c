package render

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

var (
	noon  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	atTwo = Style{Now: noon.Add(2 * time.Hour)}
)

func rendered(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// daily is a backup that was taken at noon.
func daily(change func(*api.BackupInfo)) api.BackupInfo {
	b := api.BackupInfo{
		CatalogBackup: reconcile.CatalogBackup{
			ID: "20261122T115930Z-daily", Name: "daily", Node: "b", Started: noon.Add(-30 * time.Second), Finished: noon,
			Timeline: 2, StartLSN: 0x5000028, StopLSN: 0x5000100, Size: 1200 * pg.MB, Stored: 400 * pg.MB,
		},
		Repository: "main", Cluster: "demo", Role: "standby", Version: "15.10", SystemID: "7300000000000000001",
		Compression: "zstd", Encrypted: true, Parts: 3, By: "schedule",
	}
	change(&b)
	return b
}

func proved1h(b *api.BackupInfo) {
	b.Proved = noon.Add(time.Hour)
	b.Proof = &api.BackupProof{At: b.Proved, Node: "c", OK: true, Took: 12 * time.Second, LSN: 0x5000100, Timeline: 2, Pages: 153_600, Indexes: 41}
}

func TestBackupsMarksWhatIsKnownNotToRestore(t *testing.T) {
	list := []api.BackupInfo{
		daily(func(*api.BackupInfo) {}),
		daily(func(b *api.BackupInfo) { b.ID, b.Broken = "20261122T115931Z-daily", "part-00002.tar.zst is damaged" }),
		daily(func(b *api.BackupInfo) { b.ID = "20261122T115932Z-daily"; proved1h(b) }),
	}
	want := `ID                      NAME   FINISHED                        SIZE  STORED  TIMELINE  NODE  PROVED  NOTE
20261122T115930Z-daily  daily  2026-11-22 12:00:00 (2h ago)  1.2 GB  400 MB         2  b     never
20261122T115931Z-daily  daily  2026-11-22 12:00:00 (2h ago)  1.2 GB  400 MB         2  b     never   BROKEN: part-00002.tar.zst is damaged
20261122T115932Z-daily  daily  2026-11-22 12:00:00 (2h ago)  1.2 GB  400 MB         2  b     1h ago
`
	got := rendered(t, func(w io.Writer) error { return Backups(w, list, atTwo) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBackupsNamesRepositoriesWhenThereAreSeveral(t *testing.T) {
	list := []api.BackupInfo{daily(func(*api.BackupInfo) {}), daily(func(b *api.BackupInfo) { b.Repository = "offsite" })}
	got := rendered(t, func(w io.Writer) error { return Backups(w, list, atTwo) })
	if !strings.HasPrefix(got, "REPOSITORY  ID") || !strings.Contains(got, "\noffsite     20261122T115930Z-daily") {
		t.Errorf("%s", got)
	}
}

func TestBackupTellsProofAndReach(t *testing.T) {
	detail := api.BackupDetail{
		BackupInfo: daily(proved1h),
		Objects:    []api.BackupObject{{Name: "backups/20261122T115930Z-daily/part-00001.tar.zst.age", Stored: 400 * pg.MB, Plain: 1200 * pg.MB, SHA256: "ab12"}},
		Reach:      &api.BackupReach{From: 0x5000100, To: 0x7000000, Timeline: 3, Since: noon, Until: noon.Add(100 * time.Minute), Gap: "000000030000000000000009"},
	}
	want := `Backup 20261122T115930Z-daily in repository main
  name        daily
  cluster     demo, system identifier 7300000000000000001
  taken       2026-11-22 12:00:00 (2h ago), took 30s, by schedule
  from        b, a standby
  PostgreSQL  15.10, timeline 2
  WAL         0/5000028 to 0/5000100
  size        1.2 GB, stored 400 MB (3.0 : 1), in 3 parts, compression zstd, encrypted
  proved      2026-11-22 13:00:00 (1h ago): restored on c to 0/5000100 in 12s, 153600 pages have the right checksum, 41 indexes are in order
  reach       2026-11-22 12:00:00 (0/5000100) to about 2026-11-22 13:40:00 (0/7000000), timeline 3
              not further, since WAL file 000000030000000000000009 is missing although later ones are there

  OBJECT                                                  HOLDS  STORED  SHA-256
  backups/20261122T115930Z-daily/part-00001.tar.zst.age  1.2 GB  400 MB  ab12
`
	if diff := cmp.Diff(want, rendered(t, func(w io.Writer) error { return Backup(w, detail, true, atTwo) })); diff != "" {
		t.Error(diff)
	}
}

func TestBackupSaysWhatIsMissing(t *testing.T) {
	for rule, c := range map[string]struct {
		change func(*api.BackupDetail)
		says   string
	}{
		"no proof":            {func(*api.BackupDetail) {}, "proved      never: ramctrl backup verify 20261122T115930Z-daily"},
		"a proof that failed": {func(b *api.BackupDetail) { b.Proof = &api.BackupProof{At: noon, Node: "c", Error: "page 7 is damaged"} }, "FAILED 2026-11-22 12:00:00 (2h ago) on c: page 7 is damaged"},
		"broken":              {func(b *api.BackupDetail) { b.Broken = "part 1 is gone" }, "BROKEN      part 1 is gone"},
		"reach not known":     {func(*api.BackupDetail) {}, "reach       not known"},
		"no WAL after it": {
			func(b *api.BackupDetail) { b.Reach = &api.BackupReach{From: 0x5000100, To: 0x5000100, Since: noon} },
			"the end of the backup, and no further",
		},
		"not encrypted": {func(b *api.BackupDetail) { b.Encrypted, b.Parts = false, 1 }, "in 1 part, compression zstd, not encrypted"},
	} {
		t.Run(rule, func(t *testing.T) {
			detail := api.BackupDetail{BackupInfo: daily(func(*api.BackupInfo) {})}
			c.change(&detail)
			got := rendered(t, func(w io.Writer) error { return Backup(w, detail, false, atTwo) })
			if !strings.Contains(got, c.says) || strings.Contains(got, "SHA-256") {
				t.Errorf("no %q in\n%s", c.says, got)
			}
		})
	}
}

func TestJobsSaysWhatBecameOfEach(t *testing.T) {
	job := func(id uint64, kind reconcile.JobKind, state reconcile.JobState, change func(*api.JobAnswer)) api.JobAnswer {
		a := api.JobAnswer{Job: reconcile.Job{ID: id, Kind: kind, Name: "daily", Backup: "ID-7", Node: "b", By: "ann@desk", Begun: noon, State: state}, Elapsed: 42 * time.Second}
		change(&a)
		return a
	}
	jobs := []api.JobAnswer{
		job(7, reconcile.JobBackup, reconcile.JobFailed, func(a *api.JobAnswer) {
			a.Job.Schedule, a.Job.Attempt, a.Job.Error = "daily", 2, "the repository does not answer"
		}),
		job(8, reconcile.JobBackup, reconcile.JobDone, func(a *api.JobAnswer) {
			a.Job.Result = reconcile.JobResult{Backup: "ID-8", Size: 1200 * pg.MB, Stored: 400 * pg.MB, Text: "in short"}
			a.Job.Note = "no standby is fit: the primary is backed up"
		}),
		job(9, reconcile.JobVerify, reconcile.JobCancelled, func(a *api.JobAnswer) { a.Job.Quick, a.Job.Cancelled = true, "bob@desk" }),
		job(10, reconcile.JobPrune, reconcile.JobRunning, func(a *api.JobAnswer) { a.Job.Delete = []string{"x", "y"} }),
		job(11, reconcile.JobBackup, reconcile.JobRunning, func(a *api.JobAnswer) {
			a.Progress = &reconcile.JobReport{Phase: "backing up", Done: 400 * pg.MB, Total: 1200 * pg.MB, For: 8 * time.Second}
		}),
	}
	want := `JOB  WHAT                 NODE  STATE      BEGUN                TOOK  BY              NOTE
  7  back up daily        b     failed     2026-11-22 12:00:00   42s  schedule daily  attempt 2; the repository does not answer
  8  back up daily        b     done       2026-11-22 12:00:00   42s  ann@desk        ID-8, 1.2 GB, stored 400 MB (3.0 : 1); no standby is fit: the primary is backed up
  9  verify ID-7 (quick)  b     cancelled  2026-11-22 12:00:00   42s  ann@desk        by bob@desk
 10  delete 2 backups     b     running    2026-11-22 12:00:00   42s  ann@desk        not begun yet
 11  back up daily        b     running    2026-11-22 12:00:00   42s  ann@desk        backing up, 400 MB of 1.2 GB, 50 MB/s, 17s left
`
	if diff := cmp.Diff(want, rendered(t, func(w io.Writer) error { return Jobs(w, jobs, atTwo) })); diff != "" {
		t.Error(diff)
	}
}

func TestRestoreShowsWhatIsLost(t *testing.T) {
	answer := api.RestoreAnswer{
		Backup: daily(func(*api.BackupInfo) {}), Target: reconcile.RestoreTarget{Time: noon.Add(time.Hour)}, Node: "a",
		Reach: &api.BackupReach{From: 0x5000100, To: 0x7000000, Timeline: 2, Since: noon, Until: noon.Add(100 * time.Minute)},
		Steps: []string{"stop PostgreSQL on a", "restore it"}, Loses: "everything that was written after 13:00",
	}
	want := `Restore of the whole cluster demo
  to          2026-11-22 13:00:00 UTC, which is 2026-11-22 14:00:00 CET by this clock
  backup      20261122T115930Z-daily in repository main, 1.2 GB, stored 400 MB (3.0 : 1)
  finished    2026-11-22 13:00:00 (2h ago)
  proved      never: ramctrl backup verify 20261122T115930Z-daily
  reach       2026-11-22 13:00:00 (0/5000100) to about 2026-11-22 14:40:00 (0/7000000), timeline 2
  primary     a, the others are copied from it

Steps:
  1. stop PostgreSQL on a
  2. restore it

WHAT IS LOST:
  ! everything that was written after 13:00
`
	style := Style{Now: atTwo.Now, Zone: time.FixedZone("CET", 3600)}
	if diff := cmp.Diff(want, rendered(t, func(w io.Writer) error { return Restore(w, "demo", answer, style) })); diff != "" {
		t.Error(diff)
	}
}

func TestStatusHasABlockOnBackups(t *testing.T) {
	last := daily(proved1h).CatalogBackup
	for rule, c := range map[string]struct {
		backups *reconcile.BackupStatus
		want    string
	}{
		"no repository": {nil, ""},
		"nothing yet":   {&reconcile.BackupStatus{}, "\nBackups\n  last        none yet: ramctrl backup create\n"},
		"never proved": {
			&reconcile.BackupStatus{Last: &last},
			"\nBackups\n  last        20261122T115930Z-daily, 2h ago, 1.2 GB, stored 400 MB (3.0 : 1)\n  last proof  never: ramctrl backup verify\n",
		},
		"all at once": {
			&reconcile.BackupStatus{
				Last: &last, LastProof: last.Proved,
				Archive:  &reconcile.ArchiveReport{Backlog: 3, Bytes: 48 * pg.MB, Oldest: 90 * time.Second, Failure: "connection refused", Failing: 80 * time.Second},
				Job:      &reconcile.Job{ID: 12, Kind: reconcile.JobBackup, Name: "daily", Node: "b"},
				Progress: &reconcile.JobReport{Phase: "backing up", Done: 400 * pg.MB, Total: 1200 * pg.MB, For: 8 * time.Second},
				Next:     []reconcile.Upcoming{{What: "back up daily", At: noon.Add(15 * time.Hour)}, {What: "verify daily", At: noon.Add(100 * time.Hour)}},
				Failed:   &reconcile.Job{Kind: reconcile.JobVerify, Backup: "ID-7", Node: "c", Finished: noon, Error: "no room"},
			},
			`
Backups
  last        20261122T115930Z-daily, 2h ago, 1.2 GB, stored 400 MB (3.0 : 1)
  last proof  1h ago
  archive     3 files of WAL (48 MB) not archived yet, the oldest for 1m; failing for 1m: connection refused
  now         job 12, back up daily on b: backing up, 400 MB of 1.2 GB, 50 MB/s, 17s left
  next        back up daily in 13h (2026-11-23 03:00:00)
              verify daily in 4d (2026-11-26 16:00:00)
  failed      verify ID-7 on c, 2h ago: no room
`,
		},
	} {
		t.Run(rule, func(t *testing.T) {
			var out strings.Builder
			statusBackups(&out, c.backups, atTwo)
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Error(diff)
			}
			whole := rendered(t, func(w io.Writer) error { return Status(w, reconcile.Status{Backups: c.backups}, atTwo) })
			if !strings.Contains(whole, c.want) {
				t.Errorf("the status is without it:\n%s", whole)
			}
		})
	}
}

func TestJobPhase(t *testing.T) {
	for want, c := range map[string]struct {
		report *reconcile.JobReport
		rate   float64
	}{
		"not begun yet":                        {nil, 0},
		"beginning":                            {&reconcile.JobReport{}, 0},
		"backing up, 16 MB":                    {&reconcile.JobReport{Phase: "backing up", Done: 16 * pg.MB}, 0},
		"backing up, 0 B of 16 MB":             {&reconcile.JobReport{Phase: "backing up", Total: 16 * pg.MB}, 0},
		"backing up, 16 MB of 16 MB, 4.0 MB/s": {&reconcile.JobReport{Phase: "backing up", Done: 16 * pg.MB, Total: 16 * pg.MB}, 4 << 20},
		"restoring, 1.0 MB of 1.0 TB, 1 B/s, 1000h00m left": {&reconcile.JobReport{Phase: "fetch", Done: pg.MB, Total: pg.TB}, 1},
		"checking pages, 1.0 MB of 2.0 MB":                  {&reconcile.JobReport{Phase: "pages", Done: pg.MB, Total: 2 * pg.MB}, 0},
		"checking indexes, 12 of 45":                        {&reconcile.JobReport{Phase: "indexes", Done: 12, Total: 45}, 3},
	} {
		if got := JobPhase(c.report, c.rate); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestJobPhaseDone(t *testing.T) {
	got := []string{JobPhaseDone("backing up", 31<<20), JobPhaseDone("recover", 0), JobPhaseDone("indexes", 100)}
	if diff := cmp.Diff([]string{"backing up, at 31 MB/s", "recovering", "checking indexes"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 59 * time.Second: "59s", 90 * time.Second: "1m", 47 * time.Hour: "47h", 50 * time.Hour: "2d",
	} {
		if got := Age(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
