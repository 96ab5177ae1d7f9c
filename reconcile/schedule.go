package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

const (
	// jobPatience is how long the node of a job may be silent before it is done elsewhere.
	jobPatience = 30 * time.Second
	// jobAttempts is how often one scheduled moment is tried.
	jobAttempts = 3
)

// retryAfter is how long after the end of the nth attempt the next one begins.
func retryAfter(attempt int) time.Duration {
	return []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}[min(max(attempt, 1), 3)-1]
}

// marksOf are the keys of the schedules of a backup block in Record.Marks. A schedule
// that is changed is another one.
func marksOf(b spec.Backup) (backup, verify string) {
	backup = fmt.Sprintf("backup/%s/%s/%s", b.Name, b.Timezone, b.Schedule)
	if b.Verify != nil {
		verify = fmt.Sprintf("verify/%s/%s/%s", b.Name, b.Timezone, b.Verify.Schedule)
	}
	return backup, verify
}

// markSchedules has schedules that are new count from at, and forgets those that are gone.
func (r *Record) markSchedules(at time.Time) {
	marks := map[string]time.Time{}
	for _, b := range r.Spec.Backups {
		backup, verify := marksOf(b)
		for _, key := range []string{backup, verify} {
			if key == "" {
				continue
			}
			marks[key] = at
			if known, ok := r.Marks[key]; ok {
				marks[key] = known
			}
		}
	}
	r.Marks = marks
}

// NextJob is what is to be recorded about jobs now: the end of the one that is under
// way, or the beginning of one that a schedule asks for. It is called again and
// again; at most one of the two is set. obs.Now has to be known.
func NextJob(rec *Record, obs Observed) (*BeginJob, *EndJob) {
	if rec.Spec == nil || obs.Now.IsZero() {
		return nil, nil
	}
	if rec.Job != nil {
		return nil, jobEnd(rec, obs)
	}
	if rec.Pause != nil || rec.Opening != nil || rec.Restoring != nil || rec.SystemID == 0 {
		return nil, nil
	}
	for _, b := range rec.Spec.Backups {
		if begin := dueBackup(rec, obs, b); begin != nil {
			return begin, nil
		}
	}
	for _, b := range rec.Spec.Backups {
		if begin := dueVerify(rec, obs, b); begin != nil {
			return begin, nil
		}
	}
	return nil, nil
}

// jobEnd is the end of the job that is under way; nil while it goes on.
func jobEnd(rec *Record, obs Observed) *EndJob {
	job := rec.Job
	v := obs.Nodes[job.Node]
	_, member := rec.Members[job.Node]
	report := v.Report.Job
	switch {
	case !member:
		return &EndJob{ID: job.ID, State: JobFailed, Error: fmt.Sprintf("node %s left the cluster", job.Node)}
	case report != nil && report.ID == job.ID && report.State != JobRunning:
		return &EndJob{ID: job.ID, State: report.State, Error: report.Error, Result: report.Result}
	case !v.Reachable && v.Silent > jobPatience && job.Cancelled != "":
		return &EndJob{ID: job.ID, State: JobCancelled}
	case !v.Reachable && v.Silent > jobPatience:
		return &EndJob{ID: job.ID, State: JobFailed, Error: fmt.Sprintf("nothing was heard of node %s for %s", job.Node, jobPatience)}
	}
	return nil
}

// due reports whether a schedule asks for something now: a moment that has passed
// since it was last taken care of, or the failure of the last attempt. Moments that
// passed while nobody could act count once.
func due(rec *Record, b spec.Backup, kind JobKind, line, mark string, now time.Time) (attempt int) {
	location, err := spec.LoadTimezone(b.Timezone)
	if err != nil {
		return 0
	}
	schedule, err := spec.ParseSchedule(line, location)
	since, marked := rec.Marks[mark]
	if err != nil || !marked {
		return 0
	}
	if next := schedule.Next(since); !next.IsZero() && !next.After(now) {
		return 1
	}
	last, ok := rec.LastJobOf(func(j Job) bool { return j.Kind == kind && j.Schedule == b.Name })
	if ok && last.State == JobFailed && last.Attempt < jobAttempts && now.Sub(last.Finished) >= retryAfter(last.Attempt) {
		return last.Attempt + 1
	}
	return 0
}

