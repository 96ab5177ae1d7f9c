package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

const (
	dailyID  = "20261122T030000Z-daily"
	manualID = "20261122T101500Z-before-migration"
)

// job12 is a job on b in a state, as a ramd tells of it after some seconds.
func job12(kind reconcile.JobKind, state reconcile.JobState, seconds int, report *reconcile.JobReport) api.JobAnswer {
	a := api.JobAnswer{
		Job:      reconcile.Job{ID: 12, Kind: kind, Repository: "main", Name: "daily", Backup: dailyID, Node: "b", By: "ann@desk", State: state},
		Progress: report, Elapsed: time.Duration(seconds) * time.Second,
	}
	if report != nil {
		report.ID, report.State, report.For = 12, reconcile.JobRunning, a.Elapsed
	}
	return a
}

func copied(done pg.Bytes) *reconcile.JobReport {
	return &reconcile.JobReport{Phase: "backing up", Done: done, Total: 1200 * pg.MB}
}

// working is a cluster that takes a backup as job 12, as scenes tell one after the
// other; the last one stays.
func working(t *testing.T, scenes ...any) *fake {
	f := newFake(t)
	f.always("POST /backup", job12(reconcile.JobBackup, reconcile.JobRunning, 0, nil))
	f.on("GET /jobs/12", func(before int, _ *http.Request) (any, error) {
		scene := scenes[min(before, len(scenes)-1)]
		if err, failed := scene.(error); failed {
			return nil, err
		}
		return scene, nil
	})
	return f
}

func taken() api.JobAnswer {
	a := job12(reconcile.JobBackup, reconcile.JobDone, 24, nil)
	a.Job.Result = reconcile.JobResult{Backup: dailyID, Size: 1200 * pg.MB, Stored: 400 * pg.MB, Text: "in short"}
	return a
}

func TestBackupCreateShowsHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := job12(reconcile.JobBackup, reconcile.JobRunning, 0, nil)
		f := working(t, first, job12(reconcile.JobBackup, reconcile.JobRunning, 3, nil), job12(reconcile.JobBackup, reconcile.JobRunning, 4, copied(0)), errDown, job12(reconcile.JobBackup, reconcile.JobRunning, 12, copied(400*pg.MB)), taken())
		first.Job.Note = "no standby is fit: the primary is backed up"
		f.always("POST /backup", first)
		got := operator{cluster: f}.run(context.Background(), "backup", "create", "--name", "before-migration", "--from", "b", "--repository", "main", "--schedule", "daily")
		want := `Job 12: back up daily on b.
Note: no standby is fit: the primary is backed up.
  wait  node b: waits for its ramd to begin
  start backing up, 0 B of 1.2 GB
  the cluster gives no answer, trying again: no ramd answers (127.0.0.1:8080: connection refused): see whether ramd runs there, or name other nodes with --addr
  the cluster answers again
  done  backing up, at 50 MB/s [20s]
Done: backup 20261122T030000Z-daily, 1.2 GB, stored 400 MB (3.0 : 1), took 24s.
`
		if diff := cmp.Diff(want, got.stdout); diff != "" || got.code != exitDone || got.stderr != "" {
			t.Errorf("exit code %d, %s\n%s", got.code, got.stderr, diff)
		}
		var sent api.BackupRequest
		f.sent("POST /backup", &sent)
		wanted := api.BackupRequest{Schedule: "daily", Repository: "main", From: "b", Name: "before-migration", By: "ann@desk"}
		if diff := cmp.Diff(wanted, sent); diff != "" {
			t.Error(diff)
		}
	})
}

// A long copy has a line now and then, with the rate of late.
func TestBackupTellsTheRateAndWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := working(t)
		f.on("GET /jobs/12", func(int, *http.Request) (any, error) {
			seconds := int(time.Since(begin).Seconds())
			if seconds >= 24 {
				return taken(), nil
			}
			return job12(reconcile.JobBackup, reconcile.JobRunning, seconds, copied(pg.Bytes(seconds)*50*pg.MB)), nil
		})
		got := operator{cluster: f}.run(context.Background(), "backup", "create")
		for _, line := range []string{"  ...   backing up, 500 MB of 1.2 GB, 50 MB/s, 15s left [10s]\n", "  ...   backing up, 1000 MB of 1.2 GB, 50 MB/s, 5.0s left [20s]\n"} {
			if !strings.Contains(got.stdout, line) {
				t.Errorf("no %q in\n%s", line, got.stdout)
			}
		}
	})
}

