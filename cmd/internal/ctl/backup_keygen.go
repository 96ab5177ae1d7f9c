package ctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/pg/backup/ident"
)

func (a *app) backupKeygenCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key that encrypts backups",
		Long: `Make a new key for a repository's encryption block, and print it on standard output or
write it to a new file that only its owner can read. No cluster is asked.

Every node that holds data needs the file, at the path that key_file names, readable by
the user of ramd alone (0600). Keep a copy away from these hosts, with your other
secrets: WHOEVER LOSES THE KEY LOSES EVERY BACKUP that it encrypted, and so does a
cluster whose hosts are all gone.

It is an age identity: what it encrypted can also be read with the age program.`,
		Example: `  ramctrl backup keygen --out /etc/ram/backup.key
  ramctrl backup keygen | ssh root@db-2 'umask 077; cat > /etc/ram/backup.key'`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&out, "out", "", "write it to this new `FILE`, readable by its owner alone")
	cmd.RunE = a.do(func(context.Context, *cobra.Command, []string) error {
		if out != "" {
			return a.writeKey(out)
		}
		key, err := ident.GenerateKey()
		if err != nil {
			return err
		}
		if a.json() {
			return a.printJSON(keyOutput{Format: outputFormat, Key: key})
		}
		if _, err := fmt.Fprint(a.sys.Stdout, key); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		a.adviseKey()
		return nil
	})
	return cmd
}

// keyOutput is backup keygen -o json: the key, or the file that it was written to.
type keyOutput struct {
	Format int    `json:"format"`
	Key    string `json:"key,omitempty"`
	File   string `json:"file,omitempty"`
}

// writeKey makes a file with a new key. What is there already is never overwritten: it
// may be the only copy of a key.
func (a *app) writeKey(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, nothing was written: a key that is lost takes its backups with it; name another file", path)
	}
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	if err := fillKey(file); err != nil {
		return errors.Join(fmt.Errorf("write the key to %s: %w", path, err), os.Remove(path))
	}
	if a.json() {
		return a.printJSON(keyOutput{Format: outputFormat, File: path})
	}
	a.say("The key is in %s.", path)
	a.adviseKey()
	return nil
}

func fillKey(file *os.File) error {
	key, err := ident.GenerateKey()
	if err == nil {
		_, err = file.WriteString(key)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func (a *app) adviseKey() {
	a.warn(`
Put it at the key_file of the repository's encryption block on EVERY node that holds
data, owned by the user of ramd, mode 0600; and keep a copy OFF these hosts: without
it no backup that it encrypted can be restored by anybody.`)
}
