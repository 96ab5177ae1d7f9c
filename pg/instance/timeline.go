package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ramhq/ram/pg"
)

// reservedHistory is a history file that says nothing: no timeline is taken for its
// child, and PostgreSQL does not use its number.
const reservedHistory = "# reserved by ramd: this timeline was given to another server\n"

// ReserveTimelines has the next promotion begin a timeline, or a later one, by marking
// those before it as used: PostgreSQL takes the first number of which it has no
// history file. Zero reserves nothing.
func (i *Instance) ReserveTimelines(next pg.Timeline) error {
	return i.reserveTimelines(i.cfg.DataDir, next)
}

func (i *Instance) reserveTimelines(dataDir string, next pg.Timeline) error {
	for timeline := pg.Timeline(2); timeline < next; timeline++ {
		path := historyFile(dataDir, timeline)
		_, err := os.Lstat(path)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reserve timelines: %w", err)
		}
		if err := i.user.writeFile(path, []byte(reservedHistory)); err != nil {
			return fmt.Errorf("reserve timelines: %w", err)
		}
	}
	return nil
}