func TestWhatBecomesOfABackup(t *testing.T) {
	ended := func(state reconcile.JobState, change func(*reconcile.Job)) api.JobAnswer {
		a := job12(reconcile.JobBackup, state, 3, nil)
		change(&a.Job)
		return a
	}
	running := job12(reconcile.JobBackup, reconcile.JobRunning, 1, copied(pg.MB))
	unknown := refusal{http.StatusNotFound, "there is no job 12"}
	for _, rule := range []struct {
		name    string
		scenes  []any
		args    []string
		code    int
		outcome string
		says    string // on standard error
	}{
		{"done", []any{running, taken()}, nil, 0, outcomeDone, ""},
		{
			"failed",
			[]any{running, ended(reconcile.JobFailed, func(j *reconcile.Job) { j.Error = "no space left on device" })},
			nil, 1, outcomeFailed,
			"ramctrl: job 12 (back up daily) failed on b after 3.0s: no space left on device\nNothing of it is to be seen in the repository. When this is put right: ramctrl backup create\n",
		},
		{
			"cancelled",
			[]any{running, ended(reconcile.JobCancelled, func(j *reconcile.Job) { j.Cancelled = "bob@desk" })},
			nil, 1, outcomeCancelled,
			"was cancelled by bob@desk after 3.0s: nothing of it is to be seen",
		},
		{"nobody watches", []any{running}, []string{"--detach"}, 0, outcomeDetached, "Follow it with: ramctrl backup jobs --follow 12; give it up with: ramctrl backup cancel 12"},
		{"time is up", []any{running}, []string{"--timeout", "5s"}, 1, outcomeTimeout, "is not done after --timeout and goes on; follow it again with: ramctrl backup jobs --follow 12"},
		{"a new leader has not read of it yet", []any{unknown, unknown, taken()}, nil, 0, outcomeDone, ""},
		{"it stays unknown", []any{unknown}, nil, 1, outcomeUnknown, "there is no job 12: see ramctrl backup jobs"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := working(t, rule.scenes...)
				got := operator{cluster: f}.run(context.Background(), append([]string{"backup", "create", "-o", "json"}, rule.args...)...)
				var result jobResult
				decodeOnly(t, got.stdout, &result)
				if got.code != rule.code || result.Outcome != rule.outcome || result.Job.ID != 12 || !strings.Contains(got.stderr, rule.says) {
					t.Errorf("exit code %d, outcome %s\n%s", got.code, result.Outcome, got.stderr)
				}
			})
		})
	}
}

func TestCtrlCDetachesFromAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		f := working(t, job12(reconcile.JobBackup, reconcile.JobRunning, 1, copied(pg.MB)))
		got := operator{cluster: f}.run(ctx, "backup", "create")
		want := "ramctrl: detached, job 12 (back up daily) goes on; follow it again with: ramctrl backup jobs --follow 12; give it up with: ramctrl backup cancel 12\n"
		if got.code != exitError || got.stderr != want {
			t.Errorf("exit code %d, %q", got.code, got.stderr)
		}
	})
}

// On a terminal the line of what goes on is redrawn in place.
func TestATerminalShowsAJobInOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stdout strings.Builder
		f := working(t, job12(reconcile.JobBackup, reconcile.JobRunning, 2, copied(pg.MB)), job12(reconcile.JobBackup, reconcile.JobRunning, 4, copied(101*pg.MB)), taken())
		a := &app{pace: realPace(), transport: f, sys: System{
			Args: []string{"backup", "create"}, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stdout,
			LookupEnv: func(name string) (string, bool) {
				return map[string]string{"RAM_TOKEN": testToken, "NO_COLOR": "1"}[name], true
			},
			InteractiveOut: true, Size: func() (int, int) { return 80, 24 },
		}}
		if code := a.main(t.Context()); code != 0 {
			t.Fatalf("code %d: %s", code, stdout.String())
		}
		want := "  ...   backing up, 1.0 MB of 1.2 GB [0.0s]\n  job 12 [2.0s]\n" +
			"\x1b[2A\x1b[J  ...   backing up, 101 MB of 1.2 GB, 50 MB/s, 22s left [2.0s]\n  job 12 [4.0s]\n" +
			"\x1b[2A\x1b[J  done  backing up, at 50 MB/s [22s]\n"
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q", stdout.String())
		}
	})
}

