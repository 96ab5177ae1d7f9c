// Package ctl is ramctrl: one file for each verb. A command reads its flags,
// asks a ramd through package api, and writes data to standard output and
// everything else to standard error.
package ctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes of the operator contract. What exitChanges means is said by
// plan --detailed-exitcode alone.
const (
	exitDone    = 0
	exitError   = 1
	exitUsage   = 2
	exitChanges = 2
)

// Main runs one command and returns its exit code. A cancelled context is the
// operator's Ctrl-C.
func Main(ctx context.Context, sys System) int {
	a := &app{sys: sys, pace: realPace()}
	return a.main(ctx)
}

func (a *app) main(ctx context.Context) int {
	root := a.root()
	root.SetArgs(a.sys.Args)
	root.SetIn(a.sys.Stdin)
	root.SetOut(a.sys.Stdout)
	root.SetErr(a.sys.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return a.finish(cmd, err)
}

// finish tells what went wrong and chooses the exit code.
func (a *app) finish(cmd *cobra.Command, err error) int {
	var code exitCode
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(a.sys.Stderr, "ramctrl: %s\n", explained(err))
	var usage usageError
	if !a.ran || errors.As(err, &usage) {
		fmt.Fprintf(a.sys.Stderr, "See %s --help.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitError
}

// exitCode ends a command that has said all there is to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError is a request that cannot be meant as it is written.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// app is one run of ramctrl.
type app struct {
	sys  System
	pace pace
	// transport carries the requests; nil is the real network.
	transport http.RoundTripper

	addr      string
	tokenFile string
	output    string

	// in is what answers are read from; nil until the first question.
	in *bufio.Reader
	// ran is set once a command's own code has begun: errors before are
	// cobra's, about usage.
	ran bool
}

// pace is how often and for how long commands look again.
type pace struct {
	poll     time.Duration // between two looks at a run
	phase    time.Duration // between two looks at a failover
	redraw   time.Duration // between two status --watch
	report   time.Duration // between two progress lines when there is no terminal
	patience time.Duration // how long a problem may last before apply gives up on it
	election time.Duration // how long a cluster may be without leader
	wait     time.Duration // of a long poll for events
}

func realPace() pace {
	return pace{
		poll: 200 * time.Millisecond, phase: 50 * time.Millisecond, redraw: time.Second, report: 10 * time.Second,
		patience: 15 * time.Second, election: 3 * time.Second, wait: 20 * time.Second,
	}
}

// action is what a command does once its flags and arguments are in order.
type action func(ctx context.Context, cmd *cobra.Command, args []string) error

// do makes an action a cobra command's RunE.
func (a *app) do(act action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.ran = true
		if a.output != outputText && a.output != outputJSON {
			return usagef("-o %s: write -o text or -o json", a.output)
		}
		return act(cmd.Context(), cmd, args)
	}
}
