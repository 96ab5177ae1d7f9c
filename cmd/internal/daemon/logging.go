package daemon

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// levelGate drops what is below a level that can be changed at run time.
type levelGate struct{ level atomic.Int32 }

// Run is zerolog.Hook's.
func (g *levelGate) Run(e *zerolog.Event, level zerolog.Level, _ string) {
	if int32(level) < g.level.Load() {
		e.Discard()
	}
}

func (g *levelGate) set(name string) error {
	level, err := zerolog.ParseLevel(strings.TrimSpace(name))
	if err != nil || level == zerolog.NoLevel {
		return fmt.Errorf("log level %q is none of trace, debug, info, warn, error", strings.TrimSpace(name))
	}
	g.level.Store(int32(level))
	return nil
}

// newLogger logs to w as JSON or for people; format auto means for people on a
// terminal.
func newLogger(w *os.File, format string, gate *levelGate) (zerolog.Logger, error) {
	var out io.Writer = w
	switch format {
	case "json":
	case "text", "auto":
		if format == "text" || term.IsTerminal(int(w.Fd())) {
			out = zerolog.ConsoleWriter{
				Out: w, TimeFormat: "2006-01-02 15:04:05.000",
				NoColor: os.Getenv("NO_COLOR") != "" || !term.IsTerminal(int(w.Fd())),
			}
		}
	default:
		return zerolog.Nop(), fmt.Errorf("log format %q is none of auto, json, text", format)
	}
	return zerolog.New(out).Hook(gate).Hook(stamp{}), nil
}

// stamp puts the time on each line, in milliseconds: much happens within a second.
type stamp struct{}

// Run is zerolog.Hook's.
func (stamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().Format("2006-01-02T15:04:05.000Z07:00"))
}

// levelPath is the file whose word SIGHUP makes the log level.
func levelPath(dataDir string) string { return filepath.Join(dataDir, "log-level") }
