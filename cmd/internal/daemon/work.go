package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/pg/backup/ident"
	"github.com/ramhq/ram/pg/backup/restore"
	"github.com/ramhq/ram/pg/backup/take"
	"github.com/ramhq/ram/pg/backup/wal"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/reconcile"
)

// worker is agent.Worker: it does the node's jobs on backups.
type worker struct {
	host  *host
	depot depot
}

// Work is agent.Worker's.
func (w worker) Work(ctx context.Context, job reconcile.Job, progress func(phase string, done, total pg.Bytes)) (reconcile.JobResult, error) {
	// The buffers of a job are many times what ramd needs at rest.
	defer debug.FreeOSMemory()
	switch job.Kind {
	case reconcile.JobBackup:
		return w.backUp(ctx, job, progress)
	case reconcile.JobVerify:
		return w.verify(ctx, job, progress)
	case reconcile.JobPrune:
		return w.prune(ctx, job, progress)
	case reconcile.JobPoint:
		return w.point(ctx, job)
	}
	return reconcile.JobResult{}, fmt.Errorf("this ramd does not know how to %q: upgrade it", job.Kind)
}

func (w worker) backUp(ctx context.Context, job reconcile.Job, progress func(string, pg.Bytes, pg.Bytes)) (reconcile.JobResult, error) {
	var result reconcile.JobResult
	secrets, ok := w.host.secrets()
	if !ok {
		return result, errNoSecrets
	}
	repository, err := w.depot.own(ctx, job.Repository)
	if err != nil {
		return result, err
	}
	defer repository.Close()
	if err := w.sweep(ctx, repository); err != nil {
		return result, err
	}
	id, err := ident.NewID(time.Now(), job.Name)
	if err != nil {
		return result, err
	}
	server := w.host.address()
	rec := w.depot.record()
	entry, err := take.Take(ctx, take.Options{
		Repository: repository, ID: id, Cluster: rec.Cluster, Node: w.host.name, By: job.By, SystemID: rec.SystemID,
		Conninfo: pg.Conninfo{
			"host": server.Host, "port": strconv.Itoa(server.Port), "user": reconcile.ReplicationRole, "application_name": "ramd backup",
		},
		Password: secrets.Replication,
		Progress: func(done, total pg.Bytes) { progress("backing up", done, total) },
		Logger:   w.host.log, Now: time.Now,
	})
	if err == nil {
		err = w.stillOwned(ctx, repository, entry.ID)
	}
	if err != nil {
		return result, err
	}
	result = reconcile.JobResult{
		Backup: entry.ID, LSN: entry.StopLSN, Timeline: entry.Timeline, Size: pg.Bytes(entry.Size), Stored: pg.Bytes(entry.Stored),
		Text: fmt.Sprintf("%s, %s stored as %s", entry.ID, pg.Bytes(entry.Size).About(), pg.Bytes(entry.Stored).About()),
	}
	result.Catalog, err = catalogOf(ctx, repository)
	return result, err
}

// stillOwned makes sure that a backup has gone where the cluster's others are: under a
// mount point whose file system has gone away it would be lost with the next mount.
func (w worker) stillOwned(ctx context.Context, repository *backup.Repository, id string) error {
	owner, err := repository.Owner(ctx)
	switch {
	case errors.Is(err, backup.ErrNotFound):
		return errors.Join(errors.New("the repository went away while the backup was taken: see whether its file system is mounted"), repository.DeleteBackup(ctx, id))
	case err != nil:
		return err
	case owner.ClusterID != w.depot.owner().ClusterID:
		return errors.Join(fmt.Errorf("%w: it was taken over while the backup was taken", backup.ErrForeign), repository.DeleteBackup(ctx, id))
	}
	return nil
}

