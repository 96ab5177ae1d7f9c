package guard

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// ErrNotRunning is returned when no postmaster runs on the data directory.
var ErrNotRunning = errors.New("no postmaster runs on the data directory")

// StopUnguarded stops a postmaster that has no guard, somebody having started it by
// hand, and returns when no process of it is left. After timeout the stop becomes
// an immediate one, and that a kill; a timeout of zero waits as long as ctx. It
// also kills what a dead postmaster has left behind.
func StopUnguarded(ctx context.Context, dataDir string, mode Mode, timeout time.Duration) error {
	sig, known := stopSignals[mode]
	if !known {
		return fmt.Errorf("stop mode %q is not smart, fast or immediate", mode)
	}
	if timeout == 0 {
		timeout = 1<<63 - 1
	}
	for _, try := range []struct {
		sig     syscall.Signal
		timeout time.Duration
	}{{sig, timeout}, {stopSignals[Immediate], killAfterImmediate}} {
		pid := Postmaster(dataDir)
		if pid == 0 {
			break
		}
		signalIn(dataDir, pid, try.sig)
		if err := awaitPostmaster(ctx, dataDir, pid, try.timeout); err != nil {
			return err
		}
	}
	return KillLeftovers(ctx, dataDir)
}

// awaitPostmaster returns when a postmaster has ended or time is up, and an error
// only when ctx has ended.
func awaitPostmaster(ctx context.Context, dataDir string, pid int, timeout time.Duration) error {
	limit := time.After(timeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for Postmaster(dataDir) == pid {
		select {
		case <-tick.C:
		case <-limit:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("postmaster %d has not ended yet: %w", pid, ctx.Err())
		}
	}
	return nil
}

// ReloadUnguarded makes a postmaster without a guard read its configuration files
// again.
func ReloadUnguarded(dataDir string) error {
	pid := Postmaster(dataDir)
	if pid == 0 {
		return fmt.Errorf("%w %s", ErrNotRunning, dataDir)
	}
	signalIn(dataDir, pid, syscall.SIGHUP)
	return nil
}
