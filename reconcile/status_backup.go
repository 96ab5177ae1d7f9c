package reconcile

import (
	"fmt"
	"time"

	"github.com/ramhq/ram/spec"
)

// BackupStatus is how the backups are, as a whole.
type BackupStatus struct {
	// Last is the latest backup, LastProof when a backup was last restored and found
	// whole; zero while there is none.
	Last      *CatalogBackup `json:"last,omitempty"`
	LastProof time.Time      `json:"last_proof,omitzero"`
	Count     int            `json:"count"`
	// Next are the schedules' next moments, in the order of the spec.
	Next []Upcoming `json:"next,omitempty"`
	// Job is under way, with what its node says of it.
	Job      *Job       `json:"job,omitempty"`
	Progress *JobReport `json:"progress,omitempty"`
	// Failed is the latest job of a schedule when it failed.
	Failed *Job `json:"failed,omitempty"`
	// Archive is the primary's; nil while it has not reported, or without an archive.
	Archive *ArchiveReport `json:"archive,omitempty"`
}

// Upcoming is something that a schedule asks for.
type Upcoming struct {
	What string    `json:"what"`
	At   time.Time `json:"at"`
}

// backupStatus is nil when the spec has no repository.
func backupStatus(rec *Record, obs Observed) *BackupStatus {
	if rec.Spec == nil || len(rec.Spec.Repositories) == 0 {
		return nil
	}
	s := &BackupStatus{Job: rec.Job, Archive: obs.Nodes[rec.Primary].Report.Archive}
	for _, r := range rec.Spec.Repositories {
		for _, b := range rec.Catalogs[r.Name].Backups {
			s.Count++
			if b.Broken == "" && (s.Last == nil || b.Finished.After(s.Last.Finished)) {
				s.Last = &b
			}
			if b.Proved.After(s.LastProof) {
				s.LastProof = b.Proved
			}
		}
	}
	if rec.Job != nil {
		if r := obs.Nodes[rec.Job.Node].Report.Job; r != nil && r.ID == rec.Job.ID {
			s.Progress = r
		}
	}
	s.Next = upcoming(rec, obs.Now)
	if last, ok := rec.LastJobOf(func(j Job) bool { return j.Schedule != "" && j.Kind != JobPrune }); ok && last.State == JobFailed {
		s.Failed = &last
	}
	return s
}

func upcoming(rec *Record, now time.Time) []Upcoming {
	if now.IsZero() {
		return nil
	}
	var list []Upcoming
	add := func(what, line string, location *time.Location) {
		schedule, err := spec.ParseSchedule(line, location)
		if err != nil {
			return
		}
		if at := schedule.Next(now); !at.IsZero() {
			list = append(list, Upcoming{what, at})
		}
	}
	for _, b := range rec.Spec.Backups {
		location, err := spec.LoadTimezone(b.Timezone)
		if err != nil {
			continue
		}
		add("back up "+b.Name, b.Schedule, location)
		if b.Verify != nil {
			add("verify "+b.Name, b.Verify.Schedule, location)
		}
	}
	return list
}

// backupWarnings are what an operator has to know of backups.
func backupWarnings(rec *Record, obs Observed) []string {
	var list []string
	if rec.Spec == nil {
		return nil
	}
	if trouble := archiveTrouble(obs.Nodes[rec.Primary].Report.Archive); trouble != "" {
		list = append(list, "WAL is not archived: "+trouble)
	}
	if s := backupStatus(rec, obs); s != nil && s.Failed != nil {
		list = append(list, fmt.Sprintf("the latest scheduled job failed (%s): %s", s.Failed.Title(), s.Failed.Error))
	}
	for _, r := range rec.Spec.Repositories {
		for _, b := range rec.Catalogs[r.Name].Backups {
			if b.Broken != "" {
				list = append(list, fmt.Sprintf("backup %s is broken, delete it (ramctrl backup delete): %s", b.ID, b.Broken))
			}
		}
	}
	if rec.Restoring != nil {
		list = append(list, fmt.Sprintf("THE CLUSTER IS BEING RESTORED to %s on %s: nobody can write until that is done", rec.Restoring.Order.Target, rec.Restoring.Node))
	}
	return list
}
