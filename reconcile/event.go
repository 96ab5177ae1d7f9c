package reconcile

import "time"

// EventKind says what an event is about.
type EventKind string

const (
	EventBootstrap EventKind = "bootstrap"
	EventSpec      EventKind = "spec"
	EventWatch     EventKind = "watch"
	EventRun       EventKind = "run"
	EventStep      EventKind = "step"
	EventGrant     EventKind = "grant"
	EventSync      EventKind = "sync"
	EventPlanned   EventKind = "planned"
	EventMember    EventKind = "member"
	EventNode      EventKind = "node"
	EventDrift     EventKind = "drift"
	EventPause     EventKind = "pause"
	EventFailover  EventKind = "failover"
	EventJob       EventKind = "job"
	EventRestore   EventKind = "restore"
	EventArchive   EventKind = "archive"
)

// Event is one thing that happened, with its reason.
type Event struct {
	Seq      uint64    `json:"seq"`
	At       time.Time `json:"at"`
	Kind     EventKind `json:"kind"`
	Severity Severity  `json:"severity"`
	Node     string    `json:"node,omitempty"`
	Run      uint64    `json:"run,omitempty"`
	Message  string    `json:"message"`
	Reason   string    `json:"reason,omitempty"`
}

// Severity is how much an event asks for attention.
type Severity string

const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Failure Severity = "error"
)
