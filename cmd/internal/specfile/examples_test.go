package specfile_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/cmd/internal/specfile"
)

const examples = "../../../examples"

// example is what a spec under examples is expected to say.
type example struct {
	varFiles []string
}

func exampleSpecs() map[string]example {
	return map[string]example{
		"quickstart.hcl": {},
		"production.hcl": {},
		"witness.hcl":    {},
		"five-nodes.hcl": {},
		"split":          {varFiles: []string{filepath.Join(examples, "split", "staging.vars")}},
	}
}

// Every spec under examples is in exampleSpecs.
func TestEveryExampleIsTested(t *testing.T) {
	entries, err := os.ReadDir(examples)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		inside, err := filepath.Glob(filepath.Join(examples, entry.Name(), "*.hcl"))
		if err != nil {
			t.Fatal(err)
		}
		isSpec := filepath.Ext(entry.Name()) == ".hcl" || len(inside) > 0
		if _, tested := exampleSpecs()[entry.Name()]; isSpec && !tested {
			t.Errorf("%s is not tested", entry.Name())
		}
	}
}

func TestExamplesAreValid(t *testing.T) {
	for name, want := range exampleSpecs() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(examples, name)
			loaded, diagnostics, err := specfile.Load([]string{path}, specfile.Options{VarFiles: want.varFiles})
			if err != nil || len(diagnostics) > 0 {
				t.Fatalf("%v\n%s", err, diagnostics.Error())
			}
			if problems := loaded.Spec.Validate(); len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
		})
	}
}

func TestExamplesAreFormatted(t *testing.T) {
	for name := range exampleSpecs() {
		formatted, broken, err := specfile.Format([]string{filepath.Join(examples, name)}, specfile.Options{})
		if err != nil || len(broken) > 0 {
			t.Fatal(err, broken.Error())
		}
		for _, f := range formatted {
			if diff := cmp.Diff(string(f.After), string(f.Before)); diff != "" {
				t.Errorf("%s (-formatted +as it is):\n%s", f.Path, diff)
			}
		}
	}
}

func TestQuickstartIsThreeNodesOnLoopback(t *testing.T) {
	loaded, diagnostics, err := specfile.Load([]string{filepath.Join(examples, "quickstart.hcl")}, specfile.Options{})
	if err != nil || loaded.Spec == nil {
		t.Fatal(err, diagnostics.Error())
	}
	var got []string
	for _, n := range loaded.Spec.Nodes {
		got = append(got, n.Name+" "+n.Host)
	}
	if !slices.Equal(got, []string{"a 127.0.0.11", "b 127.0.0.12", "c 127.0.0.13"}) || loaded.Spec.Name != "demo" {
		t.Errorf("cluster %s of %v", loaded.Spec.Name, got)
	}
}
