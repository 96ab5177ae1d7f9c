package testscripts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const modulePath = "github.com/ramhq/ram"

// levels says where each package lives; imports go to a lower level only. A
// name that ends in "/..." stands for everything below it.
var levels = map[string]int{
	"spec": 0,
	"pg":   0,

	"reconcile":     1,
	"reconcile/sim": 1,

	"spec/hclspec":    2,
	"raftstore":       2,
	"pg/instance":     2,
	"pg/guard":        2,
	"pg/backup":       2,
	"pg/backup/ident": 1,
	"pg/internal/...": 1,
	"pg/backup/...":   2,

	"reconcile/leader": 3,
	"reconcile/agent":  3,

	"cmd/internal/...": 4,
	"cmd/ramd":         5,
	"cmd/ramctrl":      5,
}

// sameLevel lists the imports within one level that are meant.
var sameLevel = map[string]string{
	"spec -> pg":                           "a spec speaks of sizes, versions and LSNs in PostgreSQL's words",
	"pg/instance -> pg/guard":              "an instance starts its postmaster under the guard",
	"pg/backup/... -> pg/backup":           "taking, restoring and archiving work on the repository of the package above",
	"reconcile/sim -> reconcile":           "the simulation drives the real decisions",
	"cmd/internal/... -> cmd/internal/...": "the wiring knows every part of the command; Go forbids the cycles",
}

// testOnly packages and what is below them may import anything; nothing that
// ships may import them. The simulation has a level too: it may reach the
// decisions only.
var testOnly = []string{"reconcile/sim", "testscripts", "examples"}

// pure packages decide by their arguments alone. True: seeded randomness is
// allowed, as the simulation's schedules need it.
var pure = map[string]bool{"spec": false, "pg": false, "reconcile": false, "reconcile/sim": true}

// goPackage is what this test needs of `go list -json`.
type goPackage struct {
	Dir        string
	ImportPath string
	GoFiles    []string
	Imports    []string
}

func (p goPackage) name() string { return strings.TrimPrefix(p.ImportPath, modulePath+"/") }

func TestLayeringImportsGoDownOnly(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, violation := range importViolations(p) {
			t.Error(violation)
		}
	}
}

func TestLayeringPurePackagesReadNothingAmbient(t *testing.T) {
	for _, p := range listPackages(t) {
		seeded, isPure := pure[p.name()]
		if !isPure {
			continue
		}
		for _, file := range p.GoFiles {
			violations, err := impurities(path.Join(p.name(), file), filepath.Join(p.Dir, file), nil, seeded)
			if err != nil {
				t.Error(err)
			}
			for _, violation := range violations {
				t.Error(violation)
			}
		}
	}
}

func TestLayeringTopLevelHoldsOnlyTheHouse(t *testing.T) {
	// safe.directory: the checkout may belong to another user.
	files, err := exec.Command("git", "-c", "safe.directory=*", "-C", "..", "ls-files").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	for _, violation := range topLevelViolations(strings.Fields(string(files))) {
		t.Error(violation)
	}
}

// listPackages returns the packages of the module that have files which ship.
// A package that does not compile is listed too: its imports count.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	list := exec.Command("go", "list", "-e", "-json=Dir,ImportPath,GoFiles,Imports", "./...")
	list.Dir = ".."
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			if len(packages) == 0 {
				t.Fatal("go list shows no package that ships")
			}
			return packages
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		if len(p.GoFiles) > 0 {
			packages = append(packages, p)
		}
	}
}