func TestOtherJobsEndWithWhatTheyBrought(t *testing.T) {
	for _, rule := range []struct {
		name  string
		args  []string
		call  string
		kind  reconcile.JobKind
		quick bool
		text  string
		code  int
		says  string
		fails string
	}{
		{"a proof", []string{"verify"}, "POST /backup/verify", reconcile.JobVerify, false, "checked 5 pages", 0, "Done: backup 20261122T030000Z-daily restores (checked 5 pages), took 24s.\n", ""},
		{"a quick check", []string{"verify", "latest", "--quick"}, "POST /backup/verify", reconcile.JobVerify, true, "3 parts", 0, "Done: what is stored of backup 20261122T030000Z-daily is whole (3 parts), took 24s.\n", ""},
		{"a proof that fails", []string{"verify"}, "POST /backup/verify", reconcile.JobVerify, false, "", 1, "See ramctrl backup show 20261122T030000Z-daily; a new backup is taken with: ramctrl backup create", "page 7 is damaged"},
		{"a restore point", []string{"point", "daily"}, "POST /backup/point", reconcile.JobPoint, false, "", 0, "Done: restore point daily is at LSN 0/5000060, took 24s.\nGo back to it with: ramctrl backup restore --to-point daily\n", ""},
	} {
		t.Run(rule.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := job12(rule.kind, reconcile.JobDone, 24, nil)
				end.Job.Quick, end.Job.Result.Text, end.Job.Result.LSN = rule.quick, rule.text, 0x5000060
				if rule.fails != "" {
					end.Job.State, end.Job.Error = reconcile.JobFailed, rule.fails
				}
				f := working(t, end)
				f.always(rule.call, job12(rule.kind, reconcile.JobRunning, 0, nil))
				got := operator{cluster: f}.run(context.Background(), append([]string{"backup"}, rule.args...)...)
				if got.code != rule.code || !strings.Contains(got.stdout+got.stderr, rule.says) || !strings.Contains(got.stderr, rule.fails) {
					t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
				}
			})
		})
	}
}

func TestVerifyAsksForTheLatestUnlessToldOtherwise(t *testing.T) {
	f := working(t, job12(reconcile.JobVerify, reconcile.JobDone, 1, nil))
	f.always("POST /backup/verify", job12(reconcile.JobVerify, reconcile.JobRunning, 0, nil))
	for _, c := range []struct {
		args []string
		want api.VerifyRequest
	}{
		{nil, api.VerifyRequest{Backup: "latest", By: "ann@desk"}},
		{[]string{dailyID, "--quick", "--node", "c", "--repository", "main"}, api.VerifyRequest{Repository: "main", Backup: dailyID, Quick: true, Node: "c", By: "ann@desk"}},
	} {
		if got := (operator{cluster: f}).run(t.Context(), append([]string{"backup", "verify", "--detach"}, c.args...)...); got.code != 0 {
			t.Fatalf("%+v", got)
		}
		var sent api.VerifyRequest
		f.sent("POST /backup/verify", &sent)
		if diff := cmp.Diff(c.want, sent); diff != "" {
			t.Error(diff)
		}
	}
}

func twoBackups() []api.BackupInfo {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	daily := api.BackupInfo{Repository: "main", CatalogBackup: reconcile.CatalogBackup{ID: dailyID, Name: "daily", Finished: at, Size: 1200 * pg.MB, Stored: 400 * pg.MB}}
	manual := api.BackupInfo{Repository: "main", CatalogBackup: reconcile.CatalogBackup{ID: manualID, Name: "before-migration", Finished: at.Add(7 * time.Hour), Size: 1200 * pg.MB, Stored: 400 * pg.MB, Broken: "a part is gone"}}
	return []api.BackupInfo{manual, daily}
}

