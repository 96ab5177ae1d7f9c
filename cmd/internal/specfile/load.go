// Package specfile brings specs from disk to package hclspec and back: files,
// directories and standard input, with the variables, the environment and the
// included files that an operator has.
package specfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ramhq/ram/spec"
	"github.com/ramhq/ram/spec/hclspec"
)

// Stdin is the path that means standard input.
const Stdin = "-"

// Options are what comes from the command line. The zero value has no
// variables and no standard input, and reads the environment of the process.
type Options struct {
	// Vars are "name=value", as --var gives them; later ones win.
	Vars []string
	// VarFiles are paths of files of HCL attributes; later ones win.
	VarFiles []string
	// Stdin is read for the path "-". Nil has no standard input.
	Stdin io.Reader
	// LookupEnv answers env(). Nil is os.LookupEnv.
	LookupEnv func(name string) (string, bool)
}

// Loaded is a spec with what it was made of.
type Loaded struct {
	// Spec is nil when a diagnostic is an error.
	Spec *spec.Cluster
	// Sources are the files of the spec in the order in which they were read.
	// They hold no values of variables.
	Sources []hclspec.Source
	// Files are all files that had a part in it, also variable files and those
	// that file() read or failed to read: absolute, sorted. A change of any of them may
	// change the spec.
	Files []string
	// Dirs are the directories whose *.hcl files are the spec, absolute and sorted. A
	// new file in one of them changes the spec.
	Dirs []string
}

// Text is the source to keep with a revision: of one file as it is, of several
// one after the other, each under a comment with its name.
func (l Loaded) Text() string {
	if len(l.Sources) == 1 {
		return string(l.Sources[0].Text)
	}
	var text strings.Builder
	for _, source := range l.Sources {
		fmt.Fprintf(&text, "# file: %s\n%s", filepath.Base(source.Name), source.Text)
		if !strings.HasSuffix(text.String(), "\n") {
			text.WriteByte('\n')
		}
	}
	return text.String()
}

// Load reads the spec that the paths describe together. A path is a file, a
// directory, of which every *.hcl file counts in the order of names, or "-". What is wrong with the
// text is in the diagnostics; the error is for what could not be read at all, and
// Loaded names the files even then.
func Load(paths []string, opts Options) (Loaded, hclspec.Diagnostics, error) {
	disk := newDisk(opts)
	sources, err := disk.sources(paths)
	if err != nil {
		return disk.loaded(nil, sources), nil, err
	}
	parse := hclspec.Options{
		Env:      opts.LookupEnv,
		ReadFile: disk.read,
	}
	if parse.Env == nil {
		parse.Env = os.LookupEnv
	}
	if parse.Vars, err = splitVars(opts.Vars); err != nil {
		return disk.loaded(nil, sources), nil, err
	}
	for _, path := range opts.VarFiles {
		text, err := disk.read(path)
		if err != nil {
			return disk.loaded(nil, sources), nil, fmt.Errorf("variable file: %w", err)
		}
		parse.VarFiles = append(parse.VarFiles, hclspec.Source{Name: path, Text: text})
	}
	cluster, diagnostics := hclspec.Parse(sources, parse)
	return disk.loaded(cluster, sources), diagnostics, nil
}

func splitVars(vars []string) (map[string]string, error) {
	values := make(map[string]string, len(vars))
	for _, v := range vars {
		name, value, ok := strings.Cut(v, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("--var %s has no value; write --var name=value", name)
		}
		values[name] = value
	}
	return values, nil
}

// disk reads files and remembers which.
type disk struct {
	stdin     io.Reader
	readFiles map[string]bool
	listed    map[string]bool
}

func newDisk(opts Options) *disk {
	return &disk{stdin: opts.Stdin, readFiles: map[string]bool{}, listed: map[string]bool{}}
}

func (d *disk) loaded(cluster *spec.Cluster, sources []hclspec.Source) Loaded {
	return Loaded{Spec: cluster, Sources: sources, Files: sortedKeys(d.readFiles), Dirs: sortedKeys(d.listed)}
}

func (d *disk) read(path string) ([]byte, error) {
	d.readFiles[absolute(path)] = true
	return os.ReadFile(path)
}

func (d *disk) sources(paths []string) ([]hclspec.Source, error) {
	files, err := d.expand(paths)
	if err != nil {
		return nil, err
	}
	var sources []hclspec.Source
	for _, path := range files {
		source, err := d.source(path)
		if err != nil {
			return sources, err
		}
		sources = append(sources, source)
	}
	return sources, nil
}

func (d *disk) source(path string) (hclspec.Source, error) {
	if path == Stdin {
		if d.stdin == nil {
			return hclspec.Source{}, errors.New("standard input cannot be read here; name a file")
		}
		text, err := io.ReadAll(d.stdin)
		if err != nil {
			return hclspec.Source{}, fmt.Errorf("read standard input: %w", err)
		}
		return hclspec.Source{Name: "<stdin>", Text: text}, nil
	}
	text, err := d.read(path)
	if err != nil {
		return hclspec.Source{}, fmt.Errorf("read spec: %w", err)
	}
	return hclspec.Source{Name: path, Text: text}, nil
}

// expand replaces directories by their files and drops repetitions.
func (d *disk) expand(paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, errors.New("no spec is named; name a file, a directory or - for standard input")
	}
	var files []string
	seen := map[string]bool{}
	for _, path := range paths {
		inside, err := d.list(path)
		if err != nil {
			return nil, err
		}
		for _, file := range inside {
			if key := absolute(file); !seen[key] {
				seen[key] = true
				files = append(files, file)
			}
		}
	}
	return files, nil
}

func (d *disk) list(path string) ([]string, error) {
	if path == Stdin {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		d.readFiles[absolute(path)] = true
		return nil, fmt.Errorf("read spec: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	d.listed[absolute(path)] = true
	entries, err := os.ReadDir(path) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	var files []string
	for _, entry := range entries {
		name := filepath.Join(path, entry.Name())
		if filepath.Ext(name) != ".hcl" || strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if info, err := os.Stat(name); err == nil && !info.IsDir() {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("directory %s has no *.hcl files; name the spec itself", path)
	}
	return files, nil
}

func absolute(path string) string {
	if path == Stdin {
		return path
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return filepath.Clean(path)
	}
	return abs
}

func sortedKeys(set map[string]bool) []string {
	var keys []string
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