// importViolations says what is wrong with the imports of one package.
func importViolations(p goPackage) []string {
	from := p.name()
	fromRule, fromLevel, known := levelOf(from)
	switch {
	case !known && isTestOnly(from):
		return nil
	case !known:
		return []string{from + " has no level: add it to the table in testscripts/layering_test.go"}
	}
	_, isPure := pure[from]
	var found []string
	for _, imported := range p.Imports {
		to, internal := strings.CutPrefix(imported, modulePath+"/")
		if !internal {
			if isPure && ambient(imported) && !(pure[from] && isRand(imported)) {
				found = append(found, fmt.Sprintf("%s imports %s: decisions are pure; pass the value in", from, imported))
			}
			continue
		}
		toRule, toLevel, known := levelOf(to)
		switch {
		case isTestOnly(to) && !isTestOnly(from):
			found = append(found, fmt.Sprintf("%s imports %s: that package is for tests only", from, to))
		case !known:
			found = append(found, fmt.Sprintf("%s imports %s, which has no level: add it to the table", from, to))
		case fromLevel == 3 && toLevel == 2:
			found = append(found, fmt.Sprintf("%s imports %s: level 3 declares the methods that it needs, and cmd/internal passes them in", from, to))
		case toLevel > fromLevel:
			found = append(found, fmt.Sprintf("%s (level %d) imports %s (level %d): imports go down only", from, fromLevel, to, toLevel))
		case toLevel == fromLevel && sameLevel[fromRule+" -> "+toRule] == "":
			found = append(found, fmt.Sprintf("%s imports %s: both are on level %d; let what is above them join the two", from, to, fromLevel))
		}
	}
	return found
}

func isTestOnly(name string) bool {
	return slices.ContainsFunc(testOnly, func(top string) bool {
		return name == top || strings.HasPrefix(name, top+"/")
	})
}

// levelOf returns the table's key for a package, and its level.
func levelOf(name string) (rule string, level int, known bool) {
	if level, known = levels[name]; known {
		return name, level, true
	}
	for rule, level := range levels {
		if prefix, isTree := strings.CutSuffix(rule, "..."); isTree && strings.HasPrefix(name, prefix) {
			return rule, level, true
		}
	}
	return "", 0, false
}

// ambient tells the imports by which a package could see or change something
// other than its arguments. net/netip and net/url only parse.
func ambient(imported string) bool {
	switch imported {
	case "net/netip", "net/url":
		return false
	case "os", "net", "syscall", "log", "io/ioutil", "math/rand", "math/rand/v2", "crypto/rand", "unsafe":
		return true
	}
	for _, tree := range []string{"os/", "net/", "log/", "golang.org/x/sys/", "github.com/rs/zerolog"} {
		if strings.HasPrefix(imported, tree) {
			return true
		}
	}
	return false
}

func isRand(imported string) bool { return imported == "math/rand" || imported == "math/rand/v2" }

// ambientNames are the functions by which an otherwise harmless import reads a
// clock, the environment, or writes to the terminal.
var ambientNames = map[string][]string{
	"time":          {"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep", "Local"},
	"fmt":           {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"path/filepath": {"Abs", "EvalSymlinks", "Glob", "Walk", "WalkDir"},
}

// seededNames are what seeded randomness needs of math/rand; everything else
// there draws from the process's own source.
var seededNames = []string{"New", "NewPCG", "NewChaCha8", "NewSource", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}

// impurities reads one file of a pure package and says where it starts a
// goroutine or names something ambient. src is as for parser.ParseFile; label
// is what the messages call the file.
func impurities(label, filename string, src any, seeded bool) ([]string, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, filename, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []string
	report := func(node ast.Node, what string) {
		found = append(found, fmt.Sprintf("%s:%d: %s", label, files.Position(node.Pos()).Line, what))
	}
	imports := importNames(file)
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ImportSpec:
			if node.Name != nil && node.Name.Name == "." {
				report(node, "dot import of "+node.Path.Value+": it hides where names come from")
			}
		case *ast.GoStmt:
			report(node, "starts a goroutine: decisions are pure; leave concurrency to the caller")
		case *ast.SelectorExpr:
			qualifier, isName := node.X.(*ast.Ident)
			if isName && ambientName(imports[qualifier.Name], node.Sel.Name, seeded) {
				report(node, fmt.Sprintf("uses %s.%s: decisions are pure; pass the value in", qualifier.Name, node.Sel.Name))
			}
		}
		return true
	})
	return found, nil
}

