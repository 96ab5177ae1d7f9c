package hclspec_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
	"github.com/ramhq/ram/spec/hclspec"
)

// goldenTexts are the specs of the golden cases, to fuzz from.
func goldenTexts(tb testing.TB) [][]byte {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.txtar"))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no golden cases: %v", err)
	}
	var texts [][]byte
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		for _, f := range archive.Files {
			if filepath.Ext(f.Name) == ".hcl" {
				texts = append(texts, f.Data)
			}
		}
	}
	return texts
}

func parse(text string, opts hclspec.Options) (*spec.Cluster, hclspec.Diagnostics) {
	return hclspec.Parse([]hclspec.Source{{Name: "cluster.hcl", Text: []byte(text)}}, opts)
}

func mustParse(t *testing.T, text string, opts hclspec.Options) *spec.Cluster {
	t.Helper()
	c, diagnostics := parse(text, opts)
	if c == nil {
		t.Fatal(diagnostics.Error())
	}
	return c
}

const threeNodes = `
  node "a" {
    host = "10.0.0.11"
  }
  node "b" {
    host = "10.0.0.12"
  }
  node "c" {
    host = "10.0.0.13"
  }
`

func TestDefaults(t *testing.T) {
	got := mustParse(t, `cluster "demo" {
  postgres {
    version = 15
  }
`+threeNodes+`}`, hclspec.Options{})
	want := spec.NewCluster("demo")
	want.Postgres.Version = 15
	ports := spec.Ports{Postgres: 5432, API: 8080, Raft: 7400, Metrics: 9090}
	want.Nodes = []spec.Node{
		{Name: "a", ID: 1, Host: "10.0.0.11", Priority: 100, Ports: ports},
		{Name: "b", ID: 2, Host: "10.0.0.12", Priority: 100, Ports: ports},
		{Name: "c", ID: 3, Host: "10.0.0.13", Priority: 100, Ports: ports},
	}
	want.Replication = spec.Replication{Mode: spec.ModeQuorum, SyncStandbys: 1, WhenShort: spec.WhenShortWait, MaxLag: 16 * pg.MB}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParameterValuesBecomePostgreSQLNotation(t *testing.T) {
	got := mustParse(t, `cluster "demo" {
  postgres {
    version = 15
    parameters = {
      autovacuum       = true
      log_connections  = false
      max_connections  = 200
      random_page_cost = 1.1
      shared_buffers   = "256MB"
      work_mem         = null
      vacuum_cost_delay = 2 / 8
    }
  }
`+threeNodes+`}`, hclspec.Options{})
	want := map[string]string{
		"autovacuum": "on", "log_connections": "off", "max_connections": "200",
		"random_page_cost": "1.1", "shared_buffers": "256MB", "vacuum_cost_delay": "0.25",
	}
	if diff := cmp.Diff(want, got.Postgres.Parameters); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNullIsAbsent(t *testing.T) {
	got := mustParse(t, `cluster "demo" {
  postgres {
    version = 15
    user    = null
    hba     = null
  }
  replication {
    sync_standbys = null
  }
`+threeNodes+`}`, hclspec.Options{})
	if got.Postgres.User != "postgres" || got.Postgres.HBA != nil || got.Replication.SyncStandbys != 1 {
		t.Errorf("got %+v, %+v", got.Postgres, got.Replication)
	}
}

func TestVariablesTakeTheCommandLineOverFilesOverDefaults(t *testing.T) {
	text := `
variable "a" {
  default = "default"
}
variable "b" {
  default = "default"
}
variable "c" {
  default = "default"
}
variable "d" {
  default = "default"
}
cluster "demo" {
  postgres {
    version = 15
  }
` + strings.Replace(threeNodes, `"10.0.0.11"`, `"10.0.0.11"
    zone = join(" ", [var.a, var.b, var.c, var.d])`, 1) + `}`
	got := mustParse(t, text, hclspec.Options{
		Vars: map[string]string{"d": "command"},
		VarFiles: []hclspec.Source{
			{Name: "1.vars", Text: []byte("b = \"first\"\nc = \"first\"\nd = \"first\"\n")},
			{Name: "2.vars", Text: []byte("c = \"second\"\nd = \"second\"\n")},
		},
	})
	if want := "default first second command"; got.Nodes[0].Zone != want {
		t.Errorf("got %q, want %q", got.Nodes[0].Zone, want)
	}
}

func TestCommandLineValuesAreReadByTheirType(t *testing.T) {
	text := `
variable "untyped" {
}
variable "text" {
  type = string
}
variable "list" {
  type = list(string)
}
variable "number" {
  type = number
}
cluster "demo" {
  postgres {
    version = var.number
  }
` + strings.Replace(threeNodes, `"10.0.0.11"`, `"10.0.0.11"
    zone = join(" ", concat([var.untyped, var.text], var.list))`, 1) + `}`
	got := mustParse(t, text, hclspec.Options{Vars: map[string]string{
		"untyped": "10", "text": `["x"]`, "list": `["y", "z"]`, "number": "14",
	}})
	if want := `10 ["x"] y z`; got.Nodes[0].Zone != want || got.Postgres.Version != 14 {
		t.Errorf("got %q and %d, want %q and 14", got.Nodes[0].Zone, got.Postgres.Version, want)
	}
}

func TestFunctions(t *testing.T) {
	read := func(name string) ([]byte, error) { return []byte("text of " + name), nil }
	env := func(name string) (string, bool) { return "$" + name, name == "SET" }
	for expression, want := range map[string]string{
		`env("SET")`:                               "$SET",
		`env("UNSET", "d")`:                        "d",
		`file("x/y")`:                              "text of dir/x/y",
		`file("/x")`:                               "text of /x",
		`cidrhost("10.0.0.0/24", 11)`:              "10.0.0.11",
		`cidrhost("10.0.0.7/24", -1)`:              "10.0.0.255",
		`cidrhost("2001:db8::/64", 1)`:             "2001:db8::1",
		`format("%s-%02d", "n", 3)`:                "n-03",
		`join(",", sort(["b", "a"]))`:              "a,b",
		`replace("a.b", ".", "-")`:                 "a-b",
		`regex("[0-9]+", "pg15")`:                  "15",
		`upper(trimspace(" x "))`:                  "X",
		`trimsuffix(trimprefix("axb","a"),"b")`:    "x",
		`lookup({ a = "1" }, "b", "2")`:            "2",
		`join("", keys(merge({ a = 1 }, {b=2})))`:  "ab",
		`tostring(length(distinct(["a", "a"])))`:   "1",
		`tostring(max(1, min(5, 3)))`:              "3",
		`join("", reverse(split(",", "a,b")))`:     "ba",
		`jsonencode({ a = [1] })`:                  `{"a":[1]}`,
		`jsondecode("{\"a\":\"b\"}").a`:            "b",
		`coalesce("", "x")`:                        "",
		`try(jsondecode("{"), "broken")`:           "broken",
		`tostring(contains(toset(["a"]), "a"))`:    "true",
		`join(",", [for i in range(3) : "n${i}"])`: "n0,n1,n2",
		`tostring(tonumber("4") + 1)`:              "5",
		`join(",", flatten([["a"], [["b"]]]))`:     "a,b",
		`"%{ if true }yes%{ else }no%{ endif }"`:   "yes",
		`title(lower("ABC"))`:                      "Abc",
		`element(concat(["a"], ["b"]), 1)`:         "b",
		`join(",", values(zipmap(["k"], ["v"])))`:  "v",
		`substr("abcdef", 1, 2)`:                   "bc",
		`tostring(can(regex("x", "y")))`:           "false",
	} {
		t.Run(expression, func(t *testing.T) {
			text := `cluster "demo" {
  postgres {
    version = 15
  }
` + strings.Replace(threeNodes, `"10.0.0.11"`, `"10.0.0.11"
    zone = `+expression, 1) + `}`
			got, diagnostics := hclspec.Parse([]hclspec.Source{{Name: "dir/c.hcl", Text: []byte(text)}}, hclspec.Options{Env: env, ReadFile: read})
			if got == nil {
				t.Fatal(diagnostics.Error())
			}
			if got.Nodes[0].Zone != want {
				t.Errorf("got %q, want %q", got.Nodes[0].Zone, want)
			}
		})
	}
}

func TestHostileTextIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"deep lists":      "x = " + strings.Repeat("[", 20_000),
		"deep parens":     "x = " + strings.Repeat("(", 20_000),
		"deep templates":  "x = " + strings.Repeat(`"${`, 20_000),
		"deep blocks":     strings.Repeat("a {\n", 20_000),
		"long negation":   "x = " + strings.Repeat("!", 20_000) + "true",
		"long sum":        "x = 1" + strings.Repeat("+1", 20_000),
		"long conditions": "x = " + strings.Repeat("true ? 1 : ", 20_000) + "1",
		"too large":       strings.Repeat("# x\n", 2<<20),
	} {
		t.Run(name, func(t *testing.T) {
			_, diagnostics := parse(text, hclspec.Options{})
			if len(diagnostics) != 1 || !strings.Contains(diagnostics[0].Summary, "a spec can need") {
				t.Errorf("not refused before it is parsed: %.200s", diagnostics.Error())
			}
		})
	}
}