// sweep removes what backups that were interrupted have left. There is one job at a
// time in a cluster, so none of them is still being made.
func (w worker) sweep(ctx context.Context, repository *backup.Repository) error {
	remains, err := repository.Remains(ctx)
	if err != nil {
		return err
	}
	for _, id := range remains {
		w.host.log.Info().Str("backup", id).Msg("removing what an interrupted backup left")
		if err := repository.DeleteBackup(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (w worker) verify(ctx context.Context, job reconcile.Job, progress func(string, pg.Bytes, pg.Bytes)) (reconcile.JobResult, error) {
	result := reconcile.JobResult{Backup: job.Backup}
	repository, err := w.depot.own(ctx, job.Repository)
	if err != nil {
		return result, err
	}
	defer repository.Close()
	entry, err := repository.Backup(ctx, job.Backup)
	if err != nil {
		return result, err
	}
	if job.Quick {
		return w.compare(ctx, repository, entry, progress)
	}
	began := time.Now()
	checked, err := w.prove(ctx, repository, entry, progress)
	if ctx.Err() != nil || err != nil && !disproves(err) {
		return result, err
	}
	result.LSN, result.Timeline, result.Size = checked.LSN, checked.Timeline, pg.Bytes(entry.Size)
	result.Text = provedText(checked)
	return w.note(ctx, repository, result, backup.Proof{
		Took: time.Since(began), RestoredLSN: checked.LSN, Timeline: checked.Timeline,
		Pages: checked.Pages, Indexes: checked.Indexes, AmcheckDatabases: checked.Databases,
	}, err)
}

// compare reads what is stored of a backup. That all of it is there proves nothing, but
// damage disproves.
func (w worker) compare(ctx context.Context, repository *backup.Repository, entry backup.Entry, progress func(string, pg.Bytes, pg.Bytes)) (reconcile.JobResult, error) {
	result := reconcile.JobResult{Backup: entry.ID}
	began := time.Now()
	err := restore.CheckStored(ctx, repository, entry, func(done, total pg.Bytes) { progress("reading", done, total) })
	if err == nil {
		result.Text = fmt.Sprintf("all %d stored parts are as they were written", len(entry.Parts))
	}
	if err == nil || ctx.Err() != nil || !disproves(err) {
		return result, err
	}
	return w.note(ctx, repository, result, backup.Proof{Took: time.Since(began)}, err)
}

// note keeps with a backup what was found out about it: found is nil for a proof.
func (w worker) note(ctx context.Context, repository *backup.Repository, result reconcile.JobResult, proof backup.Proof, found error) (reconcile.JobResult, error) {
	proof.At, proof.Node, proof.OK = time.Now().UTC(), w.host.name, found == nil
	if found != nil {
		proof.Error = found.Error()
	}
	if err := repository.Prove(ctx, result.Backup, proof); err != nil {
		return result, errors.Join(found, err)
	}
	catalog, err := catalogOf(ctx, repository)
	result.Catalog = catalog
	return result, errors.Join(found, err)
}

// disproves reports whether an error says something of the backup, and not of the
// host on which it was to be restored.
func disproves(err error) bool {
	return errors.Is(err, backup.ErrDamaged) || errors.Is(err, backup.ErrNotFound) || errors.Is(err, instance.ErrCorrupt) || errors.Is(err, instance.ErrTarget)
}

func provedText(c instance.Checked) string {
	pages := "pages were not checked, since the cluster has no checksums"
	if c.Checksums {
		pages = fmt.Sprintf("%d pages", c.Pages)
	}
	return fmt.Sprintf("restored to LSN %s, checked %s and %d indexes", c.LSN, pages, c.Indexes)
}

func (w worker) prove(ctx context.Context, repository *backup.Repository, entry backup.Entry, progress func(string, pg.Bytes, pg.Bytes)) (instance.Checked, error) {
	inst, err := w.host.open(ctx, reconcile.Server{})
	if err != nil {
		return instance.Checked{}, err
	}
	return inst.Verify(ctx, instance.VerifyOptions{
		SystemID: entry.SystemID,
		Fetch:    fetchInto(repository, entry, scratchTablespaces, w.host, func(done, total pg.Bytes) { progress("restoring", done, total) }),
		RecoveryOptions: instance.RecoveryOptions{Progress: func(p instance.RecoveryProgress) {
			if p.Phase != instance.PhaseFetch {
				progress(p.Phase, pg.Bytes(p.Done), pg.Bytes(p.Total))
			}
		}},
	})
}

// prune deletes backups, and then the WAL that none of those that are left needs.
func (w worker) prune(ctx context.Context, job reconcile.Job, progress func(string, pg.Bytes, pg.Bytes)) (reconcile.JobResult, error) {
	var result reconcile.JobResult
	repository, err := w.depot.own(ctx, job.Repository)
	if err != nil {
		return result, err
	}
	defer repository.Close()
	for i, id := range job.Delete {
		progress(fmt.Sprintf("deleting %d of %d backups", i+1, len(job.Delete)), 0, 0)
		if err := repository.DeleteBackup(ctx, id); err != nil {
			return result, err
		}
		result.Deleted = append(result.Deleted, id)
	}
	if err := w.sweep(ctx, repository); err != nil {
		return result, err
	}
	progress("deleting WAL", 0, 0)
	kept, err := repository.Backups(ctx)
	if err != nil {
		return result, err
	}
	expired, err := wal.Expire(ctx, repository, kept)
	if err != nil {
		return result, err
	}
	result.Segments = expired.Objects
	result.Text = fmt.Sprintf("%s, and %d files of WAL that only they needed", strings.Join(result.Deleted, ", "), expired.Objects)
	result.Catalog, err = catalogOf(ctx, repository)
	return result, err
}

// point writes a named restore point into the primary's WAL.
func (w worker) point(ctx context.Context, job reconcile.Job) (reconcile.JobResult, error) {
	inst, err := w.host.open(ctx, reconcile.Server{})
	if err != nil {
		return reconcile.JobResult{}, err
	}
	lsn, err := inst.RestorePoint(ctx, job.Name)
	return reconcile.JobResult{LSN: lsn, Text: "LSN " + lsn.String()}, err
}
