package daemon

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/ident"
	"github.com/ramhq/ram/pg/backup/wal"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

func (l *life) depot() depot { return depot{l.machine.Record, l.dataDir} }

// Backups is api.Backend's. Every repository of the spec is read when none is named.
func (b backend) Backups(ctx context.Context, name string) ([]api.BackupInfo, error) {
	l, err := b.now()
	if err != nil {
		return nil, err
	}
	names := []string{name}
	if c := l.machine.Record().Spec; name == "" && c != nil && len(c.Repositories) > 0 {
		names = nil
		for _, r := range c.Repositories {
			names = append(names, r.Name)
		}
	}
	list := []api.BackupInfo{}
	for _, name := range names {
		entries, err := l.entries(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			list = append(list, backupInfo(name, e))
		}
	}
	slices.SortStableFunc(list, func(a, b api.BackupInfo) int { return a.Started.Compare(b.Started) })
	return list, nil
}

func (l *life) entries(ctx context.Context, name string) ([]backup.Entry, error) {
	repository, err := l.openRepository(ctx, name)
	if err != nil {
		return nil, err
	}
	defer repository.Close()
	return repository.Backups(ctx)
}

// openRepository opens a repository for an operator's request.
func (l *life) openRepository(ctx context.Context, name string) (*backup.Repository, error) {
	if _, err := l.depot().find(name); err != nil {
		return nil, api.Errorf(http.StatusBadRequest, "%s", err)
	}
	repository, err := l.depot().open(ctx, name)
	if err != nil {
		return nil, api.Errorf(http.StatusServiceUnavailable, "%s", err)
	}
	return repository, nil
}

// Backup is api.Backend's.
func (b backend) Backup(ctx context.Context, name, id string) (api.BackupDetail, error) {
	var detail api.BackupDetail
	l, err := b.now()
	if err != nil {
		return detail, err
	}
	repository, err := l.openRepository(ctx, name)
	if err != nil {
		return detail, err
	}
	defer repository.Close()
	entry, err := namedBackup(ctx, repository, id)
	if err != nil {
		return detail, err
	}
	found, err := l.depot().find(name)
	if err != nil {
		return detail, err
	}
	detail.BackupInfo = backupInfo(found.Name, entry)
	for _, p := range entry.Parts {
		detail.Objects = append(detail.Objects, api.BackupObject{Name: p.Object, Stored: pg.Bytes(p.Size), Plain: pg.Bytes(p.Plain), SHA256: p.SHA256})
	}
	if entry.Damaged == "" {
		detail.Reach = reachOf(ctx, repository, entry)
	}
	return detail, nil
}

// namedBackup is a backup by its ID, or the latest.
func namedBackup(ctx context.Context, repository *backup.Repository, id string) (backup.Entry, error) {
	entries, err := repository.Backups(ctx)
	if err != nil {
		return backup.Entry{}, err
	}
	if id == "" || id == reconcile.BackupLatest {
		if len(entries) == 0 {
			return backup.Entry{}, api.Errorf(http.StatusNotFound, "there is no backup yet: ramctrl backup create makes one")
		}
		return entries[len(entries)-1], nil
	}
	i := slices.IndexFunc(entries, func(e backup.Entry) bool { return e.ID == id })
	if i < 0 {
		return backup.Entry{}, api.Errorf(http.StatusNotFound, "there is no backup %q: see ramctrl backup list", id)
	}
	return entries[i], nil
}

// reachOf is how far recovery can go from a backup: without WAL in the repository, to its end.
func reachOf(ctx context.Context, repository *backup.Repository, e backup.Entry) *api.BackupReach {
	reach := &api.BackupReach{From: e.StopLSN, To: e.StopLSN, Timeline: e.Timeline, Since: e.Finished, Until: e.Finished}
	r, err := wal.Reach(ctx, repository, e)
	if err != nil {
		return reach
	}
	reach.Timeline = r.Timeline
	if r.To > reach.To {
		reach.To, reach.Until = r.To, r.Until
	}
	if len(r.Gaps) > 0 {
		reach.Gap = r.Gaps[0].First
	}
	return reach
}

