package sim

import (
	"encoding/json"
	"fmt"

	"github.com/ramhq/ram/reconcile"
)

func decodeRecord(b []byte) (*reconcile.Record, error) {
	rec := &reconcile.Record{}
	return rec, json.Unmarshal(b, rec)
}

// advance lets time pass.
func (w *World) advance() {
	w.now++
	w.flow()
	w.checkServers()
}

// one event of a host or of the leader.
func (w *World) actOnce(h *host) bool {
	did := w.act(h)
	w.checkServers()
	return did
}

// Settle heals what faults left broken, lets everything take its turn and
// returns when the cluster has converged and has stayed so for longer than
// silence. It gives up after bound turns.
func (w *World) Settle(bound int) error {
	w.heal()
	quiet := 0
	for range bound {
		idle := w.turn()
		if err := w.Err(); err != nil {
			return err
		}
		if !idle {
			quiet = 0
			continue
		}
		if quiet++; quiet > silence+2 {
			return nil
		}
	}
	return fmt.Errorf("%w in %d turns: %s\n%s", ErrStuck, bound, w.Unfinished(), w.Transcript(60))
}

// Turns lets everything take its turn n times.
func (w *World) Turns(n int) {
	for range n {
		w.turn()
	}
}

// HalfTurn lets hosts act and nobody report.
func (w *World) HalfTurn() {
	w.advance()
	for _, h := range w.all() {
		w.actOnce(h)
	}
}

// turn is a tick in which every host and the leader do what they can. It
// reports whether nothing was to be done.
func (w *World) turn() (idle bool) {
	w.advance()
	acted := false
	for _, h := range w.all() {
		for range 3 {
			acted = w.actOnce(h) || acted
		}
		w.exchange(h)
	}
	idle = w.round()
	for _, h := range w.all() {
		w.exchange(h)
	}
	return idle && !acted
}

// Unfinished says what the plan still holds.
func (w *World) Unfinished() string {
	if w.Record.Spec == nil {
		return "no spec"
	}
	plan := reconcile.Diff(w.Record.Spec, w.Record, w.Observed())
	text := ""
	for _, s := range plan.Steps {
		text += fmt.Sprintf("%s (%s; after %v; waits %q; effect %v); ", s.ID, s.Reason, s.After, s.Waits, s.Effect() != nil)
	}
	for _, b := range plan.Blocked {
		text += "blocked: " + b.Reason + "; "
	}
	if w.Record.Run != nil {
		text += fmt.Sprintf("run %d", w.Record.Run.ID)
	}
	return text
}

// Chaos does events in random order, with faults among them.
func (w *World) Chaos(events, faults int) error {
	for range events {
		switch n := w.random.IntN(100); {
		case n < 40:
			w.actOnce(w.anyone())
		case n < 70:
			w.exchange(w.anyone())
		case n < 90:
			w.round()
		case n < 98 || faults == 0:
			w.advance()
		default:
			faults--
			w.fault()
		}
		w.checkServers()
		if err := w.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) anyone() *host { return w.order[w.random.IntN(len(w.order))] }

// Serials is how many assignments the members have been issued altogether.
func (w *World) Serials() (sum uint64) {
	for _, a := range w.Record.Assignments {
		sum += a.Serial
	}
	return sum
}
