package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/ramhq/ram/reconcile"
)

// settledNote says which assignment a server was settled for, so that a ramd that was
// started again has nothing to settle on a server that ran on.
type settledNote struct {
	Serial uint64 `json:"serial"`
	PID    int    `json:"pid"`
}

func (h *host) settledPath() string { return filepath.Join(h.dataDir, "settled.json") }

// setSettled notes that all is as an assignment has it. The note only saves work: it
// need not survive a crash of the host. Of a promise there is none, since each ramd
// makes it anew.
func (h *host) setSettled(a reconcile.Assignment) {
	h.mu.Lock()
	h.settled = a.Serial
	note := settledNote{a.Serial, h.pid}
	h.mu.Unlock()
	if a.Frozen() {
		note = settledNote{}
	}
	text, err := json.Marshal(note)
	if err == nil {
		err = renameio.WriteFile(h.settledPath(), append(text, '\n'), 0o600)
	}
	if err != nil {
		h.log.Debug().Err(err).Msg("what was settled is not noted")
	}
}

// recallSettled reads the note once.
func (h *host) recallSettled(l reconcile.Local) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pid = l.Server.PID
	if h.recalled {
		return
	}
	h.recalled = true
	var note settledNote
	text, err := os.ReadFile(h.settledPath())
	if err != nil || json.Unmarshal(text, &note) != nil {
		return
	}
	if h.settled == 0 && note.PID == l.Server.PID && note.PID != 0 && note.Serial == l.Loaded {
		h.settled = note.Serial
	}
}