func catalogBackup(e backup.Entry) reconcile.CatalogBackup {
	c := reconcile.CatalogBackup{
		ID: e.ID, Name: e.Name, Node: e.Node, Started: e.Started, Finished: e.Finished, Timeline: e.Timeline,
		StartLSN: e.StartLSN, StopLSN: e.StopLSN, Size: pg.Bytes(e.Size), Stored: pg.Bytes(e.Stored), Broken: e.Damaged,
	}
	switch {
	case e.Proof == nil:
	case e.Proof.OK:
		c.Proved = e.Proof.At
	case c.Broken == "":
		c.Broken = e.Proof.Error
	}
	return c
}

func backupInfo(repository string, e backup.Entry) api.BackupInfo {
	info := api.BackupInfo{
		CatalogBackup: catalogBackup(e), Repository: repository, Cluster: e.Cluster, Role: e.Role, Version: e.ServerVersion,
		SystemID: e.SystemID.String(), Compression: e.Compression, Encrypted: e.Encrypted, Parts: len(e.Parts), By: e.By,
	}
	if p := e.Proof; p != nil {
		info.Proof = &api.BackupProof{
			At: p.At, Node: p.Node, OK: p.OK, Error: p.Error, Took: p.Took, LSN: p.RestoredLSN, Timeline: p.Timeline,
			Pages: p.Pages, Indexes: p.Indexes,
		}
	}
	return info
}

// CreateBackup is api.Backend's.
func (b backend) CreateBackup(ctx context.Context, r api.BackupRequest) (api.JobAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.JobAnswer{}, err
	}
	rec := l.machine.Record()
	if err := mayBegin(rec); err != nil {
		return api.JobAnswer{}, err
	}
	job, from, err := plannedBackup(rec, r)
	if err != nil {
		return api.JobAnswer{}, err
	}
	if job.Node, job.Note, err = reconcile.BackupSource(rec, l.leader.Observed(), from); err != nil {
		return api.JobAnswer{}, api.Errorf(http.StatusConflict, "%s", err)
	}
	return l.begin(ctx, job)
}

// plannedBackup is what an operator's request comes to with what the spec says.
func plannedBackup(rec *reconcile.Record, r api.BackupRequest) (job reconcile.Job, from string, err error) {
	job = reconcile.Job{Kind: reconcile.JobBackup, Repository: r.Repository, Name: r.Name, By: r.By, Attempt: 1}
	from = r.From
	block, err := backupBlock(rec, r.Schedule)
	if err != nil {
		return job, from, err
	}
	job.Repository, job.Name, from = first(job.Repository, block.Repository), first(job.Name, block.Name), first(from, block.From)
	found, err := depot{record: func() *reconcile.Record { return rec }}.find(job.Repository)
	if err != nil {
		return job, from, api.Errorf(http.StatusBadRequest, "%s", err)
	}
	job.Repository = found.Name
	job.Name, from = first(job.Name, "manual"), first(from, spec.FromStandby)
	if err := ident.ValidName(job.Name); err != nil {
		return job, from, api.Errorf(http.StatusBadRequest, "%s", err)
	}
	return job, from, nil
}

