package instance

import (
	"context"
	"fmt"
	"time"

	"github.com/ramhq/ram/pg/guard"
)

// WriteProbe opens a fresh session, and on a primary commits something that reaches
// its own disk. A server that hangs, or whose disk does, answers with ctx's end. It
// waits for no standby. On a standby the fresh session alone is the probe. It
// shares nothing with Probe.
func (i *Instance) WriteProbe(ctx context.Context) error {
	conn, err := i.connect(ctx)
	if err != nil {
		return fmt.Errorf("write probe: open a session: %w", err)
	}
	defer closeSoon(conn)
	// The session's synchronous_commit is local.
	_, err = conn.Exec(ctx, "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_logical_emit_message(true, 'ram', '') END")
	if err != nil {
		return fmt.Errorf("write probe: %w", err)
	}
	return nil
}

// Renew lets the server that this instance's guard keeps run for ttl from this call
// on, for the primaryship of a term; see guard.Client.Renew for the errors. It is
// guard.ErrNotRunning when no guard is known.
func (i *Instance) Renew(ctx context.Context, term uint64, ttl time.Duration) error {
	client := i.guarded()
	if client == nil {
		return fmt.Errorf("renew the lease: %w %s under a guard", guard.ErrNotRunning, i.cfg.DataDir)
	}
	return client.Renew(ctx, term, ttl)
}
