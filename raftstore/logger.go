package raftstore

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// raftLogger routes raft's own log into ours. Transitions are logged by the store
// itself, so raft's infos and warnings are for debugging; what it calls an error is
// a warning to an operator, since it keeps trying.
type raftLogger struct {
	logger  zerolog.Logger
	name    string
	implied []any
	repeats *repeats
}

func newRaftLogger(logger zerolog.Logger) *raftLogger {
	return &raftLogger{logger: logger, name: "raft", repeats: &repeats{said: make(map[string]time.Time)}}
}

// repeats quiets what raft says again and again while a member is away.
type repeats struct {
	mu   sync.Mutex
	said map[string]time.Time
	mute atomic.Bool // raft leaves goroutines behind that say one thing more
}

// quietFor is how long one warning stands for all that follow it.
const quietFor = time.Minute

func (r *repeats) again(what string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.said[what]; ok && now.Sub(last) < quietFor {
		return true
	}
	if len(r.said) >= maxRefusals {
		clear(r.said)
	}
	r.said[what] = now
	return false
}

// mute ends the log, and those of all children.
func (l *raftLogger) mute() { l.repeats.mute.Store(true) }

// level maps a level of raft's to ours.
func (l *raftLogger) level(level hclog.Level, msg string, args []any) zerolog.Level {
	switch level {
	case hclog.Error:
		if l.repeated(msg, args) {
			return zerolog.DebugLevel
		}
		return zerolog.WarnLevel
	case hclog.Warn, hclog.Info:
		return zerolog.DebugLevel
	case hclog.Off:
		return zerolog.Disabled
	default:
		return zerolog.TraceLevel
	}
}

// repeated says whether an error is not news to an operator: a refused connection,
// which the stream logs, one of our own that we closed, or the same about the same
// peer.
func (l *raftLogger) repeated(msg string, args []any) bool {
	what := msg
	for i := 0; i+1 < len(args); i += 2 {
		var refused *refusedError
		if err, ok := args[i+1].(error); ok && (errors.As(err, &refused) || errors.Is(err, net.ErrClosed)) {
			return true
		}
		if key := args[i]; key == "peer" || key == "target" || key == "remote" {
			what += " " + render(args[i+1])
		}
	}
	return l.repeats.again(what, time.Now())
}

// Log implements hclog.Logger.
func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	if l.repeats.mute.Load() {
		return
	}
	event := l.logger.WithLevel(l.level(level, msg, args))
	if !event.Enabled() {
		return
	}
	for i := 0; i+1 < len(l.implied); i += 2 {
		event = event.Str(render(l.implied[i]), render(l.implied[i+1]))
	}
	for i := 0; i+1 < len(args); i += 2 {
		event = event.Str(render(args[i]), render(args[i+1]))
	}
	event.Msg(l.name + ": " + msg)
}

func render(value any) string {
	if format, ok := value.(hclog.Format); ok && len(format) > 0 {
		return fmt.Sprintf(fmt.Sprint(format[0]), format[1:]...)
	}
	return fmt.Sprint(value)
}

// The rest of hclog.Logger, whose methods say what they do by their names.

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) IsTrace() bool { return l.logger.GetLevel() <= zerolog.TraceLevel }
func (l *raftLogger) IsDebug() bool { return l.IsTrace() }
func (l *raftLogger) IsInfo() bool  { return l.logger.GetLevel() <= zerolog.DebugLevel }
func (l *raftLogger) IsWarn() bool  { return l.IsInfo() }
func (l *raftLogger) IsError() bool { return l.logger.GetLevel() <= zerolog.WarnLevel }

func (l *raftLogger) ImpliedArgs() []any { return l.implied }
func (l *raftLogger) Name() string       { return l.name }

func (l *raftLogger) With(args ...any) hclog.Logger {
	child := *l
	child.implied = append(append([]any(nil), l.implied...), args...)
	return &child
}

func (l *raftLogger) Named(name string) hclog.Logger { return l.ResetNamed(l.name + "." + name) }

func (l *raftLogger) ResetNamed(name string) hclog.Logger {
	child := *l
	child.name = name
	return &child
}

// SetLevel does nothing: the level is the zerolog.Logger's.
func (l *raftLogger) SetLevel(hclog.Level) {}

func (l *raftLogger) GetLevel() hclog.Level {
	switch {
	case l.IsTrace():
		return hclog.Trace
	case l.IsInfo():
		return hclog.Info
	default:
		return hclog.Error
	}
}

func (l *raftLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return lineWriter{l}
}

type lineWriter struct{ logger *raftLogger }

func (w lineWriter) Write(line []byte) (int, error) {
	w.logger.Debug(string(line))
	return len(line), nil
}
