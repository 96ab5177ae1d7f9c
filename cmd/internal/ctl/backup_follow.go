package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

// What became of a job, besides the outcomes of an apply.
const (
	outcomeFailed    = "failed"
	outcomeCancelled = "cancelled"
)

// jobResult is the -o json of commands that begin a job or follow one.
type jobResult struct {
	Format    int           `json:"format"`
	Outcome   string        `json:"outcome"`
	Reason    string        `json:"reason,omitempty"`
	Job       reconcile.Job `json:"job"`
	ElapsedMS int64         `json:"elapsed_ms,omitempty"`
}

// startJob begins a job and follows it.
func (a *app) startJob(ctx context.Context, f runFlags, begin func(*api.Client) (api.JobAnswer, error)) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	answer, err := begin(client)
	if err != nil {
		return err
	}
	if f.detach {
		a.say("Job %d has begun: %s. %s", answer.Job.ID, onNode(answer.Job), followJobHint(answer.Job.ID))
		return a.jobEnded(answer, ending{outcome: outcomeDetached})
	}
	a.say("Job %d: %s.", answer.Job.ID, onNode(answer.Job))
	if answer.Job.Note != "" {
		a.say("Note: %s.", strings.TrimSuffix(answer.Job.Note, "."))
	}
	last, end := a.followJob(ctx, client, answer, f.timeout)
	return a.tellJob(last, end)
}

func onNode(j reconcile.Job) string {
	title := render.JobTitle(j)
	if j.Node == "" {
		return title
	}
	return title + " on " + j.Node
}

func followJobHint(id uint64) string {
	return fmt.Sprintf("Follow it with: ramctrl backup jobs --follow %d; give it up with: ramctrl backup cancel %d", id, id)
}

// followJob shows a job until it ends.
func (a *app) followJob(ctx context.Context, client *api.Client, answer api.JobAnswer, timeout time.Duration) (api.JobAnswer, ending) {
	w := jobWatcher{last: answer, view: a.progress(fmt.Sprintf("job %d", answer.Job.ID), true)}
	l := lookout[api.JobAnswer]{
		view: w.view, every: a.pace.poll, timeout: timeout, unknown: a.pace.election,
		ask:  func(ctx context.Context) (api.JobAnswer, error) { return client.Job(ctx, answer.Job.ID) },
		read: w.read,
	}
	end := l.watch(ctx)
	w.view.End()
	return w.last, end
}

// jobWatcher takes in what is said of a job.
type jobWatcher struct {
	view *render.Progress
	last api.JobAnswer

	phases []jobPhase
	meter  meter
}

// jobPhase is a part of a job, in the form in which runs are shown.
type jobPhase struct {
	name       string
	text       string
	from, took time.Duration // of the job's own time
	state      reconcile.StepState
}

func (w *jobWatcher) read(now time.Time, answer api.JobAnswer) ending {
	w.last = answer
	w.phase(answer)
	w.view.Update(now, w.shown(answer))
	j := answer.Job
	switch j.State {
	case reconcile.JobDone:
		return ending{outcome: outcomeDone}
	case reconcile.JobFailed:
		return ending{outcome: outcomeFailed, reason: j.Error}
	case reconcile.JobCancelled:
		return ending{outcome: outcomeCancelled, reason: "by " + j.Cancelled}
	}
	return ending{}
}

// phase notes which part of the job is under way. A part ends when another begins.
func (w *jobWatcher) phase(answer api.JobAnswer) {
	report := answer.Progress
	if answer.Job.State != reconcile.JobRunning {
		w.endPhase(answer.Elapsed, answer.Job.State == reconcile.JobDone)
		return
	}
	if report == nil || report.ID != answer.Job.ID || report.State != reconcile.JobRunning || report.Phase == "" {
		return
	}
	if n := len(w.phases); n == 0 || w.phases[n-1].name != report.Phase {
		w.endPhase(answer.Elapsed, true)
		w.meter = meter{}
		w.phases = append(w.phases, jobPhase{name: report.Phase, from: answer.Elapsed, state: reconcile.StepRunning})
	}
	w.meter.read(*report)
	p := &w.phases[len(w.phases)-1]
	p.took, p.text = answer.Elapsed-p.from, render.JobPhase(report, w.meter.rate())
	if answer.Job.Cancelled != "" {
		p.text += ", is being given up"
	}
}

// endPhase ends the part that is under way. One that came to nothing is not called done.
func (w *jobWatcher) endPhase(at time.Duration, done bool) {
	if len(w.phases) == 0 {
		return
	}
	p := &w.phases[len(w.phases)-1]
	if p.state != reconcile.StepRunning || !done {
		return
	}
	p.took, p.state = at-p.from, reconcile.StepDone
	// What was seen last is not all there was, so that only the rate is told.
	p.text = render.JobPhaseDone(p.name, w.meter.mean())
}

