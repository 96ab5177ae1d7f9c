package ctl

import (
	"context"
	"fmt"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/specfile"
	"github.com/ramhq/ram/spec/hclspec"
)

type fmtFlags struct{ check, diff bool }

func (a *app) fmtCommand() *cobra.Command {
	var f fmtFlags
	cmd := &cobra.Command{
		Use:   "fmt [PATH...]",
		Short: "Give specs their canonical layout",
		Long: `Rewrite specs in their canonical layout: indentation, alignment, empty lines. The
names of the files that change are printed. Meaning and comments stay as they are.

Each PATH is a file, a directory, of which every *.hcl file counts, or - to read
standard input and write the result to standard output. Without any it is the
working directory. With --check or --diff nothing is written.`,
		Example: `  ramctrl fmt
  ramctrl fmt --check --diff examples
  ramctrl fmt - < cluster.hcl`,
	}
	cmd.Flags().BoolVar(&f.check, "check", false, "write nothing; exit with 1 when a file is not in its canonical layout")
	cmd.Flags().BoolVar(&f.diff, "diff", false, "write nothing; print the differences")
	cmd.RunE = a.do(func(_ context.Context, _ *cobra.Command, args []string) error {
		return a.format(f, args)
	})
	return cmd
}

func (a *app) format(f fmtFlags, args []string) error {
	if a.json() {
		return usagef("fmt has no JSON output")
	}
	if len(args) == 0 {
		args = []string{"."}
	}
	files, broken, err := specfile.Format(args, specfile.Options{Stdin: a.sys.Stdin})
	if err != nil {
		return err
	}
	changed := false
	for _, file := range files {
		changed = changed || file.Changed()
		if err := a.formatted(f, file); err != nil {
			return err
		}
	}
	if len(broken) > 0 {
		if err := broken.Render(a.sys.Stderr, hclspec.RenderOptions{Color: a.style().Color}); err != nil {
			return err
		}
		return exitCode(exitError)
	}
	if f.check && changed {
		return exitCode(exitError)
	}
	return nil
}

// formatted tells about one file, and writes it unless only asked to look.
func (a *app) formatted(f fmtFlags, file specfile.Formatted) error {
	looking := f.check || f.diff
	if file.Path == specfile.Stdin && !looking {
		_, err := a.sys.Stdout.Write(file.After)
		return err
	}
	if !file.Changed() {
		return nil
	}
	if f.diff {
		fmt.Fprint(a.sys.Stdout, udiff.Unified(file.Path, file.Path+" (formatted)", string(file.Before), string(file.After)))
	} else {
		fmt.Fprintln(a.sys.Stdout, file.Path)
	}
	if looking {
		return nil
	}
	return file.Save()
}
