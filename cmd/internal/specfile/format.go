package specfile

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/ramhq/ram/spec/hclspec"
)

// Formatted is one file before and after Format.
type Formatted struct {
	// Path is as it was named, or as it was found in a directory that was
	// named; "-" is standard input.
	Path          string
	Before, After []byte
}

// Changed reports whether the file was not in its canonical layout.
func (f Formatted) Changed() bool { return !bytes.Equal(f.Before, f.After) }

// Save replaces the file by its new text, whole or not at all, with the same
// permissions. A file without changes is not touched. Standard input cannot be saved.
func (f Formatted) Save() error {
	if !f.Changed() {
		return nil
	}
	if f.Path == Stdin {
		return errors.New("standard input cannot be rewritten; write the result elsewhere")
	}
	target, err := filepath.EvalSymlinks(f.Path) // the link stays a link
	if err != nil {
		return fmt.Errorf("save formatted spec: %w", err)
	}
	if err := renameio.WriteFile(target, f.After, 0o644, renameio.WithExistingPermissions()); err != nil {
		return fmt.Errorf("save formatted spec: %w", err)
	}
	return nil
}

// Format gives the files that the paths name their canonical layout, without
// writing anything. Files with broken syntax are left out and are in the
// diagnostics. Of the options only Stdin counts.
func Format(paths []string, opts Options) ([]Formatted, hclspec.Diagnostics, error) {
	disk := newDisk(opts)
	files, err := disk.expand(paths)
	if err != nil {
		return nil, nil, err
	}
	var formatted []Formatted
	var broken hclspec.Diagnostics
	for _, path := range files {
		source, err := disk.source(path)
		if err != nil {
			return nil, nil, err
		}
		after, err := hclspec.Format(source.Name, source.Text)
		if found, ok := errors.AsType[hclspec.Diagnostics](err); ok {
			broken = append(broken, found...)
			continue
		}
		formatted = append(formatted, Formatted{Path: path, Before: source.Text, After: after})
	}
	return formatted, broken, nil
}
