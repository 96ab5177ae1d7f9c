package instance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/ramhq/ram/pg/guard"
)

// What may keep a server from starting, as far as it is recognised.
var (
	ErrPortInUse     = errors.New("the port is taken by another process")
	ErrPermissions   = errors.New("the data directory has wrong owner or permissions")
	ErrLockFile      = errors.New("another postmaster has a lock file here")
	ErrConfiguration = errors.New("the configuration is invalid")
	ErrMemory        = errors.New("there is not enough memory or shared memory")
)

// StartError is a server that did not come up.
type StartError struct {
	// Reason is one of the errors above, or nil when it was not recognised.
	Reason error
	// Parameter is the setting at fault, where the reason is ErrConfiguration and it
	// is known.
	Parameter string
	// Lines are what the server wrote about it since it was started.
	Lines []string
	// Exit is how it ended.
	Exit guard.Exit
	// Log is the file to read on in.
	Log string
}

// Error is one line for people.
func (e *StartError) Error() string {
	var b strings.Builder
	b.WriteString("PostgreSQL did not start")
	if e.Reason != nil {
		fmt.Fprintf(&b, ": %v", e.Reason)
	}
	if e.Parameter != "" {
		fmt.Fprintf(&b, " (parameter %s)", e.Parameter)
	}
	if len(e.Lines) > 0 {
		fmt.Fprintf(&b, ": %s", strings.Join(e.Lines, "; "))
	} else {
		fmt.Fprintf(&b, ": %s", e.Exit)
	}
	fmt.Fprintf(&b, "; see %s", e.Log)
	return b.String()
}

// Unwrap is the reason.
func (e *StartError) Unwrap() error { return e.Reason }

// logTail is how much of the log, from its end, is looked at.
const logTail = 64 << 10

// startError reads what the server has logged since it was started.
func (i *Instance) startError(since int64) error {
	e := &StartError{Log: i.LogFile()}
	e.Exit, _ = guard.ReadExit(i.exitFile())
	lines := readLog(i.LogFile(), since)
	e.Lines = complaints(lines)
	e.Parameter, e.Reason = diagnose(strings.Join(lines, "\n"))
	return e
}

func readLog(path string, since int64) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	since = max(since, fileSize(path)-logTail)
	text, err := io.ReadAll(io.NewSectionReader(f, since, logTail))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\n")
}

// severity finds the part of a line that follows log_line_prefix.
var severity = regexp.MustCompile(`\b(PANIC|FATAL|ERROR|LOG|WARNING|HINT|DETAIL|CONTEXT):\s+(.*)$`)

// maxComplaints is how many lines an error carries: the last are the telling ones.
const maxComplaints = 4

// complaints picks the lines that say why: fatal ones with their hints, and what
// the server logged about its configuration files, which is not fatal by itself.
func complaints(lines []string) []string {
	var picked []string
	follows := false
	for _, line := range lines {
		match := severity.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		level, text := match[1], match[2]
		switch level {
		case "PANIC", "FATAL", "ERROR":
			follows = !passing(text)
		case "HINT", "DETAIL":
		default:
			follows = aboutConfiguration(text)
		}
		if follows {
			picked = append(picked, level+": "+text)
		}
	}
	return picked[max(0, len(picked)-maxComplaints):]
}

// passing is what every client hears that comes too early; it explains nothing.
func passing(text string) bool {
	return strings.HasPrefix(text, "the database system is ")
}

func aboutConfiguration(text string) bool {
	_, reason := diagnose(text)
	return reason != nil
}

// diagnoses are tried in this order: the first that matches anywhere wins.
var diagnoses = []struct {
	pattern *regexp.Regexp
	reason  error
}{
	{regexp.MustCompile(`unrecognized configuration parameter "([^"]+)"`), ErrConfiguration},
	{regexp.MustCompile(`invalid value for parameter "([^"]+)"`), ErrConfiguration},
	{regexp.MustCompile(`parameter "([^"]+)" requires a`), ErrConfiguration},
	{regexp.MustCompile(`is outside the valid range for parameter "([^"]+)"`), ErrConfiguration},
	{regexp.MustCompile(`(?:parameter|setting) "([^"]+)" (?:cannot|must)`), ErrConfiguration},
	{regexp.MustCompile(`invalid list syntax in parameter "([^"]+)"`), ErrConfiguration},
	{regexp.MustCompile(`could not (?:bind|create listen socket|create any TCP/IP sockets|create any Unix-domain sockets)`), ErrPortInUse},
	{regexp.MustCompile(`data directory "[^"]*" has (?:wrong ownership|invalid permissions)`), ErrPermissions},
	{regexp.MustCompile(`lock file "[^"]*" already exists|pre-existing shared memory block`), ErrLockFile},
	{regexp.MustCompile(`could not (?:create shared memory segment|map anonymous shared memory|create semaphores|resize shared memory)|out of memory`), ErrMemory},
	{regexp.MustCompile(`syntax error in file|configuration file "[^"]*" contains errors|could not load \S*pg_hba.conf|insufficient standby|WAL archival cannot be enabled|WAL streaming|because of insufficient parameter settings`), ErrConfiguration},
	{regexp.MustCompile(`could not (?:open|access|read|create) (?:file|directory) "[^"]*": Permission denied`), ErrPermissions},
}

// diagnose names the parameter at fault, where that is known, and the reason.
func diagnose(text string) (parameter string, reason error) {
	for _, d := range diagnoses {
		match := d.pattern.FindStringSubmatch(text)
		if match == nil {
			continue
		}
		if len(match) > 1 {
			parameter = match[1]
		}
		return parameter, d.reason
	}
	return "", nil
}
