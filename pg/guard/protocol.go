package guard

import (
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
	// Exit is set once the state is Clearing or Ended.
	Exit *Exit `json:"exit,omitempty"`
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
	// "kill"); empty when the postmaster ended by itself.
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
)

// request is one line from ramd.
type request struct {
	Version int    `json:"v"`
	ID      uint64 `json:"id"`
	Op      string `json:"op"`
	Mode    Mode   `json:"mode,omitempty"`
	// TimeoutMS is after how many milliseconds a stop becomes an immediate one;
	// zero never.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
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
)

// Error is a guard's refusal.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error is the message for people.
func (e *Error) Error() string { return "guard: " + e.Message }
