package instance

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
)

var (
	// ErrSlotActive is returned for a slot that cannot go because somebody streams
	// through it.
	ErrSlotActive = errors.New("the replication slot is in use")
	// ErrSlotKind is returned when the name belongs to a logical slot.
	ErrSlotKind = errors.New("the replication slot is a logical one")
)

// slotState is one slot as the actions need it.
type slotState struct {
	kind      string
	activePID *int32
}

// CreateSlot makes a physical replication slot that keeps WAL from now on. One that
// exists is left alone.
func (i *Instance) CreateSlot(ctx context.Context, name string) error {
	return i.withSession(ctx, func(conn *pgx.Conn) error {
		have, err := findSlot(ctx, conn, name)
		if err != nil || have != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", name); err != nil {
			return fmt.Errorf("create replication slot %s: %w", name, err)
		}
		i.logger.Info().Str("slot", name).Msg("replication slot created")
		return nil
	})
}

// findSlot is nil when there is no such slot, and an error for a logical one.
func findSlot(ctx context.Context, conn *pgx.Conn, name string) (*slotState, error) {
	var s slotState
	err := conn.QueryRow(ctx, "SELECT slot_type, active_pid FROM pg_replication_slots WHERE slot_name = $1", name).Scan(&s.kind, &s.activePID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look up replication slot %s: %w", name, err)
	case s.kind != "physical":
		return nil, fmt.Errorf("%w: %s; drop it or rename the node", ErrSlotKind, name)
	}
	return &s, nil
}

// DropSlot drops a physical replication slot. One that is not there is dropped; one
// in use is ErrSlotActive.
func (i *Instance) DropSlot(ctx context.Context, name string) error {
	return i.withSession(ctx, func(conn *pgx.Conn) error {
		have, err := findSlot(ctx, conn, name)
		if err != nil || have == nil {
			return err
		}
		if have.activePID != nil {
			return fmt.Errorf("%w: %s, by process %d; stop the standby that uses it first", ErrSlotActive, name, *have.activePID)
		}
		if _, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name); err != nil {
			return fmt.Errorf("drop replication slot %s: %w", name, err)
		}
		i.logger.Info().Str("slot", name).Msg("replication slot dropped")
		return nil
	})
}

// FreeSlot ends the connection of whoever streams through a slot, so that it can be
// dropped before they are back. A slot that nobody uses is free.
func (i *Instance) FreeSlot(ctx context.Context, name string) error {
	return i.withSession(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
			WHERE slot_name = $1 AND active_pid IS NOT NULL`, name)
		if err != nil {
			return fmt.Errorf("free replication slot %s: %w", name, err)
		}
		return nil
	})
}

// AdvanceSlot moves a slot that nobody uses forward to a position, so that it does
// not keep WAL that its member has already; PostgreSQL itself stops at what it has
// replayed or flushed. A slot never goes back. One that is not there, is in use or
// has never reserved WAL is left alone.
func (i *Instance) AdvanceSlot(ctx context.Context, name string, to pg.LSN) error {
	return i.withSession(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT pg_replication_slot_advance(slot_name, $2::text::pg_lsn) FROM pg_replication_slots
			WHERE slot_name = $1 AND slot_type = 'physical' AND NOT active AND restart_lsn < $2::text::pg_lsn`, name, to.String())
		if err != nil {
			return fmt.Errorf("advance replication slot %s to %s: %w", name, to, err)
		}
		return nil
	})
}