func TestBackupList(t *testing.T) {
	f := newFake(t)
	f.always("GET /backups", twoBackups())
	got := operator{cluster: f}.run(t.Context(), "backup", "list")
	lines := strings.Split(got.stdout, "\n")
	if got.code != 0 || len(lines) != 4 || !strings.HasPrefix(lines[1], dailyID) || !strings.HasSuffix(lines[2], "BROKEN: a part is gone") {
		t.Errorf("%+v", got)
	}
	var out backupsOutput
	decodeOnly(t, operator{cluster: f}.run(t.Context(), "backup", "list", "-o", "json").stdout, &out)
	if out.Format != 1 || len(out.Backups) != 2 || out.Backups[0].ID != dailyID {
		t.Errorf("%+v", out)
	}
	f.on("GET /backups", func(_ int, r *http.Request) (any, error) {
		if r.URL.Query().Get("repository") != "offsite" {
			return nil, errors.New("another repository is asked for")
		}
		return []api.BackupInfo{}, nil
	})
	got = operator{cluster: f}.run(t.Context(), "backup", "list", "--repository", "offsite")
	if got.code != 0 || got.stdout != "There are no backups yet. Take one with: ramctrl backup create\n" {
		t.Errorf("%+v", got)
	}
	if got := (operator{cluster: f}).run(t.Context(), "backup", "list", "--repository", "offsite", "-o", "json"); !strings.Contains(got.stdout, `"backups": []`) {
		t.Errorf("%+v", got)
	}
}

func TestBackupShow(t *testing.T) {
	f := newFake(t)
	detail := api.BackupDetail{BackupInfo: twoBackups()[1], Objects: []api.BackupObject{{Name: "part-00001.tar.zst", SHA256: "ab12"}}}
	f.always("GET /backups/latest", detail)
	f.always("GET /backups/"+dailyID, detail)
	for _, c := range []struct {
		args    []string
		objects bool
	}{{nil, false}, {[]string{"latest", "-v"}, true}, {[]string{dailyID, "-o", "json"}, true}} {
		got := operator{cluster: f}.run(t.Context(), append([]string{"backup", "show"}, c.args...)...)
		if got.code != 0 || !strings.Contains(got.stdout, dailyID) || strings.Contains(got.stdout, "part-00001") != c.objects {
			t.Errorf("%q: %+v", c.args, got)
		}
	}
}

func TestNothingIsDeletedWithoutAYes(t *testing.T) {
	for _, rule := range []struct {
		name  string
		typed *string
		args  []string
		made  int
		says  string
	}{
		{"no terminal", nil, []string{dailyID}, 0, "there is no terminal to ask at, nothing was changed: add --auto-approve"},
		{"no", new("n\n"), []string{dailyID}, 0, "not approved: nothing was changed"},
		{"one that is not there", new("yes\n"), []string{dailyID, "20261101T030000Z-daily"}, 0, "there is no backup 20261101T030000Z-daily, nothing was deleted: see ramctrl backup list"},
		{"yes", new("yes\n"), []string{dailyID, manualID, dailyID}, 1, "Delete these 2 backups (800 MB) for good"},
		{"approved beforehand", nil, []string{dailyID, "--auto-approve"}, 1, "Done: deleted " + dailyID + ", and 7 files of WAL"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := job12(reconcile.JobPrune, reconcile.JobDone, 1, nil)
				end.Job.Result = reconcile.JobResult{Deleted: []string{dailyID}, Segments: 7}
				f := working(t, end)
				f.always("GET /backups", twoBackups())
				f.always("POST /backup/delete", job12(reconcile.JobPrune, reconcile.JobRunning, 0, nil))
				got := operator{cluster: f, answers: rule.typed}.run(context.Background(), append([]string{"backup", "delete"}, rule.args...)...)
				if f.made("POST /backup/delete") != rule.made || !strings.Contains(got.stdout+got.stderr, rule.says) || (got.code == 0) != (rule.made == 1) {
					t.Errorf("%+v", got)
				}
				if rule.name == "yes" {
					var sent api.DeleteRequest
					f.sent("POST /backup/delete", &sent)
					if diff := cmp.Diff([]string{dailyID, manualID}, sent.Backups); diff != "" {
						t.Error(diff)
					}
				}
			})
		})
	}
}

