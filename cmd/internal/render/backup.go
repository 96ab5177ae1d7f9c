package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Backups writes backups, a line each, in the order in which they come. Their
// repository is named when there are several.
func Backups(w io.Writer, list []api.BackupInfo, style Style) error {
	t := table{
		style: style,
		head:  []string{"ID", "NAME", "FINISHED", "SIZE", "STORED", "TIMELINE", "NODE", "PROVED", "NOTE"},
		right: map[int]bool{3: true, 4: true, 5: true},
	}
	several := false
	for _, b := range list {
		several = several || b.Repository != list[0].Repository
	}
	if several {
		t.head = append([]string{"REPOSITORY"}, t.head...)
		t.right = map[int]bool{4: true, 5: true, 6: true}
	}
	for _, b := range list {
		row := backupRow(b, style)
		if several {
			row = append(plain(b.Repository), row...)
		}
		t.add(row)
	}
	return t.writeTo(w)
}

func backupRow(b api.BackupInfo, style Style) []cell {
	row := plain(b.ID, b.Name, style.dated(b.Finished), b.Size.Human(), b.Stored.Human(), timelineText(b.Timeline), dash(b.Node), "", "")
	row[7] = proved(b, style)
	failed := b.Proof != nil && !b.Proof.OK
	switch {
	case b.Broken != "":
		row[0].ink = red
		row[8] = cell{text: "BROKEN: " + oneLine(b.Broken), ink: red}
	case failed:
		row[8] = cell{text: oneLine(b.Proof.Error), ink: yellow}
	}
	return row
}

func proved(b api.BackupInfo, style Style) cell {
	switch {
	case b.Proof != nil && !b.Proof.OK:
		return cell{text: "failed " + style.ago(b.Proof.At), ink: red}
	case !b.Proved.IsZero():
		return cell{text: style.ago(b.Proved), ink: green}
	}
	return cell{text: "never", ink: faint}
}

