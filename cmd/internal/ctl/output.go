package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/ramhq/ram/cmd/internal/render"
)

const (
	outputText = "text"
	outputJSON = "json"
)

// outputFormat is the version of the JSON that ramctrl itself composes; what a
// ramd answers carries its own.
const outputFormat = 1

func (a *app) json() bool { return a.output == outputJSON }

// printJSON writes data to standard output.
func (a *app) printJSON(v any) error {
	encoder := json.NewEncoder(a.sys.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// people is where text for people goes: out of the way when data is asked for.
func (a *app) people() io.Writer {
	if a.json() {
		return a.sys.Stderr
	}
	return a.sys.Stdout
}

func (a *app) style() render.Style {
	return render.Style{Color: a.sys.colors() && !a.json(), Zone: a.sys.Zone, Now: time.Now()}
}

func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.people(), format+"\n", args...)
}

func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.sys.Stderr, format+"\n", args...)
}
