package main

import (
	"errors"
	"flag"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run the programs of this repository as they are in the
// test binary.
func TestMain(m *testing.M) {
	if flag.Lookup("update") == nil {
		flag.Bool("update", false, "rewrite golden files")
	}
	testscript.Main(m, map[string]func(){"ramctrl": main})
}

func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// TestCtl runs ramctl against golden files. None of the scripts needs a cluster:
// plans are made offline from what a model of a cluster shows.
func TestCtl(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testscripts", "ctl"),
		UpdateScripts:       updating(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"RAM_ADDR", "RAM_TOKEN", "RAM_TOKEN_FILE", "RAM_SPEC"} {
				env.Setenv(name, "")
			}
			env.Setenv("TZ", "UTC")
			// A binary with the race detector waits a second before it ends, unless told.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"observe": observeCommand,
			// exit CODE COMMAND... runs a program that must end with the code.
			"exit": exitWith,
		},
	})
}

// observeCommand is `observe OUT SPEC [fresh] [CHANGE...]`, with paths as in the script.
func observeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: observe OUT SPEC [fresh] [CHANGE...]")
	}
	args[0], args[1] = ts.MkAbs(args[0]), ts.MkAbs(args[1])
	for i, arg := range args {
		if path, ok := strings.CutPrefix(arg, "joined="); ok {
			args[i] = "joined=" + ts.MkAbs(path)
		}
	}
	ts.Check(observe(args[0], args[1], args[2:]))
}

// exitWith is `exit CODE PROGRAM ARGS...`: the program must end with the code.
func exitWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