// backupBlock is the block of that name, or the only one; the zero block when there is
// no single one and none was named.
func backupBlock(rec *reconcile.Record, name string) (spec.Backup, error) {
	if rec.Spec == nil {
		return spec.Backup{}, api.Errorf(http.StatusConflict, "no spec has been applied yet: ramctrl apply")
	}
	if name == "" {
		if len(rec.Spec.Backups) == 1 {
			return rec.Spec.Backups[0], nil
		}
		return spec.Backup{}, nil
	}
	for _, b := range rec.Spec.Backups {
		if b.Name == name {
			return b, nil
		}
	}
	return spec.Backup{}, api.Errorf(http.StatusNotFound, "the spec has no backup %q", name)
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// VerifyBackup is api.Backend's.
func (b backend) VerifyBackup(ctx context.Context, r api.VerifyRequest) (api.JobAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.JobAnswer{}, err
	}
	rec, obs := l.machine.Record(), l.leader.Observed()
	if err := mayBegin(rec); err != nil {
		return api.JobAnswer{}, err
	}
	repository, err := l.openRepository(ctx, r.Repository)
	if err != nil {
		return api.JobAnswer{}, err
	}
	defer repository.Close()
	entry, err := namedBackup(ctx, repository, r.Backup)
	if err != nil {
		return api.JobAnswer{}, err
	}
	found, err := l.depot().find(r.Repository)
	if err != nil {
		return api.JobAnswer{}, err
	}
	job := reconcile.Job{Kind: reconcile.JobVerify, Repository: found.Name, Backup: entry.ID, Name: entry.Name, Quick: r.Quick, Node: r.Node, By: r.By, Attempt: 1}
	if job.Node == "" {
		if job.Node, err = reconcile.Verifier(rec, obs, catalogBackup(entry)); err != nil {
			return api.JobAnswer{}, api.Errorf(http.StatusConflict, "%s", err)
		}
	}
	if n, known := rec.Spec.Node(job.Node); !known || n.Witness || !obs.Nodes[job.Node].Reachable {
		return api.JobAnswer{}, api.Errorf(http.StatusConflict, "node %q holds no data, or its ramd does not answer: name another", job.Node)
	}
	return l.begin(ctx, job)
}

// DeleteBackups is api.Backend's. The newest backup that was proven to restore stays,
// as does the last one of all (S7).
func (b backend) DeleteBackups(ctx context.Context, r api.DeleteRequest) (api.JobAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.JobAnswer{}, err
	}
	entries, err := l.entries(ctx, r.Repository)
	if err != nil {
		return api.JobAnswer{}, err
	}
	found, err := l.depot().find(r.Repository)
	if err != nil {
		return api.JobAnswer{}, err
	}
	if len(r.Backups) == 0 {
		return api.JobAnswer{}, api.Errorf(http.StatusBadRequest, "name the backups to delete: see ramctrl backup list")
	}
	for _, id := range r.Backups {
		if !slices.ContainsFunc(entries, func(e backup.Entry) bool { return e.ID == id }) {
			return api.JobAnswer{}, api.Errorf(http.StatusNotFound, "there is no backup %q: see ramctrl backup list", id)
		}
	}
	if why := mustStay(entries, r.Backups); why != "" {
		return api.JobAnswer{}, api.Errorf(http.StatusConflict, "%s", why)
	}
	return l.begin(ctx, reconcile.Job{
		Kind: reconcile.JobPrune, Repository: found.Name, Delete: r.Backups, Node: l.machine.Record().Primary, By: r.By, Attempt: 1,
	})
}

// mustStay is why a list of backups may not be deleted; empty when it may.
func mustStay(entries []backup.Entry, ids []string) string {
	left := 0
	for _, e := range entries {
		if e.Damaged == "" && !slices.Contains(ids, e.ID) {
			left++
		}
	}
	proved := -1
	for i, e := range entries {
		if e.Damaged == "" && e.Proof != nil && e.Proof.OK {
			proved = i
		}
	}
	switch {
	case left == 0 && len(entries) > 0:
		return "that would leave no backup at all: make another one first (ramctrl backup create)"
	case proved >= 0 && slices.Contains(ids, entries[proved].ID):
		return "backup " + entries[proved].ID + " is the newest that was proven to restore: verify a newer one first (ramctrl backup verify)"
	}
	return ""
}

