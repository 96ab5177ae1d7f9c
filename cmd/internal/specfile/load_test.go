package specfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ramhq/ram/cmd/internal/specfile"
)

// inDir writes the files of a txtar text into a new directory.
func inDir(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := txtar.Write(txtar.Parse([]byte(text)), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

const cluster = `cluster "demo" {
  postgres {
    version = 15
  }

  node "a" {
    host = "10.0.0.11"
    zone = ZONE
  }
}
`

func clusterIn(zone string) string { return strings.Replace(cluster, "ZONE", zone, 1) }

func TestLoadFile(t *testing.T) {
	dir := inDir(t, "-- sub/cluster.hcl --\n"+clusterIn(`file("zone.txt")`)+"-- sub/zone.txt --\nnorth")
	path := filepath.Join(dir, "sub", "cluster.hcl")
	loaded, diagnostics, err := specfile.Load([]string{path}, specfile.Options{})
	if err != nil || loaded.Spec == nil {
		t.Fatal(err, diagnostics.Error())
	}
	if got := loaded.Spec.Nodes[0].Zone; got != "north\n" {
		t.Errorf("zone is %q", got)
	}
	want := []string{path, filepath.Join(dir, "sub", "zone.txt")}
	if diff := cmp.Diff(want, loaded.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if loaded.Text() != clusterIn(`file("zone.txt")`) {
		t.Errorf("text is %q", loaded.Text())
	}
}

func TestLoadDirectory(t *testing.T) {
	dir := inDir(t, `-- 20-nodes.hcl --
cluster "demo" {
  node "a" {
    host = local.host
  }
}
-- 10-cluster.hcl --
cluster "demo" {
  postgres {
    version = 15
  }
}
locals {
  host = "10.0.0.11"
}
-- .hidden.hcl --
broken {
-- notes.txt --
not a spec
-- sub/other.hcl --
also not
`)
	if err := os.Mkdir(filepath.Join(dir, "dir.hcl"), 0o755); err != nil {
		t.Fatal(err)
	}
	loaded, diagnostics, err := specfile.Load([]string{dir}, specfile.Options{})
	if err != nil || loaded.Spec == nil {
		t.Fatal(err, diagnostics.Error())
	}
	want := []string{filepath.Join(dir, "10-cluster.hcl"), filepath.Join(dir, "20-nodes.hcl")}
	if diff := cmp.Diff(want, loaded.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{dir}, loaded.Dirs); diff != "" {
		t.Errorf("directories (-want +got):\n%s", diff)
	}
	text := loaded.Text()
	first, second := strings.Index(text, "# file: 10-cluster.hcl\n"), strings.Index(text, "# file: 20-nodes.hcl\n")
	if first < 0 || second < first {
		t.Errorf("text does not name its files in order:\n%s", text)
	}
}

// A directory as Kubernetes mounts it: the names are symbolic links through a
// hidden directory that is swapped.
func TestLoadDirectoryOfLinks(t *testing.T) {
	dir := inDir(t, "-- ..v1/cluster.hcl --\n"+clusterIn(`"north"`))
	for link, target := range map[string]string{"..data": "..v1", "cluster.hcl": filepath.Join("..data", "cluster.hcl")} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	loaded, diagnostics, err := specfile.Load([]string{dir}, specfile.Options{})
	if err != nil || loaded.Spec == nil {
		t.Fatal(err, diagnostics.Error())
	}
}

func TestLoadStandardInput(t *testing.T) {
	loaded, diagnostics, err := specfile.Load([]string{"-"}, specfile.Options{Stdin: strings.NewReader(clusterIn(`"x"`))})
	if err != nil || loaded.Spec == nil || len(loaded.Files) != 0 {
		t.Fatal(err, diagnostics.Error(), loaded.Files)
	}
	_, diagnostics, err = specfile.Load([]string{"-"}, specfile.Options{Stdin: strings.NewReader("clutser {\n}\n")})
	if err != nil || !strings.HasPrefix(diagnostics.Error(), "<stdin>:1:1: error:") {
		t.Error(err, diagnostics.Error())
	}
}

func TestLoadVariablesAndEnvironment(t *testing.T) {
	dir := inDir(t, "-- cluster.hcl --\nvariable \"z\" {\n}\n"+clusterIn(`"${var.z}-${env("SIDE")}"`)+"-- site.vars --\nz = \"file\"\n")
	spec, vars := filepath.Join(dir, "cluster.hcl"), filepath.Join(dir, "site.vars")
	env := func(name string) (string, bool) { return "left", name == "SIDE" }
	loaded, diagnostics, err := specfile.Load([]string{spec}, specfile.Options{VarFiles: []string{vars}, LookupEnv: env})
	if err != nil || loaded.Spec == nil {
		t.Fatal(err, diagnostics.Error())
	}
	if got := loaded.Spec.Nodes[0].Zone; got != "file-left" {
		t.Errorf("zone is %q", got)
	}
	if diff := cmp.Diff([]string{spec, vars}, loaded.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	loaded, diagnostics, err = specfile.Load([]string{spec}, specfile.Options{VarFiles: []string{vars}, Vars: []string{"z=a=b"}, LookupEnv: env})
	if err != nil || loaded.Spec == nil {
		t.Fatal(err, diagnostics.Error())
	}
	if got := loaded.Spec.Nodes[0].Zone; got != "a=b-left" {
		t.Errorf("zone is %q", got)
	}
}

func TestLoadSaysWhatCannotBeRead(t *testing.T) {
	dir := inDir(t, "-- empty/notes.txt --\n-- cluster.hcl --\n"+clusterIn(`"x"`))
	spec := filepath.Join(dir, "cluster.hcl")
	for _, tt := range []struct {
		rule  string
		paths []string
		opts  specfile.Options
		want  string
	}{
		{"no path", nil, specfile.Options{}, "no spec is named"},
		{"a missing file", []string{filepath.Join(dir, "missing.hcl")}, specfile.Options{}, "missing.hcl"},
		{"a directory without specs", []string{filepath.Join(dir, "empty")}, specfile.Options{}, "has no *.hcl files"},
		{"no standard input", []string{"-"}, specfile.Options{}, "standard input"},
		{"a variable without value", []string{spec}, specfile.Options{Vars: []string{"x"}}, "--var name=value"},
		{"a missing variable file", []string{spec}, specfile.Options{VarFiles: []string{filepath.Join(dir, "no.vars")}}, "no.vars"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			_, _, err := specfile.Load(tt.paths, tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// A watch has to wait for a file that is not there yet.
func TestMissingFilesAreWatchedToo(t *testing.T) {
	dir := inDir(t, "-- cluster.hcl --\n"+clusterIn(`file("zone.txt")`))
	missing := filepath.Join(dir, "missing.hcl")
	loaded, _, err := specfile.Load([]string{missing}, specfile.Options{})
	if err == nil || !cmp.Equal([]string{missing}, loaded.Files) {
		t.Errorf("got %v, %v", loaded.Files, err)
	}
	spec := filepath.Join(dir, "cluster.hcl")
	loaded, diagnostics, err := specfile.Load([]string{spec}, specfile.Options{})
	if err != nil || !diagnostics.HasErrors() || !cmp.Equal([]string{spec, filepath.Join(dir, "zone.txt")}, loaded.Files) {
		t.Errorf("got %v, %v, %v", loaded.Files, diagnostics, err)
	}
}

func TestTheSameFileIsReadOnce(t *testing.T) {
	dir := inDir(t, "-- cluster.hcl --\n"+clusterIn(`"x"`))
	spec := filepath.Join(dir, "cluster.hcl")
	loaded, diagnostics, err := specfile.Load([]string{spec, dir, spec}, specfile.Options{})
	if err != nil || loaded.Spec == nil || len(loaded.Sources) != 1 {
		t.Errorf("got %d sources, %v, %s", len(loaded.Sources), err, diagnostics.Error())
	}
}