func TestCancelWaitsUntilTheJobHasEnded(t *testing.T) {
	for _, rule := range []struct {
		name  string
		state reconcile.JobState
		code  int
		says  string
	}{
		{"cancelled", reconcile.JobCancelled, 0, "Job 12 (back up daily) is cancelled: nothing of it is to be seen in the repository.\n"},
		{"done before", reconcile.JobDone, 1, "job 12 (back up daily) had ended before it could be given up: it is done"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				going := job12(reconcile.JobBackup, reconcile.JobRunning, 2, copied(pg.MB))
				going.Job.Cancelled = "ann@desk"
				end := going
				end.Job.State = rule.state
				f := working(t, going, end)
				f.always("POST /backup/cancel", going)
				got := operator{cluster: f}.run(context.Background(), "backup", "cancel", "12")
				var sent api.CancelRequest
				f.sent("POST /backup/cancel", &sent)
				if got.code != rule.code || !strings.Contains(got.stdout+got.stderr, rule.says) || sent.Job != 12 || !strings.Contains(got.stdout, "is being given up") {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

func TestJobsAreListedByKindAndFollowedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := working(t, taken())
		verify := job12(reconcile.JobVerify, reconcile.JobDone, 3, nil)
		verify.Job.ID = 11
		f.always("GET /jobs", []api.JobAnswer{verify, taken()})
		for _, c := range []struct {
			args []string
			want []uint64
		}{{nil, []uint64{11, 12}}, {[]string{"--kind", "verify"}, []uint64{11}}, {[]string{"-n", "1"}, []uint64{12}}, {[]string{"--kind", "point"}, nil}} {
			got := operator{cluster: f}.run(context.Background(), append([]string{"backup", "jobs", "-o", "json"}, c.args...)...)
			var out jobsOutput
			decodeOnly(t, got.stdout, &out)
			var ids []uint64
			for _, j := range out.Jobs {
				ids = append(ids, j.Job.ID)
			}
			if diff := cmp.Diff(c.want, ids); diff != "" {
				t.Errorf("%q: %s", c.args, diff)
			}
		}
		got := operator{cluster: f}.run(context.Background(), "backup", "jobs", "--kind", "point")
		if got.stdout != "There was no such job yet. Take a backup with: ramctrl backup create\n" {
			t.Errorf("%+v", got)
		}
		got = operator{cluster: f}.run(context.Background(), "backup", "jobs", "--follow", "12")
		if got.code != 0 || !strings.HasPrefix(got.stdout, "Done: backup "+dailyID) {
			t.Errorf("%+v", got)
		}
	})
}

func TestBackupUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		says string
	}{
		{"backup bogus", `unknown command "bogus" for "ramctrl backup"`},
		{"backup create --name Daily", `backup name "Daily" cannot be used`},
		{"backup create --name ../x", `backup name "../x" cannot be used`},
		{"backup create now", "unknown command"},
		{"backup point", "accepts 1 arg"},
		{"backup point Before", `"Before" cannot be used`},
		{"backup verify yesterday", `"yesterday" is not the identifier of a backup`},
		{"backup show a/../b", "is not the identifier of a backup"},
		{"backup delete", "requires at least 1 arg"},
		{"backup delete latest", "name backups by their IDs, not as latest"},
		{"backup cancel first", `"first" is not the number of a job`},
		{"backup jobs --kind clone", "--kind clone: write one of backup, verify, prune, point"},
		{"backup restore --to-lsn 5", `--to-lsn "5" is not of the form`},
		{"backup restore --to-lsn 0/0", `--to-lsn "0/0" is not of the form`},
		{"backup restore --to-lsn 0/1 --to-backup-end", "--to-lsn and --to-backup-end: there is one point to restore to"},
		{"backup restore --to-time yesterday", `--to-time "yesterday" is not a time`},
		{"backup restore --backup yesterday", "is not the identifier of a backup"},
		{"backup restore --abort --node b", "--abort takes no target"},
		{"reinit b --from disk", `--from "disk": write primary, backup or backup:ID`},
		{"reinit b --from backup:x", "is not the identifier of a backup"},
		{"reinit b --repository main", "--repository goes with --from backup"},
	} {
		f := newFake(t)
		got := operator{cluster: f}.run(t.Context(), strings.Fields(c.args)...)
		if got.code != exitUsage || !strings.Contains(got.stderr, c.says) || len(f.calls) > 0 {
			t.Errorf("%s: %+v, %q", c.args, got, f.calls)
		}
	}
}