func dueBackup(rec *Record, obs Observed, b spec.Backup) *BeginJob {
	mark, _ := marksOf(b)
	attempt := due(rec, b, JobBackup, b.Schedule, mark, obs.Now)
	if attempt == 0 {
		return nil
	}
	node, note, err := BackupSource(rec, obs, b.From)
	if err != nil {
		return nil // it stays due until a node can
	}
	return &BeginJob{
		Job:  Job{Kind: JobBackup, Schedule: b.Name, Name: b.Name, Repository: b.Repository, Node: node, Note: note, Attempt: attempt, By: "schedule"},
		Mark: mark, Until: obs.Now,
	}
}

func dueVerify(rec *Record, obs Observed, b spec.Backup) *BeginJob {
	_, mark := marksOf(b)
	if mark == "" {
		return nil
	}
	attempt := due(rec, b, JobVerify, b.Verify.Schedule, mark, obs.Now)
	if attempt == 0 {
		return nil
	}
	newest, ok := newestOf(rec.Catalogs[b.Repository].Backups, b.Name)
	if !ok {
		return nil // there is nothing to verify until there is a backup
	}
	tried := map[string]bool{}
	for _, j := range rec.Jobs[len(rec.Jobs)-min(attempt-1, len(rec.Jobs)):] {
		tried[j.Node] = true
	}
	node, err := verifierBut(rec, obs, newest, tried)
	if err != nil {
		return nil
	}
	return &BeginJob{
		Job:  Job{Kind: JobVerify, Schedule: b.Name, Backup: newest.ID, Repository: b.Repository, Node: node, Attempt: attempt, By: "schedule"},
		Mark: mark, Until: obs.Now,
	}
}

func newestOf(backups []CatalogBackup, name string) (CatalogBackup, bool) {
	for _, b := range slices.Backward(backups) {
		if b.Name == name {
			return b, true
		}
	}
	return CatalogBackup{}, false
}

// BackupSource chooses the node that a backup is taken from: the standby that is least
// behind, the primary when no standby is fit (the note says so), or the one that is named.
func BackupSource(rec *Record, obs Observed, from string) (node, note string, err error) {
	primary := obs.Nodes[rec.Primary]
	switch from {
	case spec.FromStandby:
		if name := freshestStandby(rec, obs); name != "" {
			return name, "", nil
		}
		note = "no standby is fit: the primary is backed up"
		fallthrough
	case spec.FromPrimary:
		if !primary.Running() || primary.Report.Server.Recovery {
			return "", "", fmt.Errorf("no server is fit to be backed up: the primary does not run")
		}
		return rec.Primary, note, nil
	}
	if n, known := rec.Spec.Node(from); !known || n.Witness {
		return "", "", fmt.Errorf("there is no node %q that holds data", from)
	}
	v := obs.Nodes[from]
	if !v.Running() || from != rec.Primary && !v.StreamingFrom(rec.Assignments[from].Upstream) {
		return "", "", fmt.Errorf("node %s is not fit to be backed up: it does not run, or does not stream", from)
	}
	return from, "", nil
}

func freshestStandby(rec *Record, obs Observed) string {
	best, behind := "", pg.Bytes(0)
	primary := obs.Nodes[rec.Primary].Report.Server
	for _, n := range byID(rec.Spec.Nodes) {
		v := obs.Nodes[n.Name]
		if n.Witness || n.Name == rec.Primary || !v.StreamingFrom(rec.Assignments[n.Name].Upstream) {
			continue
		}
		if l := lag(n.Name, v.Report.Server, primary); best == "" || l < behind {
			best, behind = n.Name, l
		}
	}
	return best
}

// Verifier chooses the node on which a backup is restored for a proof: one that has
// room, standbys first.
func Verifier(rec *Record, obs Observed, b CatalogBackup) (string, error) {
	return verifierBut(rec, obs, b, nil)
}

func verifierBut(rec *Record, obs Observed, b CatalogBackup, tried map[string]bool) (string, error) {
	type candidate struct {
		name string
		rank int
		room pg.Bytes
	}
	var list []candidate
	for _, n := range byID(rec.Spec.Nodes) {
		v := obs.Nodes[n.Name]
		if n.Witness || !v.Reachable || v.Report.Room < neededRoom(b.Size) {
			continue
		}
		c := candidate{n.Name, 0, v.Report.Room}
		if n.Name == rec.Primary {
			c.rank++
		}
		if tried[n.Name] {
			c.rank += 2
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return "", fmt.Errorf("no node that answers has the %s of room that restoring %s takes", neededRoom(b.Size).About(), b.ID)
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.room, a.room))
	})
	return list[0].name, nil
}

// neededRoom is what restoring a backup takes for a while, with some WAL of its own.
func neededRoom(size pg.Bytes) pg.Bytes { return size + size/10 + 256*pg.MB }