// Backup writes all that is known of one backup; objects adds what it is stored as.
func Backup(w io.Writer, b api.BackupDetail, objects bool, style Style) error {
	var out strings.Builder
	fmt.Fprintf(&out, "Backup %s%s\n", style.Bold(b.ID), in(b.Repository))
	if b.Broken != "" {
		fmt.Fprintf(&out, "  %s\n", style.Bad("BROKEN      "+oneLine(b.Broken)))
	}
	for _, line := range backupLines(b, style) {
		fmt.Fprintf(&out, "  %-10s  %s\n", line.name, line.text)
	}
	if objects {
		if err := backupObjects(&out, b.Objects, style); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func in(repository string) string {
	if repository == "" {
		return ""
	}
	return " in repository " + repository
}

type namedLine struct{ name, text string }

func backupLines(b api.BackupDetail, style Style) []namedLine {
	taken := fmt.Sprintf("%s, took %s", style.dated(b.Finished), Elapsed(b.Finished.Sub(b.Started)))
	if b.By != "" {
		taken += ", by " + oneLine(b.By)
	}
	cluster := b.Cluster
	if b.SystemID != "" {
		cluster += ", system identifier " + b.SystemID
	}
	from := dash(b.Node)
	if b.Role != "" {
		from += ", a " + b.Role
	}
	lines := []namedLine{
		{"name", b.Name},
		{"cluster", cluster},
		{"taken", taken},
		{"from", from},
		{"PostgreSQL", fmt.Sprintf("%s, timeline %s", dash(b.Version), timelineText(b.Timeline))},
		{"WAL", fmt.Sprintf("%s to %s", lsnText(b.StartLSN), lsnText(b.StopLSN))},
		{"size", Volume(b.Size, b.Stored) + ", " + storedAs(b.BackupInfo)},
		{"proved", proofText(b.BackupInfo, style)},
	}
	return append(lines, reachLines(b.Reach, style)...)
}

func storedAs(b api.BackupInfo) string {
	text := "in " + count(b.Parts, "part")
	if b.Compression != "" {
		text += ", compression " + b.Compression
	}
	if b.Encrypted {
		return text + ", encrypted"
	}
	return text + ", not encrypted"
}

func proofText(b api.BackupInfo, style Style) string {
	p := b.Proof
	switch {
	case p == nil && b.Proved.IsZero():
		return style.Notice("never") + ": ramctrl backup verify " + b.ID
	case p == nil:
		return style.Good(style.dated(b.Proved))
	case !p.OK:
		return style.Bad(fmt.Sprintf("FAILED %s on %s: %s", style.dated(p.At), p.Node, oneLine(p.Error)))
	}
	text := fmt.Sprintf("%s: restored on %s to %s in %s", style.Good(style.dated(p.At)), p.Node, lsnText(p.LSN), Elapsed(p.Took))
	if p.Pages > 0 {
		text += fmt.Sprintf(", %d pages have the right checksum", p.Pages)
	}
	if p.Indexes > 0 {
		text += fmt.Sprintf(", %s in order", pick(p.Indexes, "index is", "indexes are"))
	}
	return text
}

func pick(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}

// reachLines say what can be restored, in two lines at most.
func reachLines(r *api.BackupReach, style Style) []namedLine {
	if r == nil {
		return []namedLine{{"reach", style.Notice("not known: the repository's WAL could not be looked at")}}
	}
	lines := []namedLine{{"reach", Reach(*r, style)}}
	if r.Gap != "" {
		lines = append(lines, namedLine{"", style.Bad(gapText(r.Gap))})
	}
	return lines
}

// Reach is a stretch of history that can be restored.
func Reach(r api.BackupReach, style Style) string {
	if r.To <= r.From {
		return fmt.Sprintf("%s (%s), the end of the backup, and no further: no WAL that follows is archived yet", style.stamp(r.Since), lsnText(r.From))
	}
	return fmt.Sprintf("%s (%s) to about %s (%s), timeline %s", style.stamp(r.Since), lsnText(r.From), style.stamp(r.Until), lsnText(r.To), timelineText(r.Timeline))
}

func gapText(gap string) string {
	return "not further, since WAL file " + oneLine(gap) + " is missing although later ones are there"
}

func backupObjects(out *strings.Builder, objects []api.BackupObject, style Style) error {
	out.WriteString("\n")
	t := table{
		style: style, indent: "  ",
		head:  []string{"OBJECT", "HOLDS", "STORED", "SHA-256"},
		right: map[int]bool{1: true, 2: true},
	}
	for _, o := range objects {
		t.add(plain(oneLine(o.Name), o.Plain.Human(), o.Stored.Human(), o.SHA256))
	}
	return t.writeTo(out)
}

// Jobs writes jobs, a line each, in the order in which they come.
func Jobs(w io.Writer, jobs []api.JobAnswer, style Style) error {
	t := table{
		style: style,
		head:  []string{"JOB", "WHAT", "NODE", "STATE", "BEGUN", "TOOK", "BY", "NOTE"},
		right: map[int]bool{0: true, 5: true},
	}
	for _, j := range jobs {
		t.add(jobRow(j, style))
	}
	return t.writeTo(w)
}

func jobRow(a api.JobAnswer, style Style) []cell {
	j := a.Job
	by := j.By
	if j.Schedule != "" {
		by = "schedule " + j.Schedule
	}
	row := plain(strconv.FormatUint(j.ID, 10), JobTitle(j), dash(j.Node), string(j.State), style.stamp(j.Begun), Elapsed(a.Elapsed), dash(oneLine(by)), "")
	row[3].ink = map[reconcile.JobState]ink{
		reconcile.JobDone: green, reconcile.JobFailed: red, reconcile.JobCancelled: yellow, reconcile.JobRunning: yellow,
	}[j.State]
	row[7].text = jobNote(a)
	return row
}

// JobTitle is what a job does, in a few words.
func JobTitle(j reconcile.Job) string {
	title := oneLine(j.Title())
	if j.Quick {
		title += " (quick)"
	}
	return title
}

func jobNote(a api.JobAnswer) string {
	j := a.Job
	var notes []string
	if j.Attempt > 1 {
		notes = append(notes, fmt.Sprintf("attempt %d", j.Attempt))
	}
	switch {
	case j.State == reconcile.JobRunning && j.Cancelled != "":
		notes = append(notes, "is being given up for "+j.Cancelled)
	case j.State == reconcile.JobRunning:
		notes = append(notes, JobPhase(a.Progress, MeanRate(a.Progress)))
	case j.State == reconcile.JobCancelled && j.Cancelled != "":
		notes = append(notes, "by "+j.Cancelled)
	case j.State == reconcile.JobFailed:
		notes = append(notes, j.Error)
	case j.Kind == reconcile.JobBackup && j.Result.Backup != "":
		notes = append(notes, fmt.Sprintf("%s, %s", j.Result.Backup, Volume(j.Result.Size, j.Result.Stored)))
	case j.Result.Text != "":
		notes = append(notes, j.Result.Text)
	}
	if j.Note != "" {
		notes = append(notes, j.Note)
	}
	return oneLine(strings.Join(notes, "; "))
}

// MeanRate is the rate of a job from its beginning, in bytes per second; zero when
// that says nothing yet.
func MeanRate(r *reconcile.JobReport) float64 {
	if r == nil || r.For < time.Second {
		return 0
	}
	return float64(r.Done) / r.For.Seconds()
}

// Freed is how much backups take in their repositories.
func Freed(list []api.BackupInfo) pg.Bytes {
	var sum pg.Bytes
	for _, b := range list {
		sum += b.Stored
	}
	return sum
}
