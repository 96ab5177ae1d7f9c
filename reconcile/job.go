package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// JobKind is a kind of long work beside the plan.
type JobKind string

const (
	JobBackup JobKind = "backup" // take a base backup
	JobVerify JobKind = "verify" // restore a backup into a scratch directory and check it
	JobPrune  JobKind = "prune"  // delete backups, and the WAL that only they needed
	JobPoint  JobKind = "point"  // write a named restore point into the WAL
)

// JobState is how far a job has come.
type JobState string

const (
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Job is one piece of work on backups, done by one node. There is one at a time, so
// that no two meet in a repository.
type Job struct {
	ID   uint64  `json:"id"`
	Kind JobKind `json:"kind"`
	// Schedule is the backup block that it is done for; empty when an operator asked.
	Schedule   string `json:"schedule,omitempty"`
	Repository string `json:"repository"`
	// Backup is the one to be taken, which its node names, or to be verified; Name is
	// the part of it that people chose, or the name of a restore point.
	Backup string `json:"backup,omitempty"`
	Name   string `json:"name,omitempty"`
	// Delete are the backups that a prune deletes.
	Delete []string `json:"delete,omitempty"`
	// Quick is a verification of the stored objects' checksums alone.
	Quick bool   `json:"quick,omitempty"`
	Node  string `json:"node"`
	// Note is what is unusual about it, such as that no standby was fit.
	Note string `json:"note,omitempty"`
	// Attempt counts from 1 those of one scheduled moment.
	Attempt int       `json:"attempt,omitempty"`
	By      string    `json:"by"`
	Begun   time.Time `json:"begun"`
	// Cancelled is who had it cancelled.
	Cancelled string `json:"cancelled,omitempty"`

	State    JobState  `json:"state"`
	Finished time.Time `json:"finished,omitzero"`
	Error    string    `json:"error,omitempty"`
	Result   JobResult `json:"result,omitzero"`
}

// JobResult is what a job brought. The zero JobResult is nothing.
type JobResult struct {
	// Backup is the backup that was taken or verified.
	Backup   string      `json:"backup,omitempty"`
	LSN      pg.LSN      `json:"lsn,omitempty"`
	Timeline pg.Timeline `json:"timeline,omitempty"`
	// Size is the database's, Stored what it takes in the repository.
	Size   pg.Bytes `json:"size,omitempty"`
	Stored pg.Bytes `json:"stored,omitempty"`
	// Deleted are the backups that are gone, Segments how many files of WAL went with them.
	Deleted  []string `json:"deleted,omitempty"`
	Segments int      `json:"segments,omitempty"`
	// Text says in words what was found.
	Text string `json:"text,omitempty"`
	// Catalog is what the repository held afterwards; nil when that was not looked at.
	Catalog *Catalog `json:"catalog,omitempty"`
}

// JobReport is what a node says of the job that it was given.
type JobReport struct {
	ID uint64 `json:"id"`
	// Phase says in a word what is done.
	Phase string   `json:"phase,omitempty"`
	Done  pg.Bytes `json:"done,omitempty"`
	Total pg.Bytes `json:"total,omitempty"`
	// For is how long this node has been at it.
	For    time.Duration `json:"for_ns,omitempty"`
	State  JobState      `json:"state"`
	Error  string        `json:"error,omitempty"`
	Result JobResult     `json:"result,omitzero"`
}

// Catalog is what a repository held when it was looked at last.
type Catalog struct {
	At      time.Time       `json:"at"`
	Backups []CatalogBackup `json:"backups"`
}

// forgetCatalogs drops what is known of repositories that the next spec has elsewhere
// or not at all.
func (r *Record) forgetCatalogs(next *spec.Cluster) {
	place := func(c *spec.Cluster, name string) string {
		if c != nil {
			for _, repository := range c.Repositories {
				if repository.Name == name {
					return repository.URL
				}
			}
		}
		return ""
	}
	known := maps.Clone(r.Catalogs)
	maps.DeleteFunc(known, func(name string, _ Catalog) bool {
		return place(next, name) == "" || place(next, name) != place(r.Spec, name)
	})
	r.Catalogs = known
}

// CatalogBackup is one backup, as far as decisions need it.
type CatalogBackup struct {
	ID       string      `json:"id"`
	Name     string      `json:"name"`
	Node     string      `json:"node,omitempty"`
	Started  time.Time   `json:"started"`
	Finished time.Time   `json:"finished"`
	Timeline pg.Timeline `json:"timeline"`
	StartLSN pg.LSN      `json:"start_lsn"`
	StopLSN  pg.LSN      `json:"stop_lsn"`
	Size     pg.Bytes    `json:"size"`
	Stored   pg.Bytes    `json:"stored"`
	// Proved is when it was last restored and found whole; zero when never.
	Proved time.Time `json:"proved,omitzero"`
	// Broken is why it is known not to restore; empty when nothing is known against it.
	Broken string `json:"broken,omitempty"`
}

// BeginJob gives a node work.
type BeginJob struct {
	Job Job `json:"job"`
	// Mark is the schedule whose moments up to Until are taken care of with it; empty
	// when no schedule asked.
	Mark  string    `json:"mark,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// EndJob records what became of a job.
type EndJob struct {
	ID     uint64    `json:"id"`
	State  JobState  `json:"state"`
	Error  string    `json:"error,omitempty"`
	Result JobResult `json:"result,omitzero"`
}

// CancelJob has the job that is under way given up.
type CancelJob struct {
	ID uint64 `json:"id"`
}

// RestorePoint is a named point in the WAL.
type RestorePoint struct {
	Name string `json:"name"`
	LSN  pg.LSN `json:"lsn"`
	// At is when it was recorded, a moment after it was written.
	At time.Time `json:"at"`
}

// Point finds the latest restore point of a name.
func (r *Record) Point(name string) (RestorePoint, bool) {
	for _, p := range slices.Backward(r.Points) {
		if p.Name == name {
			return p, true
		}
	}
	return RestorePoint{}, false
}

// How many finished jobs and restore points the record remembers.
const (
	maxJobs   = 100
	maxPoints = 200
)

func (r *Record) beginJob(at time.Time, b BeginJob) error {
	if r.Job != nil {
		return fmt.Errorf("%w: job %d (%s) is under way", ErrStale, r.Job.ID, r.Job.Title())
	}
	if r.Pause != nil && b.Job.Schedule != "" {
		return fmt.Errorf("%w: the cluster is paused", ErrStale)
	}
	if _, known := r.Members[b.Job.Node]; !known {
		return fmt.Errorf("%w: node %s is not a member", ErrStale, b.Job.Node)
	}
	job := b.Job
	r.LastJob++
	job.ID, job.Begun, job.State = r.LastJob, at, JobRunning
	r.Job = &job
	if b.Mark != "" {
		r.Marks = with(r.Marks, b.Mark, b.Until)
	}
	r.note(at, Event{
		Kind: EventJob, Severity: Info, Node: job.Node, Message: fmt.Sprintf("job %d: %s on %s", job.ID, job.Title(), job.Node),
		Reason: job.reason(),
	})
	return nil
}

// Title says what the job is in a few words.
func (j Job) Title() string {
	switch j.Kind {
	case JobBackup:
		return "back up " + j.Name
	case JobVerify:
		return "verify " + j.Backup
	case JobPrune:
		return fmt.Sprintf("delete %s", counted(len(j.Delete), "backup"))
	case JobPoint:
		return "restore point " + j.Name
	}
	return string(j.Kind)
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (j Job) reason() string {
	why := "asked for by " + j.By
	if j.Schedule != "" {
		why = "scheduled by backup " + j.Schedule
	}
	if j.Attempt > 1 {
		why += fmt.Sprintf(", attempt %d", j.Attempt)
	}
	if j.Note != "" {
		why += "; " + j.Note
	}
	return why
}

func (r *Record) endJob(at time.Time, e EndJob) error {
	if r.Job == nil || r.Job.ID != e.ID {
		return fmt.Errorf("%w: job %d is not under way", ErrStale, e.ID)
	}
	job := *r.Job
	job.State, job.Error, job.Result, job.Finished = e.State, e.Error, e.Result, at
	if c := e.Result.Catalog; c != nil {
		r.Catalogs = with(r.Catalogs, job.Repository, *c)
	}
	if job.Kind == JobPoint && e.State == JobDone {
		r.Points = bounded(r.Points, maxPoints, RestorePoint{Name: job.Name, LSN: e.Result.LSN, At: at})
	}
	job.Result.Catalog = nil
	r.Job = nil
	r.Jobs = bounded(r.Jobs, maxJobs, job)
	r.note(at, job.ended())
	return nil
}

// ended is the event of a job's end.
func (j Job) ended() Event {
	e := Event{Kind: EventJob, Node: j.Node, Reason: fmt.Sprintf("took %s", j.Finished.Sub(j.Begun).Round(10*time.Millisecond))}
	switch j.State {
	case JobDone:
		e.Severity, e.Message = Info, fmt.Sprintf("job %d done: %s", j.ID, j.Title())
		if j.Result.Text != "" {
			e.Message += ": " + j.Result.Text
		}
	case JobCancelled:
		e.Severity, e.Message, e.Reason = Warning, fmt.Sprintf("job %d cancelled: %s", j.ID, j.Title()), "by "+j.Cancelled
	default:
		e.Severity, e.Message, e.Reason = Failure, fmt.Sprintf("job %d failed: %s", j.ID, j.Title()), j.Error
	}
	return e
}

func (r *Record) cancelJob(by string, c CancelJob) error {
	if r.Job == nil || c.ID != 0 && r.Job.ID != c.ID {
		return fmt.Errorf("%w: job %d is not under way", ErrStale, c.ID)
	}
	job := *r.Job
	job.Cancelled = by
	r.Job = &job
	return nil
}

// LastJobOf is the latest finished job that ok accepts.
func (r *Record) LastJobOf(ok func(Job) bool) (Job, bool) {
	for _, j := range slices.Backward(r.Jobs) {
		if ok(j) {
			return j, true
		}
	}
	return Job{}, false
}
