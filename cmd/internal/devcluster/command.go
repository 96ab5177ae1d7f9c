// Package devcluster is ramctrl dev: a whole cluster of ramd processes on one
// machine, for trying things out. Everything that it makes is below one
// directory, and it ends only processes that belong to that directory.
package devcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/render"
)

// Action is what a command does once its flags and arguments are in order.
type Action = func(ctx context.Context, cmd *cobra.Command, args []string) error

// Surroundings are what the commands touch of the program that they are part of.
type Surroundings struct {
	Stdout, Stderr io.Writer
	// Environ is the environment as name=value; LookupEnv reads it.
	Environ   []string
	LookupEnv func(name string) (string, bool)
	// JSON and Style are asked when a command runs, after flags are read.
	JSON  func() bool
	Style func() render.Style
	// Do makes an action a cobra command's RunE.
	Do func(Action) func(*cobra.Command, []string) error
}

// dev is one run of ramctrl dev.
type dev struct {
	Surroundings
	dir string // --dir
}

// Command is ramctrl dev with its verbs.
func Command(s Surroundings) *cobra.Command {
	d := &dev{Surroundings: s}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine, for trying things out",
		Long: `Run every node of a spec on this machine: one ramd for each, on the loopback
addresses that the spec gives them. The ramds are real and so is their PostgreSQL;
plan, apply and all other commands work as they do on several hosts.

Everything is kept in one directory: /var/lib/ram-dev/CLUSTER as root, otherwise
~/.local/state/ram-dev/CLUSTER, or the one that --dir names. dev down removes it.`,
		Example: `  ramctrl dev up examples/quickstart.hcl
  eval "$(ramctrl dev env)"
  ramctrl apply examples/quickstart.hcl
  ramctrl dev down`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q: write dev up, dev status, dev env or dev down", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&d.dir, "dir", "", "`DIR` of the dev cluster, instead of a place by the cluster's name")
	cmd.AddCommand(d.upCommand(), d.statusCommand(), d.envCommand(), d.downCommand())
	return cmd
}

func (d *dev) upCommand() *cobra.Command {
	f := upFlags{timeout: time.Minute}
	cmd := &cobra.Command{
		Use:   "up SPEC",
		Short: "Start a ramd for every node of a spec, and wait until they are a cluster",
		Long: `Start a ramd for every node of the spec in the background and wait until they have
formed the cluster. What runs already is left alone, so that it also starts what is
missing: a node that was added to the spec, a ramd that was killed. Flags that are
not given are those of the last time.

PostgreSQL is set up by ramctrl apply, or at once with --watch.`,
		Example: `  ramctrl dev up examples/quickstart.hcl
  ramctrl dev up --watch cluster.hcl
  ramctrl dev up --var version=16 --dir /tmp/try examples/five-nodes.hcl`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one spec: ramctrl dev up SPEC, a file or a directory")
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&f.vars, "var", nil, "value for a variable of the spec, `NAME=VALUE` (repeatable; a secret belongs in a --var-file)")
	cmd.Flags().StringArrayVar(&f.varFiles, "var-file", nil, "`FILE` with values for variables (repeatable)")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "have the ramds apply the spec whenever its file changes")
	cmd.Flags().DurationVar(&f.timeout, "timeout", f.timeout, "`TIME` that the cluster may take to form")
	f.given = cmd.Flags().Changed
	cmd.RunE = d.Do(func(ctx context.Context, _ *cobra.Command, args []string) error { return d.up(ctx, args[0], f) })
	return cmd
}

func (d *dev) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [SPEC]",
		Short: "Show the ramds of a dev cluster, and the cluster's status",
		Long: `Show every ramd of the dev cluster with its process, address and log, then the
cluster's status when one of them answers. Without SPEC: of every dev cluster in
the usual place.`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.RunE = d.Do(func(ctx context.Context, _ *cobra.Command, args []string) error { return d.status(ctx, args) })
	return cmd
}

func (d *dev) envCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "env [SPEC]",
		Short: "Print the exports that lead ramctrl to a dev cluster",
		Long: `Print shell commands that set RAM_ADDR and RAM_TOKEN_FILE, so that ramctrl finds the
dev cluster. SPEC may be left out when there is only one.`,
		Example: `  eval "$(ramctrl dev env)"`,
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.RunE = d.Do(func(_ context.Context, _ *cobra.Command, args []string) error { return d.env(args) })
	return cmd
}

func (d *dev) downCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "down [SPEC]",
		Short: "Stop a dev cluster with its PostgreSQL, and remove its data",
		Long: `Stop every ramd of the dev cluster and its PostgreSQL, also where a ramd was killed
and left PostgreSQL behind, and remove the directory with all data. Nothing else is
touched. SPEC may be left out when there is only one dev cluster.`,
		Example: `  ramctrl dev down
  ramctrl dev down --keep examples/quickstart.hcl`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the data, so that dev up continues with it")
	cmd.RunE = d.Do(func(ctx context.Context, _ *cobra.Command, args []string) error { return d.down(ctx, args, keep) })
	return cmd
}

// say writes for people: out of the way when data is asked for.
func (d *dev) say(format string, args ...any) {
	out := d.Stdout
	if d.JSON() {
		out = d.Stderr
	}
	fmt.Fprintf(out, format+"\n", args...)
}

// getenv reads the environment; empty when the variable is not set.
func (d *dev) getenv(name string) string {
	if v, ok := d.LookupEnv(name); ok {
		return v
	}
	return ""
}

// shellWord is text as a shell reads it back.
func shellWord(text string) string {
	bare := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:,=@%+", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !bare(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// command is a command line for the reader to copy, with --dir when this run had it.
func (d *dev) command(words ...string) string {
	line := []string{"ramctrl"}
	for _, word := range words {
		line = append(line, shellWord(word))
	}
	if d.dir != "" && len(words) > 0 && words[0] == "dev" {
		line = append(line, "--dir", shellWord(d.dir))
	}
	return strings.Join(line, " ")
}

// near is a path as people would name it from here, when that is shorter.
func near(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rest, below := strings.CutPrefix(path, strings.TrimSuffix(here, "/")+"/"); below {
		return rest
	}
	return path
}
