package instance

import (
	"fmt"
	"path/filepath"

	"github.com/ramhq/ram/pg"
)

// PasswordFile is where KeepPassword keeps an entry: beside the socket, where only
// ramd and PostgreSQL's own user may look.
func (i *Instance) PasswordFile() string { return filepath.Join(i.SocketDir(), "password") }

// KeepPassword writes PasswordFile, for servers that name it in a connection
// string. An unchanged one is left alone.
func (i *Instance) KeepPassword(entry pg.PassfileEntry) error {
	line, err := entry.Line()
	if err != nil {
		return err
	}
	if err := i.prepareState(); err != nil {
		return err
	}
	have, there, err := readFile(i.PasswordFile())
	if err == nil && there && string(have) == line {
		return nil
	}
	if err := i.user.writeFile(i.PasswordFile(), []byte(line)); err != nil {
		return fmt.Errorf("keep the replication password: %w", err)
	}
	return nil
}