const (
	beginning = "begin" // stands for the parts while there is none
	// beginPatience is how long a node may take to begin before that is worth a line.
	beginPatience = 3 * time.Second
)

// shown is the job as a run of one step for each part.
func (w *jobWatcher) shown(answer api.JobAnswer) api.RunAnswer {
	out := api.RunAnswer{Elapsed: answer.Elapsed}
	for i, p := range w.phases {
		out.Run.Steps = append(out.Run.Steps, reconcile.RunStep{ID: fmt.Sprint(i), Summary: p.text, State: p.state})
		out.StepElapsed = append(out.StepElapsed, p.took)
	}
	if j := answer.Job; len(w.phases) == 0 && j.State == reconcile.JobRunning && answer.Elapsed >= beginPatience {
		out.Run.Steps = []reconcile.RunStep{{ID: beginning, Node: j.Node, State: reconcile.StepPending}}
		out.StepElapsed = []time.Duration{0}
		out.Waits = map[string]string{beginning: "its ramd to begin"}
	}
	return out
}

// jobEnded prints what became of a job when data are asked for.
func (a *app) jobEnded(answer api.JobAnswer, end ending) error {
	if !a.json() {
		return nil
	}
	return a.printJSON(jobResult{outputFormat, end.outcome, end.reason, answer.Job, answer.Elapsed.Milliseconds()})
}

// tellJob ends a command with what became of its job.
func (a *app) tellJob(answer api.JobAnswer, end ending) error {
	if err := a.jobEnded(answer, end); err != nil {
		return err
	}
	j := answer.Job
	again := fmt.Sprintf("follow it again with: ramctrl backup jobs --follow %d; give it up with: ramctrl backup cancel %d", j.ID, j.ID)
	switch end.outcome {
	case outcomeDone:
		a.say("Done: %s, took %s.", jobBrought(j), render.Elapsed(answer.Elapsed))
		if j.Kind == reconcile.JobPoint {
			a.say("Go back to it with: ramctrl backup restore --to-point %s", j.Name)
		}
		return nil
	case outcomeFailed:
		return fmt.Errorf("%s failed on %s after %s: %s\n%s", jobCalled(j), j.Node, render.Elapsed(answer.Elapsed), j.Error, afterFailure(j))
	case outcomeCancelled:
		by := ""
		if j.Cancelled != "" {
			by = " by " + j.Cancelled
		}
		return fmt.Errorf("%s was cancelled%s after %s: %s", jobCalled(j), by, render.Elapsed(answer.Elapsed), afterCancel(j))
	case outcomeDetached:
		return fmt.Errorf("detached, %s goes on; %s", jobCalled(j), again)
	case outcomeTimeout:
		return fmt.Errorf("%s is not done after --timeout and goes on; %s", jobCalled(j), again)
	}
	if errors.Is(end.cause, api.ErrNotFound) {
		return fmt.Errorf("%w: see ramctrl backup jobs", end.cause)
	}
	return end.cause
}

// jobBrought is what a job that is done has brought, in words.
func jobBrought(j reconcile.Job) string {
	r := j.Result
	text := strings.TrimSuffix(r.Text, ".")
	switch {
	case j.Kind == reconcile.JobBackup && r.Backup != "":
		return fmt.Sprintf("backup %s, %s", r.Backup, render.Volume(r.Size, r.Stored))
	case j.Kind == reconcile.JobVerify && j.Quick:
		return fmt.Sprintf("what is stored of backup %s is whole (%s)", j.Backup, text)
	case j.Kind == reconcile.JobVerify:
		return fmt.Sprintf("backup %s restores (%s)", j.Backup, text)
	case j.Kind == reconcile.JobPrune:
		return fmt.Sprintf("deleted %s, and %d files of WAL that only they needed", strings.Join(r.Deleted, ", "), r.Segments)
	case j.Kind == reconcile.JobPoint:
		return fmt.Sprintf("restore point %s is at LSN %s", j.Name, r.LSN)
	}
	return j.Title()
}

// afterFailure is what to do once a job has failed.
func afterFailure(j reconcile.Job) string {
	switch j.Kind {
	case reconcile.JobBackup:
		return "Nothing of it is to be seen in the repository. When this is put right: ramctrl backup create"
	case reconcile.JobVerify:
		return fmt.Sprintf("See ramctrl backup show %s; a new backup is taken with: ramctrl backup create", j.Backup)
	case reconcile.JobPrune:
		return "What is left is shown by: ramctrl backup list"
	}
	return "When this is put right, try again with: ramctrl backup point " + j.Name
}

func afterCancel(j reconcile.Job) string {
	switch j.Kind {
	case reconcile.JobBackup:
		return "nothing of it is to be seen in the repository"
	case reconcile.JobVerify:
		return "nothing was found out about the backup"
	case reconcile.JobPrune:
		return "see what is left with ramctrl backup list"
	}
	return "see ramctrl backup jobs"
}
