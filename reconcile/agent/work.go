package agent

import (
	"context"
	"errors"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Worker does the jobs that a node is given beside its assignment.
type Worker interface {
	// Work does one job and reports how far it has come as often as it likes. When ctx
	// ends it stops soon and leaves nothing that looks whole and is not.
	Work(ctx context.Context, job reconcile.Job, progress func(phase string, done, total pg.Bytes)) (reconcile.JobResult, error)
}

// work is the job that this process was given last.
type work struct {
	job    reconcile.Job
	begun  time.Time
	cancel context.CancelFunc
	report reconcile.JobReport // For is filled in when it is read
}

// employ takes the leader's word on what the node's job is. One that was begun is given
// up when the leader cancels it or knows nothing of it any more; what has ended is
// reported until the leader has taken note.
func (a *Agent) employ(ctx context.Context, job *reconcile.Job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.cfg.Worker == nil:
		return
	case a.employed != nil && (job == nil || job.ID != a.employed.job.ID):
		a.employed.cancel()
		a.employed = nil
	case a.employed != nil && job.Cancelled != "":
		a.employed.cancel()
	}
	if job == nil || a.employed != nil || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &work{job: *job, begun: time.Now(), cancel: cancel, report: reconcile.JobReport{ID: job.ID, State: reconcile.JobRunning}}
	if job.Cancelled != "" {
		cancel()
	}
	a.employed = w
	a.beats.Go(func() { a.labour(ctx, w) })
	signal(a.report)
}

func (a *Agent) labour(ctx context.Context, w *work) {
	defer w.cancel()
	log := a.cfg.Logger.With().Uint64("job", w.job.ID).Str("kind", string(w.job.Kind)).Logger()
	log.Info().Str("what", w.job.Title()).Msg("job begins")
	result, err := a.cfg.Worker.Work(ctx, w.job, func(phase string, done, total pg.Bytes) {
		a.mu.Lock()
		defer a.mu.Unlock()
		w.report.Phase, w.report.Done, w.report.Total = phase, done, total
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	w.report.State, w.report.Result = reconcile.JobDone, result
	switch {
	case err != nil && (errors.Is(err, context.Canceled) || ctx.Err() != nil):
		w.report.State = reconcile.JobCancelled
		log.Info().Msg("job given up")
	case err != nil:
		w.report.State, w.report.Error = reconcile.JobFailed, err.Error()
		log.Warn().Err(err).Msg("job failed")
	default:
		log.Info().Dur("took", time.Since(w.begun)).Msg("job done")
	}
	w.report.For = time.Since(w.begun)
	signal(a.report)
}

// jobReport is what is said of the job; nil for none. It is called with mu held.
func (a *Agent) jobReport(now time.Time) *reconcile.JobReport {
	if a.employed == nil {
		return nil
	}
	r := a.employed.report
	if r.State == reconcile.JobRunning {
		r.For = now.Sub(a.employed.begun)
	}
	return &r
}