func TestNamesAreText(t *testing.T) {
	for _, text := range []string{"cluster \"\xff\" {\n}\n", "cluster \"a\x00b\" {\n}\n", "cluster \"a\\nb\" {\n}\n"} {
		if _, diagnostics := parse(text, hclspec.Options{}); !diagnostics.HasErrors() {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestDiagnosticsTravelAsJSON(t *testing.T) {
	_, diagnostics := parse("cluster \"demo\" {\n  postgres {\n    version = 12\n  }\n"+threeNodes+"}\n", hclspec.Options{})
	got, err := json.Marshal(diagnostics)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"severity":"error","file":"cluster.hcl","line":3,"column":15,"end_line":3,"end_column":17,"path":"postgres.version",` +
		`"summary":"PostgreSQL version 12 is not supported","detail":"write the major version only, from 13 to 18, such as version = 15","snippet":"    version = 12"}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestColourIsOnlyEscapes(t *testing.T) {
	_, diagnostics := parse("cluster \"demo\" {\n  nod \"a\" {\n  }\n}\n", hclspec.Options{})
	var plain, coloured bytes.Buffer
	if err := diagnostics.Render(&plain, hclspec.RenderOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := diagnostics.Render(&coloured, hclspec.RenderOptions{Color: true}); err != nil {
		t.Fatal(err)
	}
	stripped := coloured.String()
	for _, escape := range []string{"\x1b[0m", "\x1b[1m", "\x1b[1;31m", "\x1b[36m"} {
		if !strings.Contains(stripped, escape) {
			t.Errorf("no %q in the coloured text", escape)
		}
		stripped = strings.ReplaceAll(stripped, escape, "")
	}
	if diff := cmp.Diff(plain.String(), stripped); diff != "" {
		t.Errorf("(-plain +coloured without escapes):\n%s", diff)
	}
}

func TestCaretsStandUnderTheText(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct{ rule, line, marked string }{
		{"after a tab", "\tversion = \"15\"", `"15"`},
		{"after wide letters", `  version = ["åäö→", "x"]`, `["åäö→", "x"]`},
		{"in a long line", `  version = "` + long + `"`, `"` + long},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			_, diagnostics := parse("cluster \"demo\" {\n  postgres {\n"+tt.line+"\n  }\n"+threeNodes+"}\n", hclspec.Options{})
			lines := strings.Split(diagnostics.Error(), "\n")
			if len(lines) < 3 {
				t.Fatal(diagnostics.Error())
			}
			source, marker := []rune(lines[1]), []rune(lines[2])
			start := strings.Index(lines[2], "^")
			got := string(source[start:min(len(marker), len(source))])
			if !strings.HasPrefix(tt.marked, got) || got == "" {
				t.Errorf("marked %q, want %q:\n%s", got, tt.marked, diagnostics.Error())
			}
		})
	}
}

func manyNodes(n int) []byte {
	var text strings.Builder
	text.WriteString("cluster \"big\" {\n  postgres {\n    version = 15\n    parameters = {\n      work_mem = \"8MB\"\n    }\n  }\n")
	for i := range n {
		fmt.Fprintf(&text, "  node \"n%d\" {\n    host = \"10.%d.%d.%d\"\n    zone = \"z%d\"\n    parameters = {\n      maintenance_work_mem = \"64MB\"\n    }\n  }\n", i, i>>16, i>>8&255, i&255, i%3)
	}
	text.WriteString("}\n")
	return []byte(text.String())
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		sources := []hclspec.Source{{Name: "big.hcl", Text: manyNodes(n)}}
		b.Run(fmt.Sprint(n, "-nodes"), func(b *testing.B) {
			for b.Loop() {
				if c, diagnostics := hclspec.Parse(sources, hclspec.Options{}); c == nil {
					b.Fatal(diagnostics.Error())
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range goldenTexts(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, diagnostics := hclspec.Parse([]hclspec.Source{{Name: "x.hcl", Text: text}}, hclspec.Options{})
		if (c == nil) != diagnostics.HasErrors() {
			t.Fatalf("cluster is nil: %t, errors: %d", c == nil, diagnostics.Errors())
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		for _, d := range diagnostics {
			if d.Summary == "" || d.File == "x.hcl" && (d.Line < 1 || d.Line > lines || d.Column < 1) {
				t.Fatalf("misplaced or empty: %+v", d)
			}
		}
		_ = diagnostics.Error()
		if c == nil {
			return
		}
		again, diagnostics := hclspec.Parse([]hclspec.Source{{Name: "x.hcl", Text: hclspec.Encode(c)}}, hclspec.Options{})
		if again == nil {
			t.Fatalf("the encoded cluster is refused: %s", diagnostics.Error())
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatalf("(-parsed +encoded and parsed):\n%s", diff)
		}
	})
}
