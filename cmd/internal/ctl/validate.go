package ctl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/specfile"
	"github.com/ramhq/ram/spec/hclspec"
)

func (a *app) validateCommand() *cobra.Command {
	var f specFlags
	cmd := &cobra.Command{
		Use:   "validate [PATH...]",
		Short: "Check specs without asking a cluster",
		Long: `Check specs for everything that can be wrong with them on their own: syntax,
unknown names, wrong types, settings that PostgreSQL or ram refuse. All findings
are shown, with file, line and column, and what to write instead.

Each PATH is a spec of its own: a file, a directory of *.hcl files, or - for standard
input. Without any, --spec, RAM_SPEC and ./cluster.hcl are looked at. Exit code 1
when a spec cannot be used; warnings alone are 0.`,
		Example: `  ramctrl validate cluster.hcl
  ramctrl validate examples/*.hcl
  ramctrl validate -o json cluster.hcl | jq '.specs[].diagnostics[]'`,
	}
	f.add(cmd)
	cmd.RunE = a.do(func(_ context.Context, _ *cobra.Command, args []string) error {
		return a.validate(f, args)
	})
	return cmd
}

// validation is validate -o json.
type validation struct {
	Format   int             `json:"format"`
	Valid    bool            `json:"valid"`
	Errors   int             `json:"errors"`
	Warnings int             `json:"warnings"`
	Specs    []validatedSpec `json:"specs"`
}

// validatedSpec is one spec of a validation. Cluster and Digest are empty when
// the spec cannot be used.
type validatedSpec struct {
	Path        string              `json:"path"`
	Valid       bool                `json:"valid"`
	Cluster     string              `json:"cluster,omitempty"`
	Digest      string              `json:"digest,omitempty"`
	Diagnostics hclspec.Diagnostics `json:"diagnostics"`
	// Error is set when the spec could not be read at all.
	Error string `json:"error,omitempty"`
}

func (a *app) validate(f specFlags, args []string) error {
	paths, err := a.validatedPaths(f, args)
	if err != nil {
		return err
	}
	result := validation{Format: outputFormat, Valid: true, Specs: []validatedSpec{}}
	for _, path := range paths {
		v := a.validateOne(path, f)
		result.Valid = result.Valid && v.Valid
		result.Errors += v.Diagnostics.Errors()
		if v.Error != "" {
			result.Errors++
		}
		result.Warnings += v.Diagnostics.Warnings()
		result.Specs = append(result.Specs, v)
	}
	if a.json() {
		err = a.printJSON(result)
	} else {
		err = a.showValidation(result)
	}
	if err == nil && !result.Valid {
		err = exitCode(exitError)
	}
	return err
}

func (a *app) validatedPaths(f specFlags, args []string) ([]string, error) {
	if len(args) > 0 && f.spec == "" {
		return args, nil
	}
	path, err := a.path(f, args)
	if err != nil {
		return nil, err
	}
	if path == "" {
		return nil, usagef("no spec is named, and there is no ./%s: name a file or a directory", defaultSpec)
	}
	return []string{path}, nil
}

func (a *app) validateOne(path string, f specFlags) validatedSpec {
	v := validatedSpec{Path: path, Diagnostics: hclspec.Diagnostics{}}
	loaded, findings, err := specfile.Load([]string{path}, a.specOptions(f))
	if err != nil {
		v.Error = err.Error()
		return v
	}
	v.Diagnostics = append(v.Diagnostics, findings...)
	if loaded.Spec != nil {
		v.Valid, v.Cluster, v.Digest = true, loaded.Spec.Name, loaded.Spec.Digest()
	}
	return v
}

// showValidation writes what is wrong to standard error, what is right to
// standard output.
func (a *app) showValidation(result validation) error {
	for _, v := range result.Specs {
		if v.Error != "" {
			a.warn("%s", v.Error)
		}
		if err := v.Diagnostics.Render(a.sys.Stderr, hclspec.RenderOptions{Color: a.style().Color}); err != nil {
			return err
		}
		switch {
		case !v.Valid && v.Error == "":
			a.warn("\n%s cannot be used: %s.", v.Path, counted(v.Diagnostics))
		case v.Valid && len(v.Diagnostics) > 0:
			a.say("%s is valid, with %s: cluster %s.", v.Path, counted(v.Diagnostics), v.Cluster)
		case v.Valid:
			a.say("%s is valid: cluster %s.", v.Path, v.Cluster)
		}
	}
	return nil
}

func counted(ds hclspec.Diagnostics) string {
	plural := func(n int, noun string) string {
		if n == 1 {
			return "1 " + noun
		}
		return fmt.Sprintf("%d %ss", n, noun)
	}
	switch {
	case ds.Warnings() == 0:
		return plural(ds.Errors(), "error")
	case ds.Errors() == 0:
		return plural(ds.Warnings(), "warning")
	}
	return plural(ds.Errors(), "error") + ", " + plural(ds.Warnings(), "warning")
}
