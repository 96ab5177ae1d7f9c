package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// What callers of Client branch on, through errors.Is.
var (
	// ErrUnauthorized says that the token is missing or wrong.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrNotFound says that there is no such run, revision or path.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that the cluster refuses: the plan is stale, destroys
	// without leave, or the spec cannot be accepted.
	ErrConflict = errors.New("conflict")
	// ErrUnavailable says that there is no leader, or no quorum, now.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnreachable says that no ramd answered.
	ErrUnreachable = errors.New("unreachable")

	// errMoved says that leadership is changing hands and that the request had no effect.
	errMoved = errors.New("moved")
	// errNotSent says that the request surely had no effect.
	errNotSent = errors.New("not sent")
)

var sentinels = map[int]error{
	http.StatusUnauthorized:       ErrUnauthorized,
	http.StatusForbidden:          ErrUnauthorized,
	http.StatusNotFound:           ErrNotFound,
	http.StatusConflict:           ErrConflict,
	http.StatusServiceUnavailable: ErrUnavailable,
	http.StatusMisdirectedRequest: errMoved,
}

// Error is a refusal that a ramd answered with.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Message is the ramd's own, for people.
	Message string
	// Addr is the host:port that answered.
	Addr string
}

// Error is the ramd's message.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s answers HTTP %d", e.Addr, e.Status)
	}
	return e.Message
}

// Is matches the sentinel of the status.
func (e *Error) Is(target error) bool {
	sentinel, ok := sentinels[e.Status]
	return ok && sentinel == target
}

// silence is an address that did not answer.
type silence struct {
	host string
	err  error
	sent bool
}

func (s *silence) Error() string { return s.host + ": " + s.reason() }

// reason is the innermost cause, which is what people look for.
func (s *silence) reason() string {
	var op *net.OpError
	if errors.As(s.err, &op) && op.Timeout() || isTimeout(s.err) {
		return "no answer in time"
	}
	if op != nil {
		return strings.TrimPrefix(op.Err.Error(), "connect: ")
	}
	err := s.err
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (s *silence) Is(target error) bool {
	return target == ErrUnreachable || target == errNotSent && !s.sent
}

// Unwrap is the transport's error.
func (s *silence) Unwrap() error { return s.err }

func notAnswered(host string, err error) error {
	var op *net.OpError
	dialing := errors.As(err, &op) && op.Op == "dial"
	return &silence{host: host, err: err, sent: !dialing}
}

// unreachable says in one error that no address answered.
func unreachable(silent []error) error {
	texts := make([]string, len(silent))
	for i, err := range silent {
		texts[i] = err.Error()
	}
	return &unanswered{text: strings.Join(texts, "; ")}
}

type unanswered struct{ text string }

func (u *unanswered) Error() string {
	return "no ramd answers (" + u.text + "): see whether ramd runs there, or name other nodes with --addr"
}

func (u *unanswered) Is(target error) bool { return target == ErrUnreachable }
