package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/ramhq/ram/pg/guard"
)

// lease is a term that was confirmed, until a moment.
type lease struct {
	term  uint64
	until time.Time
}

// Renew is agent.Host's.
func (h *host) Renew(ctx context.Context, term uint64, ttl time.Duration) error {
	h.mu.Lock()
	h.lease = lease{term, time.Now().Add(ttl)}
	inst := h.inst
	h.mu.Unlock()
	if inst == nil {
		return nil
	}
	err := inst.Renew(ctx, term, ttl)
	if errors.Is(err, guard.ErrNotRunning) {
		return nil // the server that is about to be started begins with it
	}
	return err
}

// unlimited is longer than any server runs.
const unlimited = 10 * 365 * 24 * time.Hour

// release lets the primary here go on until a ramd is back, which gives it a lease again.
func (h *host) release(ctx context.Context) {
	h.mu.Lock()
	term, inst := h.lease.term, h.inst
	h.mu.Unlock()
	if inst == nil || term == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := inst.Renew(ctx, term, unlimited)
	if err != nil && !errors.Is(err, guard.ErrNotRunning) {
		h.log.Warn().Err(err).Msg("PostgreSQL ends when its lease does, unless ramd is back before")
	}
}

// Check is agent.Host's. A server that refuses answers.
func (h *host) Check(ctx context.Context) error {
	h.mu.Lock()
	inst := h.inst
	h.mu.Unlock()
	if inst == nil {
		return nil
	}
	err := inst.WriteProbe(ctx)
	if ctx.Err() == nil {
		return nil
	}
	return err
}
