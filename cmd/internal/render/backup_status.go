package render

import (
	"fmt"
	"strings"

	"github.com/ramhq/ram/reconcile"
)

// statusBackups is a short block on backups; nothing when the spec has no repository.
func statusBackups(out *strings.Builder, s *reconcile.BackupStatus, style Style) {
	if s == nil {
		return
	}
	out.WriteString("\nBackups\n")
	line := func(name, text string) { fmt.Fprintf(out, "  %-10s  %s\n", name, text) }
	line("last", lastBackup(s, style))
	if s.Last != nil {
		line("last proof", lastProof(s, style))
	}
	if text := archiveBacklog(s.Archive); text != "" {
		line("archive", style.Notice(text))
	}
	if j := s.Job; j != nil {
		line("now", style.Notice(jobUnderWay(*j, s.Progress)))
	}
	for i, next := range s.Next {
		name := ""
		if i == 0 {
			name = "next"
		}
		line(name, oneLine(next.What)+" "+style.upcoming(next.At))
	}
	if j := s.Failed; j != nil {
		line("failed", style.Bad(fmt.Sprintf("%s on %s, %s: %s", JobTitle(*j), dash(j.Node), style.ago(j.Finished), oneLine(j.Error))))
	}
}

func lastBackup(s *reconcile.BackupStatus, style Style) string {
	if s.Last == nil {
		return style.Notice("none yet") + ": ramctrl backup create"
	}
	return fmt.Sprintf("%s, %s, %s", s.Last.ID, style.ago(s.Last.Finished), Volume(s.Last.Size, s.Last.Stored))
}

func lastProof(s *reconcile.BackupStatus, style Style) string {
	if s.LastProof.IsZero() {
		return style.Notice("never") + ": ramctrl backup verify"
	}
	return style.ago(s.LastProof)
}

// archiveBacklog is what waits to be archived; empty when nothing does and all is well.
func archiveBacklog(a *reconcile.ArchiveReport) string {
	if a == nil || a.Backlog == 0 && a.Failure == "" {
		return ""
	}
	text := "nothing waits"
	if a.Backlog > 0 {
		text = fmt.Sprintf("%s of WAL (%s) not archived yet, the oldest for %s", count(a.Backlog, "file"), a.Bytes.Human(), Age(a.Oldest))
	}
	if a.Failure != "" {
		text += fmt.Sprintf("; failing for %s: %s", Age(a.Failing), oneLine(a.Failure))
	}
	return text
}

func jobUnderWay(j reconcile.Job, r *reconcile.JobReport) string {
	text := fmt.Sprintf("job %d, %s on %s: ", j.ID, JobTitle(j), dash(j.Node))
	if j.Cancelled != "" {
		return text + "is being given up for " + oneLine(j.Cancelled)
	}
	return text + JobPhase(r, MeanRate(r))
}
