package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Gate tells restore_command whether to ask at all. While it is shut the command of
// RestoreCommand fails within a millisecond, which is what a promotion needs: PostgreSQL
// asks for several files that cannot be there. The zero Gate is always open.
type Gate struct{ flag string }

// NewGate is the gate of a flag file. PostgreSQL's user must be able to see the file, and
// its directory must exist.
func NewGate(flag string) Gate { return Gate{flag} }

// Shut makes the flag file. A gate that is shut stays so.
func (g Gate) Shut() error {
	f, err := os.OpenFile(g.flag, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("shut the gate to archived WAL: %w", err)
	}
	return f.Close()
}

// Open removes the flag file. A gate that is open stays so.
func (g Gate) Open() error {
	if err := os.Remove(g.flag); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open the gate to archived WAL: %w", err)
	}
	return nil
}

// IsShut reports whether the flag file is there.
func (g Gate) IsShut() bool {
	_, err := os.Lstat(g.flag)
	return g.flag != "" && err == nil
}

// ArchiveCommand is a value for archive_command: it asks the ramd that listens on socket,
// unless the directory of ArchiverConfig.Ahead (empty for none) says that the file is
// archived already. That saves a backlog the start of a program for each file. All are
// absolute paths.
func ArchiveCommand(ramd, socket, ahead string) string {
	ask := "exec " + quote(ramd) + " wal push --socket " + quote(socket) + " %f"
	if ahead == "" {
		return ask
	}
	return "test -e " + quote(ahead) + "/%f || " + ask
}

// RestoreCommand is a value for restore_command of a server that follows another, and for
// pg_rewind. What cannot be known now counts as not there: PostgreSQL goes on to stream, and
// asks again. flag is the file of a Gate, and empty for none.
func RestoreCommand(ramd, socket, flag string) string {
	ask := "exec " + quote(ramd) + " wal fetch --socket " + quote(socket) + ` %f "%p"`
	if flag == "" {
		return ask
	}
	return "test ! -e " + quote(flag) + " && " + ask
}

// RecoveryCommand is a value for restore_command of a recovery to a target. When it cannot
// be known whether the archive has a file, the command waits, and in the end has the server
// stop: PostgreSQL would otherwise take the WAL for over, and open short of the target.
// A server that stopped so goes on where it was when it is started again.
func RecoveryCommand(ramd, socket string) string {
	return "exec " + quote(ramd) + " wal fetch --must-know --socket " + quote(socket) + ` %f "%p"`
}

// quote is one word for the shell, in which PostgreSQL finds nothing to replace.
func quote(path string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "%", "%%").Replace(path) + "'"
}
