package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
)

// Notes are the events that a change of what is observed is worth: nodes that
// fall silent and come back, servers that stop and run again, problems that
// appear and go away, drift that is found.
func Notes(before, after Observed) []Event {
	var events []Event
	for _, name := range sorted(slices.Collect(maps.Keys(after.Nodes))) {
		was, known := before.Nodes[name]
		now := after.Nodes[name]
		if !known || !was.Reported || !now.Reported {
			continue
		}
		events = append(events, nodeNotes(name, was, now)...)
	}
	return events
}

func nodeNotes(name string, was, now NodeView) []Event {
	var events []Event
	note := func(kind EventKind, severity Severity, message, reason string) {
		events = append(events, Event{Kind: kind, Severity: severity, Node: name, Message: message, Reason: reason})
	}
	if was.Reachable != now.Reachable {
		if now.Reachable {
			note(EventNode, Info, fmt.Sprintf("node %s answers again", name), "")
		} else {
			note(EventNode, Warning, fmt.Sprintf("node %s does not answer", name), "no report came from its ramd")
			return events
		}
	}
	ran, runs := was.Report.Server.State == pg.ServerRunning, now.Report.Server.State == pg.ServerRunning
	switch {
	case ran && !runs:
		note(EventNode, Warning, fmt.Sprintf("PostgreSQL on %s is %s", name, now.Report.Server.State), "")
	case !ran && runs:
		note(EventNode, Info, fmt.Sprintf("PostgreSQL on %s runs", name), "")
	}
	if text := problemText(now); text != "" && text != problemText(was) {
		note(EventNode, Failure, fmt.Sprintf("node %s cannot get on", name), text)
	}
	if w := now.Report.Watch; w != "" && w != was.Report.Watch {
		note(EventWatch, Warning, fmt.Sprintf("the watched spec on node %s is not applied", name), w)
	}
	events = append(events, archiveNotes(name, was.Report.Archive, now.Report.Archive)...)
	if len(now.Report.Drift) > 0 && len(was.Report.Drift) == 0 {
		note(EventDrift, Warning, fmt.Sprintf("node %s was changed by hand", name), driftNames(now.Report.Drift))
	}
	return events
}

// archiveNotes are worth an event when archiving begins to fail for long, or WAL that
// waits begins to be much, and when that is over.
func archiveNotes(name string, was, now *ArchiveReport) []Event {
	before, after := archiveTrouble(was), archiveTrouble(now)
	switch {
	case after != "" && before == "":
		return []Event{{Kind: EventArchive, Severity: Warning, Node: name, Message: "WAL of node " + name + " is not archived", Reason: after}}
	case after == "" && before != "" && now != nil:
		return []Event{{Kind: EventArchive, Severity: Info, Node: name, Message: "WAL of node " + name + " is archived again"}}
	}
	return nil
}

const (
	// archivePatience is how long archiving may fail, or a file wait, before it is said.
	archivePatience = 2 * time.Minute
	// archiveBacklog is how much may wait before it is said: long before a disk is full.
	archiveBacklog = 2 * pg.GB
)

// archiveTrouble is what an operator should know of archiving; empty when it goes well.
func archiveTrouble(a *ArchiveReport) string {
	if a == nil || a.Backlog == 0 {
		return ""
	}
	waiting := fmt.Sprintf("%s (%s) wait, the oldest for %s", counted(a.Backlog, "file"), a.Bytes.About(), a.Oldest.Round(time.Second))
	switch {
	case a.Failing > archivePatience:
		return fmt.Sprintf("%s; PostgreSQL keeps them in pg_wal until the disk is full: %s", a.Failure, waiting)
	case a.Oldest > archivePatience+time.Minute, a.Bytes > archiveBacklog:
		return "archiving is behind: " + waiting
	}
	return ""
}

func problemText(v NodeView) string {
	if v.Report.Problem == nil {
		return ""
	}
	return v.Report.Problem.Text
}
