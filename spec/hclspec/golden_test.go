package hclspec_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ramhq/ram/spec/hclspec"
)

var update = flag.Bool("update", false, "rewrite the expectations of the golden cases")

const goldenDir = "../../testscripts/spec"

// golden is one case: *.hcl files are the spec, options has a line for each
// option, want is the text of the diagnostics.
type golden struct {
	path    string
	archive *txtar.Archive
	opts    hclspec.Options
	sources []hclspec.Source
	files   map[string]string
}

func readGolden(t *testing.T, path string) golden {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g := golden{path: path, archive: archive, files: map[string]string{}}
	for _, f := range archive.Files {
		g.files[f.Name] = string(f.Data)
		if filepath.Ext(f.Name) == ".hcl" {
			g.sources = append(g.sources, hclspec.Source{Name: f.Name, Text: f.Data})
		}
	}
	g.readOptions(t)
	return g
}

func (g *golden) readOptions(t *testing.T) {
	t.Helper()
	env := map[string]string{}
	g.opts = hclspec.Options{
		Vars: map[string]string{},
		Env:  func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(name string) ([]byte, error) {
			text, ok := g.files[name]
			if !ok {
				return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
			}
			return []byte(text), nil
		},
	}
	for line := range strings.Lines(g.files["options"]) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		name, value, _ := strings.Cut(rest, "=")
		switch kind {
		case "var":
			g.opts.Vars[name] = value
		case "env":
			env[name] = value
		case "var-file":
			g.opts.VarFiles = append(g.opts.VarFiles, hclspec.Source{Name: rest, Text: []byte(g.files[rest])})
		default:
			t.Fatalf("%s: unknown option %q", g.path, kind)
		}
	}
}

func (g *golden) update(t *testing.T, want string) {
	t.Helper()
	for i := range g.archive.Files {
		if g.archive.Files[i].Name == "want" {
			g.archive.Files[i].Data = []byte(want)
		}
	}
	if err := os.WriteFile(g.path, txtar.Format(g.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func goldenPaths(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.txtar"))
	if err != nil || len(paths) < 45 {
		t.Fatalf("%d golden cases, %v", len(paths), err)
	}
	return paths
}

func TestGolden(t *testing.T) {
	for _, path := range goldenPaths(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			g := readGolden(t, path)
			cluster, diagnostics := hclspec.Parse(g.sources, g.opts)
			var text strings.Builder
			if err := diagnostics.Render(&text, hclspec.RenderOptions{}); err != nil {
				t.Fatal(err)
			}
			if *update {
				g.update(t, text.String())
			} else if diff := cmp.Diff(g.files["want"], text.String()); diff != "" {
				t.Errorf("diagnostics (-want +got):\n%s", diff)
			}
			if (cluster == nil) != diagnostics.HasErrors() {
				t.Errorf("cluster is nil: %t, errors: %d", cluster == nil, diagnostics.Errors())
			}
			if valid := strings.HasPrefix(filepath.Base(path), "valid-"); valid && len(diagnostics) > 0 {
				t.Errorf("a case named valid has findings:\n%s", text.String())
			}
		})
	}
}

// A secret of a case is any word that it gives to a sensitive variable, or that is
// spelled as "geheim" where no secret belongs.
func TestSensitiveValuesNeverAppear(t *testing.T) {
	secrets := []string{"Hunter", "quoted", "hunter-two", "geheim"}
	for _, path := range goldenPaths(t) {
		g := readGolden(t, path)
		_, diagnostics := hclspec.Parse(g.sources, g.opts)
		for _, d := range diagnostics {
			leaked := slices.IndexFunc(secrets, func(s string) bool {
				return strings.Contains(strings.ToLower(d.Summary+d.Detail), strings.ToLower(s))
			})
			if leaked >= 0 {
				t.Errorf("%s: %q is in %q, %q", path, secrets[leaked], d.Summary, d.Detail)
			}
		}
	}
}
