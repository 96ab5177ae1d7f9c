package ctl

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/specfile"
	"github.com/ramhq/ram/spec/hclspec"
)

const defaultSpec = "cluster.hcl"

// specFlags say which spec a command is about.
type specFlags struct {
	spec     string
	vars     []string
	varFiles []string
}

func (f *specFlags) addVars(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.vars, "var", nil, "value for a variable of the spec, `NAME=VALUE` (repeatable)")
	cmd.Flags().StringArrayVar(&f.varFiles, "var-file", nil, "`FILE` with values for variables (repeatable)")
}

func (f *specFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.spec, "spec", "", "`SPEC`: a file or a directory (RAM_SPEC; default ./cluster.hcl when it exists)")
	f.addVars(cmd)
}

// path is the spec that is meant: the argument, the flag, the environment, then
// ./cluster.hcl when it exists. Empty means none, so the spec in force.
func (a *app) path(f specFlags, args []string) (string, error) {
	if len(args) > 0 && f.spec != "" {
		return "", usagef("the spec is named twice, as %s and as --spec %s: leave one out", args[0], f.spec)
	}
	switch {
	case len(args) > 0:
		return args[0], nil
	case f.spec != "":
		return f.spec, nil
	case a.sys.env("RAM_SPEC") != "":
		return a.sys.env("RAM_SPEC"), nil
	}
	if _, err := os.Stat(defaultSpec); err == nil {
		return defaultSpec, nil
	}
	return "", nil
}

func (a *app) specOptions(f specFlags) specfile.Options {
	return specfile.Options{Vars: f.vars, VarFiles: f.varFiles, Stdin: a.sys.Stdin, LookupEnv: a.sys.LookupEnv}
}

// load reads a usable spec. What is wrong with it is told on standard error.
func (a *app) load(path string, f specFlags) (specfile.Loaded, error) {
	loaded, findings, err := specfile.Load([]string{path}, a.specOptions(f))
	if err != nil {
		return loaded, err
	}
	if len(findings) > 0 {
		if err := findings.Render(a.sys.Stderr, hclspec.RenderOptions{Color: a.style().Color}); err != nil {
			return loaded, err
		}
		a.warn("")
	}
	if findings.HasErrors() {
		return loaded, errors.New("the spec cannot be used: put right what is said above, nothing was changed")
	}
	return loaded, nil
}