// RestorePoint is api.Backend's.
func (b backend) RestorePoint(ctx context.Context, r api.PointRequest) (api.JobAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.JobAnswer{}, err
	}
	if err := ident.ValidName(r.Name); err != nil {
		return api.JobAnswer{}, api.Errorf(http.StatusBadRequest, "%s", err)
	}
	rec := l.machine.Record()
	if rec.Spec == nil || rec.Spec.Archive == nil {
		return api.JobAnswer{}, api.Errorf(http.StatusConflict, "nothing leads to a restore point without an archive of WAL: add archive { repository = \"...\" } to the spec")
	}
	return l.begin(ctx, reconcile.Job{
		Kind: reconcile.JobPoint, Repository: rec.Spec.Archive.Repository, Name: r.Name, Node: rec.Primary, By: r.By, Attempt: 1,
	})
}

// CancelJob is api.Backend's.
func (b backend) CancelJob(ctx context.Context, r api.CancelRequest) (api.JobAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.JobAnswer{}, err
	}
	job := l.machine.Record().Job
	if job == nil || r.Job != 0 && job.ID != r.Job {
		return api.JobAnswer{}, api.Errorf(http.StatusConflict, "no such job is under way: see ramctrl backup jobs")
	}
	after, err := l.ledger().propose(ctx, reconcile.Command{At: time.Now().UTC(), By: r.By, Cancel: &reconcile.CancelJob{ID: job.ID}})
	if err != nil {
		return api.JobAnswer{}, err
	}
	return l.jobAnswer(after, job.ID)
}

// mayBegin is why no job can begin now.
func mayBegin(rec *reconcile.Record) error {
	switch {
	case rec.Job != nil:
		return api.Errorf(http.StatusConflict, "job %d (%s) is under way: wait for its end, or ramctrl backup cancel", rec.Job.ID, rec.Job.Title())
	case rec.Restoring != nil:
		return api.Errorf(http.StatusConflict, "the cluster is being restored: wait for its end")
	case rec.SystemID == 0:
		return api.Errorf(http.StatusConflict, "the cluster has no data yet")
	}
	return nil
}

// begin records a job that an operator asks for.
func (l *life) begin(ctx context.Context, job reconcile.Job) (api.JobAnswer, error) {
	if err := mayBegin(l.machine.Record()); err != nil {
		return api.JobAnswer{}, err
	}
	if job.Node == "" {
		return api.JobAnswer{}, api.Errorf(http.StatusConflict, "there is no primary at present: try again when there is one")
	}
	after, err := l.ledger().propose(ctx, reconcile.Command{At: time.Now().UTC(), By: job.By, Begin: &reconcile.BeginJob{Job: job}})
	if err != nil {
		return api.JobAnswer{}, err
	}
	return l.jobAnswer(after, after.LastJob)
}

var errNoJob = errors.New("no such job")

func (l *life) jobAnswer(rec *reconcile.Record, id uint64) (api.JobAnswer, error) {
	for _, answer := range l.jobAnswers(rec) {
		if answer.Job.ID == id {
			return answer, nil
		}
	}
	return api.JobAnswer{}, errNoJob
}

func (l *life) jobAnswers(rec *reconcile.Record) []api.JobAnswer {
	answers := []api.JobAnswer{}
	for _, j := range rec.Jobs {
		answers = append(answers, api.JobAnswer{Job: j, Elapsed: j.Finished.Sub(j.Begun)})
	}
	if j := rec.Job; j != nil {
		answer := api.JobAnswer{Job: *j, Elapsed: time.Since(j.Begun)}
		if report := l.leader.Observed().Nodes[j.Node].Report.Job; report != nil && report.ID == j.ID {
			answer.Progress = report
		}
		answers = append(answers, answer)
	}
	return answers
}

// Jobs is api.Backend's.
func (b backend) Jobs(context.Context) ([]api.JobAnswer, error) {
	l, err := b.now()
	if err != nil {
		return nil, err
	}
	return l.jobAnswers(l.machine.Record()), nil
}

// Job is api.Backend's.
func (b backend) Job(_ context.Context, id uint64) (api.JobAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.JobAnswer{}, err
	}
	answer, err := l.jobAnswer(l.machine.Record(), id)
	if err != nil {
		return answer, api.Errorf(http.StatusNotFound, "there is no job %d: see ramctrl backup jobs", id)
	}
	return answer, nil
}
