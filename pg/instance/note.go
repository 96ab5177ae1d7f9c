package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A note is a small file of ramd's own in StateDir, replaced as a whole and durably.

// keepNote writes a note.
func (i *Instance) keepNote(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(i.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("make ramd's directory: %w", err)
	}
	var ramd systemUser // the zero user leaves the file to whom ramd runs as
	return ramd.writeFile(filepath.Join(i.cfg.StateDir, name), append(text, '\n'))
}

// readNote reports whether there is such a note. One that cannot be read is an error:
// what it would say is not known.
func (i *Instance) readNote(name string, value any) (bool, error) {
	path := filepath.Join(i.cfg.StateDir, name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return false, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return true, nil
}

// dropNote removes a note, durably.
func (i *Instance) dropNote(name string) error {
	err := os.Remove(filepath.Join(i.cfg.StateDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(i.cfg.StateDir)
}

const launchNote = "launched.json"

// launch says for what a server was started last.
type launch struct {
	Serial uint64 `json:"serial"`
}

// NoteLaunch remembers, durably, the number for which the server is being started.
func (i *Instance) NoteLaunch(serial uint64) error {
	if err := i.keepNote(launchNote, launch{Serial: serial}); err != nil {
		return fmt.Errorf("note the launch: %w", err)
	}
	return nil
}

// Launched is the number that NoteLaunch was given last; zero when there was none.
func (i *Instance) Launched() (uint64, error) {
	var l launch
	if _, err := i.readNote(launchNote, &l); err != nil {
		return 0, fmt.Errorf("look up the last launch: %w", err)
	}
	return l.Serial, nil
}
