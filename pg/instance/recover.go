package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/ramhq/ram/pg"
)

// readControl reads the control file of the data directory in place.
func (i *Instance) readControl(ctx context.Context) (pg.ControlData, error) {
	text, err := i.controlData(ctx, i.cfg.DataDir)
	if err != nil {
		return pg.ControlData{}, err
	}
	control, err := pg.ParseControlData(text)
	if err != nil {
		return pg.ControlData{}, fmt.Errorf("%s: %w", i.cfg.DataDir, err)
	}
	return control, nil
}

// recoverAlone replays all WAL of a data directory, in a server that takes no
// connections, so that it is as if it had been shut down. pg_rewind needs that, and
// does it itself after a crash. It does not after a standby was stopped, and then
// overlooks WAL that was received and not replayed: that would be replayed at the
// next start, beyond the point where the primary's timeline left it.
//
// The recovered server has written a checkpoint of its own: from here on it has to
// be rewound.
func (i *Instance) recoverAlone(ctx context.Context, control pg.ControlData) error {
	if control.State == "shut down" {
		return nil
	}
	_, err := os.Lstat(filepath.Join(i.cfg.DataDir, "backup_label"))
	if err == nil {
		return fmt.Errorf("%w: it is a copy that no server has made consistent", ErrRewindImpossible)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A server without connections refuses to be a standby.
	for _, name := range []string{standbyFile, "recovery.signal"} {
		if err := i.writeStandbyFile(filepath.Join(i.cfg.DataDir, name), false); err != nil {
			return err
		}
	}
	i.step("recovering")
	i.logger.Info().Str("state", control.State).Msg("recovering the data directory before it is rewound")
	err = i.run(ctx, child{program: "postgres", args: append([]string{"--single", "-D", i.cfg.DataDir}, singleUserSettings()...)})
	if err != nil {
		if cannotRecover.MatchString(err.Error()) {
			err = fmt.Errorf("%w: %w", ErrRewindImpossible, err)
		}
		return fmt.Errorf("recover the data directory: %w", err)
	}
	after, err := i.readControl(ctx)
	if err == nil && after.State != "shut down" {
		err = fmt.Errorf("recover the data directory: it is left %q", after.State)
	}
	return err
}

// singleUserSettings keep out of the way of a recovery what the directory's own
// configuration may say for a server with connections.
func singleUserSettings() []string {
	return []string{
		"-c", "synchronous_standby_names=", "-c", "archive_cleanup_command=", "-c", "recovery_end_command=",
		"-c", "log_destination=stderr", "-c", "log_min_messages=warning", "template1",
	}
}

// cannotRecover matches what PostgreSQL says when WAL is missing.
var cannotRecover = regexp.MustCompile(`could not locate a valid checkpoint record|could not locate required checkpoint record|` +
	`WAL ends before|invalid (primary )?checkpoint record|could not find redo location`)