// importNames maps the names by which a file knows its imports to their paths.
func importNames(file *ast.File) map[string]string {
	names := make(map[string]string)
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the compiler's to report
		}
		name := path.Base(strings.TrimSuffix(imported, "/v2"))
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	return names
}

func ambientName(imported, name string, seeded bool) bool {
	switch {
	case isRand(imported):
		return !seeded || !slices.Contains(seededNames, name)
	case slices.Contains(ambientNames[imported], name):
		return true
	default:
		return imported == "os"
	}
}

// topLevelViolations names the entries that the design has no room for.
func topLevelViolations(files []string) []string {
	house := []string{
		"cmd", "reconcile", "spec", "raftstore", "pg", "examples", "testscripts",
		"go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
	}
	var found []string
	for _, file := range files {
		entry, _, _ := strings.Cut(file, "/")
		if !slices.Contains(house, entry) && !strings.HasPrefix(entry, ".") {
			found = append(found, fmt.Sprintf("%s: the top level holds %s and dot files only", file, strings.Join(house, ", ")))
		}
	}
	return found
}

func TestLayeringRulesRefuse(t *testing.T) {
	const ram = modulePath + "/"
	cases := []struct{ rule, from, to, want string }{
		{"going down is right", "reconcile", ram + "spec", ""},
		{"skipping levels is right", "cmd/internal/api", ram + "pg", ""},
		{"a spec speaks PostgreSQL", "spec", ram + "pg", ""},
		{"and not the other way round", "pg", ram + "spec", "pg imports spec: both are on level 0; let what is above them join the two"},
		{"instance uses guard", "pg/instance", ram + "pg/guard", ""},
		{"guard does not use instance", "pg/guard", ram + "pg/instance", "pg/guard imports pg/instance: both are on level 2; let what is above them join the two"},
		{"siblings do not meet", "raftstore", ram + "spec/hclspec", "raftstore imports spec/hclspec: both are on level 2; let what is above them join the two"},
		{"never up", "reconcile", ram + "pg/instance", "reconcile (level 1) imports pg/instance (level 2): imports go down only"},
		{"never up, not even to a child", "spec", ram + "spec/hclspec", "spec (level 0) imports spec/hclspec (level 2): imports go down only"},
		{"nothing imports a main package's level", "cmd/internal/api", ram + "cmd/ramd", "cmd/internal/api (level 4) imports cmd/ramd (level 5): imports go down only"},
		{"the wiring joins its parts", "cmd/internal/wiring", ram + "cmd/internal/api", ""},
		{"a leader declares what it needs", "reconcile/leader", ram + "raftstore", "reconcile/leader imports raftstore: level 3 declares the methods that it needs, and cmd/internal passes them in"},
		{"the simulation drives decisions", "reconcile/sim", ram + "reconcile", ""},
		{"the simulation does not ship", "reconcile/leader", ram + "reconcile/sim", "reconcile/leader imports reconcile/sim: that package is for tests only"},
		{"test packages do not ship", "cmd/ramd", ram + "testscripts", "cmd/ramd imports testscripts: that package is for tests only"},
		{"test packages may import anything", "testscripts", ram + "raftstore", ""},
		{"nor what is below them", "cmd/ramd", ram + "testscripts/cluster", "cmd/ramd imports testscripts/cluster: that package is for tests only"},
		{"a new package needs a level", "pg/vacuum", "fmt", "pg/vacuum has no level: add it to the table in testscripts/layering_test.go"},
		{"an import of one, too", "cmd/ramd", ram + "pg/vacuum", "cmd/ramd imports pg/vacuum, which has no level: add it to the table"},
		{"decisions see no files", "reconcile", "os", "reconcile imports os: decisions are pure; pass the value in"},
		{"decisions start no programs", "pg", "os/exec", "pg imports os/exec: decisions are pure; pass the value in"},
		{"decisions see no network", "spec", "net", "spec imports net: decisions are pure; pass the value in"},
		{"decisions serve no requests", "reconcile", "net/http", "reconcile imports net/http: decisions are pure; pass the value in"},
		{"decisions do not log", "reconcile", "github.com/rs/zerolog", "reconcile imports github.com/rs/zerolog: decisions are pure; pass the value in"},
		{"decisions throw no dice", "reconcile", "math/rand/v2", "reconcile imports math/rand/v2: decisions are pure; pass the value in"},
		{"the simulation may, with a seed", "reconcile/sim", "math/rand/v2", ""},
		{"addresses may be parsed", "spec", "net/netip", ""},
		{"data compiled in is no file", "pg", "embed", ""},
		{"what does the work may see files", "pg/instance", "os", ""},
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			found := importViolations(goPackage{ImportPath: ram + c.from, Imports: []string{c.to}})
			if diff := cmp.Diff(c.want, strings.Join(found, "\n")); diff != "" {
				t.Errorf("%s -> %s (-want +got):\n%s", c.from, c.to, diff)
			}
		})
	}
}

