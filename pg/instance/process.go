package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ramhq/ram/pg/guard"
)

// Attach connects to the guard of a server that an earlier ramd has started. It
// is no error when there is none.
func (i *Instance) Attach(ctx context.Context) error {
	if i.guarded() != nil {
		return nil
	}
	client, err := guard.Connect(ctx, i.guardSocket())
	if errors.Is(err, guard.ErrNoGuard) && ctx.Err() == nil {
		return nil
	}
	if err != nil {
		return err
	}
	if dir := client.Last().DataDir; dir != i.cfg.DataDir {
		client.Close()
		return fmt.Errorf("the guard on %s keeps a server on %s, not on %s; stop that server first", i.guardSocket(), dir, i.cfg.DataDir)
	}
	i.adopt(client)
	return nil
}

// adopt makes a connection to a guard the one of this instance, and returns it. When
// another call has connected to the same guard meanwhile, that connection stays:
// somebody may be waiting for its end.
func (i *Instance) adopt(client *guard.Client) *guard.Client {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.server == nil {
		i.server = client
		return client
	}
	surplus := i.server
	select {
	case <-i.server.Done():
		i.server = client
	default:
		if i.server.Last().GuardPID == client.Last().GuardPID {
			surplus = client
		} else {
			i.server = client
		}
	}
	surplus.Close()
	return i.server
}

// guarded is the guard whose server has not ended, or nil.
func (i *Instance) guarded() *guard.Client {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.server == nil {
		return nil
	}
	select {
	case <-i.server.Done():
		return nil
	default:
		return i.server
	}
}

// postmaster is the process number of the running postmaster, or zero, and whether
// a guard keeps it.
func (i *Instance) postmaster() (pid int, isGuarded bool) {
	if client := i.guarded(); client != nil {
		return client.Last().PID, true
	}
	return guard.Postmaster(i.cfg.DataDir), false
}

// Exited is closed when the server has ended with all of its processes, or when its
// guard is lost and the end has to be looked for; Exit tells which. It is nil
// while no guard was started or attached to, and belongs to the server of the
// moment of the call.
func (i *Instance) Exited() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.server == nil {
		return nil
	}
	return i.server.Done()
}

// Exit is how the server ended last: as its guard told this ramd or has left on
// record. The error is guard.ErrLost when the guard was killed, and satisfies
// fs.ErrNotExist when nothing is known.
func (i *Instance) Exit() (guard.Exit, error) {
	i.mu.Lock()
	client := i.server
	i.mu.Unlock()
	if client != nil {
		select {
		case <-client.Done():
			return client.Exit()
		default:
		}
	}
	return guard.ReadExit(i.exitFile())
}

// Stop stops the server and returns when no process of it is left. A stop that
// takes longer than timeout becomes an immediate one, and that a kill, even when
// ctx ends before: then the error is ctx's. A timeout of zero waits as long as
// ctx. A server that does not run is stopped.
func (i *Instance) Stop(ctx context.Context, mode guard.Mode, timeout time.Duration) error {
	if err := i.Attach(ctx); err != nil {
		return err
	}
	client := i.guarded()
	if client == nil {
		return guard.StopUnguarded(ctx, i.cfg.DataDir, mode, timeout)
	}
	if err := client.Stop(ctx, mode, timeout); err != nil && !ended(err) && !errors.Is(err, guard.ErrLost) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return i.awaitEnd(ctx, client)
}

// KillTree kills all processes of the server at once and returns when none is left.
// Nothing is acknowledged to a client after that. A server that does not run is dead.
func (i *Instance) KillTree(ctx context.Context) error {
	// A guard that does not answer must not keep the server alive.
	attaching, cancel := context.WithTimeout(ctx, time.Second)
	err := i.Attach(attaching)
	if client := i.guarded(); err == nil && client != nil {
		err = client.KillTree(attaching)
		cancel()
		if err == nil || ended(err) {
			return i.awaitEnd(ctx, client)
		}
	}
	cancel()
	return guard.KillLeftovers(ctx, i.cfg.DataDir)
}

func ended(err error) bool {
	var refusal *guard.Error
	return errors.As(err, &refusal) && refusal.Code == guard.CodeEnded
}

// awaitEnd waits for the guard's last word. A guard that was lost has said none:
// then what is left is killed.
func (i *Instance) awaitEnd(ctx context.Context, client *guard.Client) error {
	select {
	case <-client.Done():
	case <-ctx.Done():
		return fmt.Errorf("PostgreSQL has not ended yet: %w", ctx.Err())
	}
	if _, err := client.Exit(); errors.Is(err, guard.ErrLost) {
		return guard.KillLeftovers(ctx, i.cfg.DataDir)
	}
	return nil
}

// Reload makes the server read its configuration files again.
func (i *Instance) Reload(ctx context.Context) error {
	if err := i.Attach(ctx); err != nil {
		return err
	}
	if client := i.guarded(); client != nil {
		return client.Reload(ctx)
	}
	return guard.ReloadUnguarded(i.cfg.DataDir)
}

// Close ends the connections to guard and server, which go on.
func (i *Instance) Close() error {
	i.mu.Lock()
	client := i.server
	i.server = nil
	i.mu.Unlock()
	i.prober.close()
	if client == nil {
		return nil
	}
	return client.Close()
}

// hasLockFile reports whether a postmaster runs or has died without cleaning up.
func (i *Instance) hasLockFile() bool {
	_, err := os.Lstat(filepath.Join(i.cfg.DataDir, "postmaster.pid"))
	return err == nil
}
