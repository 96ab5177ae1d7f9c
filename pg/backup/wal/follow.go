package wal

import (
	"context"
	"errors"
	"time"

	"github.com/ramhq/ram/pg/backup"
)

// The pauses between a follower's looks at the repository grow from the first to the last.
const (
	firstLook = 100 * time.Millisecond
	lastLook  = time.Second
)

// confirm waits until the repository has the file: the holder puts it there. waited is
// how long the follower has waited before; what it comes to is returned.
func (a *Archiver) confirm(ctx context.Context, file string, waited time.Duration) (time.Duration, error) {
	object, err := backup.WALName(file)
	if err != nil {
		return waited, err
	}
	began := time.Now()
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		there, err := a.stored(ctx, object)
		if err != nil || there {
			return 0, err
		}
		left := a.cfg.Wait - waited - time.Since(began)
		if left <= 0 {
			return 0, a.unneeded(ctx, file)
		}
		if err := a.sleep(ctx, min(pause, left), Follower); err != nil {
			return waited + time.Since(began), err
		}
	}
}

func (a *Archiver) stored(ctx context.Context, object string) (there bool, err error) {
	err = a.repository.use(ctx, func(h *handle) error {
		_, err := h.Stat(ctx, object)
		return err
	})
	if errors.Is(err, backup.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// unneeded accepts a file that no backup needs: the primary has archived it long ago, and
// it has expired since. Otherwise the answer is ErrNotYet.
func (a *Archiver) unneeded(ctx context.Context, file string) error {
	return a.repository.use(ctx, func(h *handle) error {
		n, err := ParseName(file)
		if err != nil {
			return err
		}
		needs, err := readNeeds(ctx, h.Repository, nil)
		if err != nil {
			return err
		}
		if needs.has(n) {
			return errHere{ErrNotYet}
		}
		return nil
	})
}

// sleep ends early with the standing.
func (a *Archiver) sleep(ctx context.Context, d time.Duration, while Standing) error {
	tick := time.NewTicker(standingPoll)
	defer tick.Stop()
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-over.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if a.cfg.Standing() != while {
				return errStandingChanged
			}
		}
	}
}
