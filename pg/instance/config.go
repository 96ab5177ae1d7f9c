package instance

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/ramhq/ram/pg"
)

// Names of the files in a data directory that ramd owns.
const (
	mainFile    = "postgresql.conf"
	managedFile = "ram.conf"
	autoFile    = "postgresql.auto.conf"
	hbaFile     = "pg_hba.conf"
	standbyFile = "standby.signal"
)

// ReadConfig reads the configuration files of the data directory. A file that is
// not there, or is no regular file, reads as empty.
func (i *Instance) ReadConfig() (pg.ConfigFiles, error) {
	return readConfig(i.cfg.DataDir)
}

func readConfig(dir string) (pg.ConfigFiles, error) {
	var files pg.ConfigFiles
	for _, file := range configTexts(&files) {
		content, _, err := readFile(filepath.Join(dir, file.name))
		if err != nil {
			return pg.ConfigFiles{}, fmt.Errorf("read configuration: %w", err)
		}
		*file.text = string(content)
	}
	_, err := os.Lstat(filepath.Join(dir, standbyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return pg.ConfigFiles{}, fmt.Errorf("read configuration: %w", err)
	}
	files.Standby = err == nil
	return files, nil
}

// configText is one configuration file and where its text belongs.
type configText struct {
	name string
	text *string
}

// configTexts are the files in the order in which they are written: the managed
// one last, since its content says for which configuration all of them are.
func configTexts(files *pg.ConfigFiles) []configText {
	return []configText{
		{hbaFile, &files.HBA}, {autoFile, &files.Auto}, {mainFile, &files.Main}, {managedFile, &files.Managed},
	}
}

// WriteConfig makes the configuration files what files says: each is replaced as a
// whole and durably, with the right owner and mode 0600. Files that are right
// already are left alone. A running server sees the change with Reload.
func (i *Instance) WriteConfig(files pg.ConfigFiles) error {
	i.building.Lock()
	defer i.building.Unlock()
	return i.writeConfig(i.cfg.DataDir, files)
}

func (i *Instance) writeConfig(dir string, files pg.ConfigFiles) error {
	if err := i.writeStandbyFile(filepath.Join(dir, standbyFile), files.Standby); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	for _, file := range configTexts(&files) {
		if err := i.writeRight(filepath.Join(dir, file.name), []byte(*file.text)); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

// writeRight writes a file unless it is right already.
func (i *Instance) writeRight(path string, content []byte) error {
	if i.isRight(path, content) {
		return nil
	}
	i.mu.Lock()
	i.frozen = frozenMark{} // what was seen was with other files
	i.mu.Unlock()
	return i.user.writeFile(path, content)
}

func (i *Instance) writeStandbyFile(signal string, standby bool) error {
	if standby {
		return i.writeRight(signal, nil)
	}
	err := os.Remove(signal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(signal))
}

// isRight reports whether a file has this content, owner and mode.
func (i *Instance) isRight(path string, content []byte) bool {
	have, there, err := readFile(path)
	if err != nil || !there || !bytes.Equal(have, content) {
		return false
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == i.user.uid
}
