package guard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Spawn starts a guard, which starts the postmaster, and connects to it. command
// is the program and its arguments that end up in Main. The guard has its own
// session and nothing of the caller's: it goes on when the caller is killed.
// The postmaster has only been started when Spawn returns; whether it comes to
// accept connections is for the caller to watch. The error is ErrBusy when
// another guard holds the data directory.
func Spawn(ctx context.Context, command []string, cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if len(command) == 0 {
		return nil, errors.New("guard: no command to start it with")
	}
	cfg.SpawnedNS = int64(bootTime())
	said, err := launch(ctx, command, cfg)
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	switch {
	case said.Busy:
		return nil, fmt.Errorf("%w %s", ErrBusy, cfg.DataDir)
	case said.Error != "":
		return nil, fmt.Errorf("start PostgreSQL: %s", said.Error)
	}
	return Connect(ctx, cfg.Socket)
}

// launch runs the command in a session of its own and returns the line that it
// says first.
func launch(ctx context.Context, command []string, cfg Config) (report, error) {
	input, err := json.Marshal(cfg)
	if err != nil {
		return report{}, err
	}
	logs, err := os.OpenFile(cfg.GuardLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return report{}, err
	}
	defer logs.Close()
	out, outWriter, err := os.Pipe()
	if err != nil {
		return report{}, err
	}
	defer out.Close()
	// Not CommandContext: the end of ctx must not take the guard along.
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stdout = outWriter
	cmd.Stderr = logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	outWriter.Close()
	if err != nil {
		return report{}, err
	}
	// Somebody has to reap it, should it end before the caller does.
	go func() { _ = cmd.Wait() }()
	stop := context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return report{}, errors.Join(ctx.Err(), fmt.Errorf("it ended without a word; see %s", cfg.GuardLog))
	}
	var said report
	if err := json.Unmarshal(line, &said); err != nil {
		return report{}, fmt.Errorf("it said %q", line)
	}
	return said, nil
}