func TestLayeringPurityRefuses(t *testing.T) {
	const passIn = ": decisions are pure; pass the value in"
	cases := []struct {
		rule, source, want string
		seeded             bool
	}{
		{rule: "arguments are all that is needed", source: "import \"time\"\nfunc f(now time.Time) time.Time { return now.Add(time.Second) }"},
		{rule: "no clock", source: "import \"time\"\nvar t = time.Now()", want: "f.go:3: uses time.Now" + passIn},
		{rule: "no clock under another name", source: "import clock \"time\"\nvar now = clock.Now", want: "f.go:3: uses clock.Now" + passIn},
		{rule: "no elapsed time", source: "import \"time\"\nfunc f(t time.Time) any { return time.Since(t) }", want: "f.go:3: uses time.Since" + passIn},
		{rule: "no timers", source: "import \"time\"\nfunc f() { <-time.After(1) }", want: "f.go:3: uses time.After" + passIn},
		{rule: "no files", source: "import \"os\"\nvar _ = os.Args", want: "f.go:3: uses os.Args" + passIn},
		{rule: "no goroutines", source: "\nfunc f() { go f() }", want: "f.go:3: starts a goroutine: decisions are pure; leave concurrency to the caller"},
		{rule: "nothing printed", source: "import \"fmt\"\nfunc f() { fmt.Println(1) }", want: "f.go:3: uses fmt.Println" + passIn},
		{rule: "text may be made", source: "import \"fmt\"\nvar s = fmt.Sprint(1)"},
		{rule: "no dot imports", source: "import . \"time\"\nvar t = Now()", want: `f.go:2: dot import of "time": it hides where names come from`},
		{rule: "no dice", source: "import \"math/rand/v2\"\nvar n = rand.New(rand.NewPCG(1, 2))", want: "f.go:3: uses rand.New" + passIn + "\nf.go:3: uses rand.NewPCG" + passIn},
		{rule: "seeded dice in the simulation", source: "import \"math/rand/v2\"\nvar n = rand.New(rand.NewPCG(1, 2))", seeded: true},
		{rule: "unseeded dice nowhere", source: "import \"math/rand/v2\"\nvar n = rand.IntN(6)", seeded: true, want: "f.go:3: uses rand.IntN" + passIn},
	}
	for _, c := range cases {
		t.Run(c.rule, func(t *testing.T) {
			found, err := impurities("f.go", "f.go", "package f\n"+c.source, c.seeded)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, strings.Join(found, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLayeringTopLevelRefusesStrangers(t *testing.T) {
	found := topLevelViolations([]string{".ci/run", "Makefile", "cmd/ramd/main.go", "internal/x.go", "docs.md"})
	want := []string{"internal/x.go", "docs.md"}
	for i := range found {
		found[i], _, _ = strings.Cut(found[i], ":")
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