func TestReinitFromABackup(t *testing.T) {
	c := demoSpec()
	c.Repositories = []spec.Repository{{Name: "main", URL: "file:///srv/backups"}}
	two := demoSpec()
	two.Repositories = []spec.Repository{{Name: "main"}, {Name: "offsite"}}
	order := func(repository, id string) *reconcile.RestoreOrder {
		return &reconcile.RestoreOrder{Repository: repository, Backup: id}
	}
	for _, rule := range []struct {
		name string
		spec *spec.Cluster
		args []string
		code int
		want *reconcile.RestoreOrder
		says string
	}{
		{"the primary", c, nil, 0, nil, "clone it anew from a?"},
		{"the latest", c, []string{"--from", "backup"}, 0, order("main", "latest"), "restore it from the latest backup in repository main?"},
		{"one by its ID", two, []string{"--from", "backup:" + dailyID, "--repository", "offsite"}, 0, order("offsite", dailyID), "restore it from backup " + dailyID + " in repository offsite?"},
		{"several repositories", two, []string{"--from", "backup"}, 2, nil, "name one of main, offsite with --repository"},
		{"a repository that is not there", c, []string{"--from", "backup", "--repository", "x"}, 2, nil, `there is no repository "x": the spec has main`},
		{"no repository", demoSpec(), []string{"--from", "backup"}, 1, nil, "the spec names no repository"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			f := newFake(t)
			s := scene(led("a", true, back))
			f.always("GET /status", s)
			f.always("GET /spec", api.SpecAnswer{Revision: 3, Spec: rule.spec})
			f.always("POST /reinit", api.RunStarted{Run: 7})
			got := typing(f, "yes\n").run(t.Context(), append([]string{"reinit", "b", "--detach"}, rule.args...)...)
			if got.code != rule.code || !strings.Contains(got.stdout+got.stderr, rule.says) {
				t.Fatalf("%+v", got)
			}
			if rule.code != 0 {
				if f.made("POST /reinit") > 0 {
					t.Error("it was asked for all the same")
				}
				return
			}
			var sent api.NodesRequest
			f.sent("POST /reinit", &sent)
			if diff := cmp.Diff(rule.want, sent.Restore); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestKeygen(t *testing.T) {
	f := newFake(t)
	got := operator{cluster: f}.run(t.Context(), "backup", "keygen")
	if _, err := age.ParseIdentities(strings.NewReader(got.stdout)); err != nil || got.code != 0 {
		t.Errorf("%v: %+v", err, got)
	}
	if !strings.Contains(got.stderr, "EVERY node") || strings.Contains(got.stderr, "AGE-SECRET-KEY") {
		t.Errorf("standard error: %s", got.stderr)
	}

	path := filepath.Join(t.TempDir(), "backup.key")
	got = operator{cluster: f}.run(t.Context(), "backup", "keygen", "--out", path)
	text, err := os.ReadFile(path)
	if err != nil || got.code != 0 || strings.Contains(got.stdout+got.stderr, "AGE-SECRET-KEY") {
		t.Fatalf("%v: %+v", err, got)
	}
	if _, err := age.ParseIdentities(strings.NewReader(string(text))); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	again := operator{cluster: f}.run(t.Context(), "backup", "keygen", "--out", path, "-o", "json")
	after, err := os.ReadFile(path)
	if err != nil || again.code != exitError || string(after) != string(text) || !strings.Contains(again.stderr, "is there already, nothing was written") {
		t.Errorf("%v: %+v", err, again)
	}
	var out keyOutput
	decodeOnly(t, operator{cluster: f}.run(t.Context(), "backup", "keygen", "-o", "json").stdout, &out)
	if !strings.Contains(out.Key, "AGE-SECRET-KEY-1") {
		t.Error("no key in the JSON")
	}
	if len(f.calls) > 0 {
		t.Errorf("a cluster was asked: %q", f.calls)
	}
}

func TestCompletionKnowsBackupsJobsAndTheSpec(t *testing.T) {
	c := demoSpec()
	c.Repositories = []spec.Repository{{Name: "main"}, {Name: "offsite"}}
	c.Backups = []spec.Backup{{Name: "daily"}}
	f := newFake(t)
	f.always("GET /backups", twoBackups())
	f.always("GET /spec", api.SpecAnswer{Revision: 3, Spec: c})
	f.always("GET /jobs", []api.JobAnswer{taken(), func() api.JobAnswer {
		j := job12(reconcile.JobVerify, reconcile.JobRunning, 1, nil)
		j.Job.ID = 13
		return j
	}()})
	for args, want := range map[string][]string{
		"backup show ":                   {"latest", manualID, dailyID},
		"backup delete " + dailyID + " ": {manualID},
		"backup restore --backup ":       {"latest", manualID, dailyID},
		"backup cancel ":                 {"13"},
		"backup jobs --follow ":          {"13", "12"},
		"backup jobs --kind ":            {"backup", "verify", "prune", "point"},
		"backup list --repository ":      {"main", "offsite"},
		"backup create --from ":          {"standby", "primary", "a", "b"},
		"backup create --schedule ":      {"daily"},
		"backup verify latest ":          nil,
		"reinit b --from ":               {"primary", "backup", "backup:" + manualID, "backup:" + dailyID},
		"backup ":                        {"cancel", "create", "delete", "jobs", "keygen", "list", "point", "restore", "show", "takeover", "verify"},
	} {
		words := append([]string{"__complete"}, strings.Split(args, " ")...)
		got := operator{cluster: f}.run(t.Context(), words...)
		var offered []string
		for line := range strings.Lines(got.stdout) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if word != "" && !strings.HasPrefix(word, ":") {
				offered = append(offered, word)
			}
		}
		if diff := cmp.Diff(want, offered); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
	silent := operator{cluster: newFake(t)}.run(t.Context(), "__complete", "backup", "show", "")
	if silent.code != 0 || strings.TrimSpace(silent.stdout) != ":4" {
		t.Errorf("without a cluster: %+v", silent)
	}
}

func TestMeterTellsTheRateOfLate(t *testing.T) {
	var m meter
	report := func(seconds float64, done pg.Bytes) {
		m.read(reconcile.JobReport{For: time.Duration(seconds * float64(time.Second)), Done: done})
	}
	check := func(rule string, rate, mean float64) {
		t.Helper()
		if m.rate() != rate || m.mean() != mean {
			t.Errorf("%s: rate %v, mean %v", rule, m.rate(), m.mean())
		}
	}
	check("nothing seen", 0, 0)
	report(5, 1000)
	check("one look tells nothing", 0, 0)
	report(7, 3000)
	check("from where it was first seen", 1000, 1000)
	report(7, 3000)
	check("the same again changes nothing", 1000, 1000)
	for s := 8; s <= 40; s++ {
		report(float64(s), 3000+pg.Bytes(s-7)*100)
	}
	check("it has become slower", 100, 5300.0/35)
	report(41, 50)
	check("something else is counted", 0, 0)
}

// The whole answer of a job is in the JSON, for scripts that want more.
func TestJSONOfAJobIsWhole(t *testing.T) {
	f := working(t, taken())
	got := operator{cluster: f}.run(t.Context(), "backup", "create", "-o", "json")
	var out map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &out); err != nil {
		t.Fatal(err)
	}
	job, _ := out["job"].(map[string]any)
	result, _ := job["result"].(map[string]any)
	if out["format"] != 1.0 || out["outcome"] != "done" || out["elapsed_ms"] != 24000.0 || job["state"] != "done" || result["backup"] != dailyID {
		t.Errorf("%s", got.stdout)
	}
}

func TestARepositoryIsTakenOverOnlyOnTheOperatorsWord(t *testing.T) {
	for _, rule := range []struct {
		name   string
		found  api.TakeoverAnswer
		args   []string
		code   int
		asked  bool // the cluster was asked to do it
		output string
	}{
		{"it is this cluster's", api.TakeoverAnswer{Repository: "main", Own: true}, nil, exitDone, false, "belongs to this cluster already"},
		{"nobody can be asked", api.TakeoverAnswer{Repository: "main", ClusterID: "x"}, nil, exitError, false, "--auto-approve"},
		{"with the word", api.TakeoverAnswer{Repository: "main", ClusterID: "x"}, []string{"--auto-approve"}, exitDone, true, "belongs to this cluster now"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			f := newFake(t)
			f.always("POST /backup/takeover", rule.found)
			got := operator{cluster: f}.run(context.Background(), append([]string{"backup", "takeover"}, rule.args...)...)
			if got.code != rule.code || !strings.Contains(got.stdout+got.stderr, rule.output) {
				t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
			}
			var sent api.TakeoverRequest
			f.sent("POST /backup/takeover", &sent)
			if sent.DryRun == rule.asked {
				t.Errorf("sent %+v", sent)
			}
		})
	}
}
