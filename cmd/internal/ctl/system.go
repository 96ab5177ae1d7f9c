package ctl

import (
	"io"
	"os"
	"os/user"
	"syscall"
	"time"

	"golang.org/x/term"
)

// System is what the commands touch of the machine that they run on.
type System struct {
	// Args are the arguments without the program's name.
	Args   []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Environ is the environment as name=value; LookupEnv reads it.
	Environ   []string
	LookupEnv func(name string) (string, bool)
	// User is who asks, for the record.
	User string
	// InteractiveIn is set when somebody can answer at Stdin, InteractiveOut
	// when Stdout is a terminal that can be redrawn.
	InteractiveIn, InteractiveOut bool
	// Size is that of the terminal, in characters; zero when unknown.
	Size func() (width, height int)
	// Zone is the operator's time zone; nil is UTC.
	Zone *time.Location
	// Exec replaces the process by a program. It returns only on failure.
	Exec func(path string, argv, environ []string) error
}

// OS is the real system.
func OS() System {
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	return System{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Environ: os.Environ(), LookupEnv: os.LookupEnv, User: whoami(),
		InteractiveIn:  term.IsTerminal(in),
		InteractiveOut: term.IsTerminal(out),
		Size: func() (int, int) {
			width, height, err := term.GetSize(out)
			if err != nil {
				return 0, 0
			}
			return width, height
		},
		Zone: time.Local,
		Exec: syscall.Exec,
	}
}

// whoami is the user who asks, and who that was before sudo.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if before := os.Getenv("SUDO_USER"); before != "" && before != name {
		name = before + " as " + name
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

func (s System) env(name string) string {
	if value, found := s.LookupEnv(name); found {
		return value
	}
	return ""
}

// colors reports whether text for people may have colour.
func (s System) colors() bool {
	return s.InteractiveOut && s.env("NO_COLOR") == "" && s.env("TERM") != "dumb"
}
