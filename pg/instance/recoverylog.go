package instance

import (
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ramhq/ram/pg"
)

// recoveryLog reads what a recovering server writes. Its messages are the only ones
// who say how far it came: it takes no connections meanwhile.
type recoveryLog struct {
	file     *os.File // keeps all lines for people
	progress func(RecoveryProgress)

	mu      sync.Mutex
	lines   []string // the last ones
	reached Recovered
	early   bool
	missed  bool
}

// keptLog is how many of the last lines are looked at for the reason of a failure.
const keptLog = 100

// What is read. The messages are the same from PostgreSQL 13 to 18.
var (
	redoDone     = regexp.MustCompile(`redo done at ([0-9A-F]+/[0-9A-F]+)`)
	lastCommit   = regexp.MustCompile(`last completed transaction was at log time (\S+ \S+)`)
	redoProgress = regexp.MustCompile(`redo in progress, .*current LSN: ([0-9A-F]+/[0-9A-F]+)`)
	restoredFile = regexp.MustCompile(`restored log file "([0-9A-F]{24})" from archive`)
)

const (
	targetMissed = "recovery ended before configured recovery target was reached"
	targetEarly  = "requested recovery stop point is before consistent recovery point"
)

// line takes one line.
func (l *recoveryLog) line(text string) bool {
	if l.file != nil {
		_, _ = l.file.WriteString(text + "\n")
	}
	at, report := l.note(text)
	if report && l.progress != nil {
		l.progress(RecoveryProgress{Phase: PhaseRecover, LSN: at})
	}
	return true
}

func (l *recoveryLog) note(text string) (at pg.LSN, report bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, text)
	if len(l.lines) > 2*keptLog {
		l.lines = append([]string(nil), l.lines[keptLog:]...)
	}
	if match := redoDone.FindStringSubmatch(text); match != nil {
		l.reached.LSN, _ = pg.ParseLSN(match[1])
	} else if match := redoProgress.FindStringSubmatch(text); match != nil {
		at, _ = pg.ParseLSN(match[1])
	} else if match := lastCommit.FindStringSubmatch(text); match != nil {
		if t, err := time.Parse(timeLayout, match[1]); err == nil {
			l.reached.Time = t.UTC()
		}
	}
	l.missed = l.missed || strings.Contains(text, targetMissed)
	l.early = l.early || strings.Contains(text, targetEarly)
	return at, at != 0 || restoredFile.MatchString(text)
}

// commit is the time of the last commit replayed.
func (l *recoveryLog) commit() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached.Time
}

// verdict is why a server ended that was to recover to a target: nil when it has not
// said so.
func (l *recoveryLog) verdict(t Target) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.early:
		return &TargetError{Target: t, Early: true}
	case l.missed:
		return &TargetError{Target: t, Reached: l.reached}
	}
	return nil
}

// complaints are the lines that tell people why it failed.
func (l *recoveryLog) complaints() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return complaints(l.lines)
}

// says reports whether any of the last lines contains words.
func (l *recoveryLog) says(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(strings.Join(l.lines, "\n"), words)
}
