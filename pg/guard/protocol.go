package guard

import (
	"errors"
	"fmt"
	"time"
)

// Protocol is the version of the language between ramd and guard. Fields and
// operations may be added within a version; a reader ignores fields that it does
// not know, and a guard answers an operation that it does not know with
// CodeUnknownOp. A guard outlives the ramd that started it, so both ends meet
// older and newer ones.
const Protocol = 1

// Mode is a way to stop PostgreSQL, in its own words.
type Mode string

const (
	Smart     Mode = "smart"     // wait until all sessions have ended
	Fast      Mode = "fast"      // roll back, cut sessions, shut down cleanly
	Immediate Mode = "immediate" // no checkpoint: the next start recovers
)

// State is how far the guarded server is.
type State string

const (
	Running  State = "running"  // the postmaster is there and was not told to end
	Stopping State = "stopping" // the postmaster was told to end
	Killing  State = "killing"  // the whole tree of processes is being killed
	Clearing State = "clearing" // the postmaster is gone, other processes are left
	Ended    State = "ended"    // no process is left
)

// Status is what a guard knows about its server.
type Status struct {
	Protocol int `json:"protocol"`
	// Version is that of the ramd which started the guard.
	Version  string    `json:"version,omitempty"`
	GuardPID int       `json:"guard_pid"`
	DataDir  string    `json:"data_dir"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	State    State     `json:"state"`
	// Lease is nil while the server may run without one.
	Lease *Lease `json:"lease,omitempty"`
	// Exit is set once the state is Clearing or Ended.
	Exit *Exit `json:"exit,omitempty"`
}

// Lease is until when a guard lets its server run.
type Lease struct {
	// Term is the primaryship that it is for.
	Term uint64 `json:"term"`
	// Left is what was left of it when the guard said so; zero when it has run out.
	Left time.Duration `json:"left_ns"`
}

// Exit is how a postmaster ended.
type Exit struct {
	PID int `json:"pid"`
	// Code is the exit code; it means nothing when Signal is set.
	Code int `json:"code"`
	// Signal is the name of the signal that killed the postmaster, such as
	// "killed"; empty when it exited.
	Signal string    `json:"signal,omitempty"`
	Core   bool      `json:"core,omitempty"`
	At     time.Time `json:"at"`
	// Requested is how the guard was told to end it ("smart", "fast", "immediate",
	// "kill"), or "lease" when its lease ran out; empty when the postmaster ended by itself.
	Requested string `json:"requested,omitempty"`
	// Cleared counts the processes that outlived the postmaster and were killed.
	Cleared int `json:"cleared,omitempty"`
}

// Clean reports whether the server shut down in order, so that the next start
// needs no recovery. (PostgreSQL exits with 0 after a smart or fast stop.)
func (e Exit) Clean() bool { return e.Signal == "" && e.Code == 0 && e.Requested != string(Immediate) }

// String says it in words.
func (e Exit) String() string {
	if e.Signal != "" {
		return fmt.Sprintf("postmaster %d was ended by a signal (%s)", e.PID, e.Signal)
	}
	return fmt.Sprintf("postmaster %d exited with code %d", e.PID, e.Code)
}

// Operations of a request.
const (
	opStatus = "status"
	opStop   = "stop"
	opKill   = "kill"
	opReload = "reload"
	opRenew  = "renew"
)

// endedByLease is Exit.Requested of a server whose lease ran out.
const endedByLease = "lease"

// request is one line from ramd.
type request struct {
	Version int    `json:"v"`
	ID      uint64 `json:"id"`
	Op      string `json:"op"`
	Mode    Mode   `json:"mode,omitempty"`
	// TimeoutMS is after how many milliseconds a stop becomes an immediate one;
	// zero never.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
	// Term and TTLMS are those of a renewal. SentNS is when it was sent, on the
	// machine's CLOCK_BOOTTIME; when it is zero the guard counts from the receipt.
	Term   uint64 `json:"term,omitempty"`
	TTLMS  int64  `json:"ttl_ms,omitempty"`
	SentNS int64  `json:"sent_ns,omitempty"`
}

// Events that a guard tells every connection without being asked.
const (
	eventHello = "hello" // the first line of a connection
	eventEnded = "ended" // no process of the server is left
)

// message is one line from the guard: the answer to the request with the same
// ID, or an event.
type message struct {
	Version int     `json:"v"`
	ID      uint64  `json:"id,omitempty"`
	Event   string  `json:"event,omitempty"`
	Status  *Status `json:"status,omitempty"`
	Error   *Error  `json:"error,omitempty"`
}

// Codes of an Error.
const (
	CodeUnknownOp = "unknown_op"
	CodeBadMode   = "bad_mode"
	CodeEnded     = "ended"
	CodeSignal    = "signal"
	CodeStaleTerm = "stale_term"
	CodeLate      = "late"
	CodeTimer     = "timer"
)

// What an Error of a guard is, for errors.Is.
var (
	// ErrUnknownOp is a guard that an older ramd has started: it does not know the
	// operation. It needs a restart of PostgreSQL to be replaced.
	ErrUnknownOp = errors.New("the guard is older than this ramd and does not know the operation")
	// ErrEnded is a server that has ended, or that is being killed.
	ErrEnded = errors.New("the guarded server has ended")
	// ErrStaleTerm is a renewal for a lower term than the lease has.
	ErrStaleTerm = errors.New("the lease is for a higher term")
	// ErrLate is a renewal that was over when it arrived. The lease is as it was.
	ErrLate = errors.New("the renewal came too late")
)

// Error is a guard's refusal.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error is the message for people.
func (e *Error) Error() string { return "guard: " + e.Message }

// Is tells ErrUnknownOp, ErrEnded, ErrStaleTerm and ErrLate by the code.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case CodeUnknownOp:
		return target == ErrUnknownOp
	case CodeEnded:
		return target == ErrEnded
	case CodeStaleTerm:
		return target == ErrStaleTerm
	case CodeLate:
		return target == ErrLate
	}
	return false
}
