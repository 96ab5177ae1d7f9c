package hclspec

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/ramhq/ram/spec"
)

// Parse reads a spec from one source, or from several that describe one cluster
// together. The diagnostics are everything that is wrong, in the order of the
// text: where the syntax is broken only that; otherwise all that does not fit
// the language and all that spec.Cluster.Validate finds. The cluster is nil
// when one of them is an error.
func Parse(sources []Source, opts Options) (*spec.Cluster, Diagnostics) {
	r := newReader(sources, opts)
	if !r.parseSyntax(sources) {
		return nil, r.findings()
	}
	r.scope = newScope(opts)
	r.checkTopLevel(sources)
	r.readVariables(r.blocksOf(sources, "variable"))
	r.readLocals(r.blocksOf(sources, "locals"))

	c := r.mergeAndRead(r.blocksOf(sources, "cluster"), sources)
	if c != nil {
		r.addProblems(c.Validate())
	}
	findings := r.findings()
	if findings.HasErrors() {
		return nil, findings
	}
	c.SpellParameters()
	return c, findings
}

func (r *reader) parseSyntax(sources []Source) bool {
	for _, source := range sources {
		r.addHCL(r.files[source.Name].parse())
	}
	return len(r.diags) == 0
}

// checkTopLevel reports what is neither cluster nor variable nor locals.
func (r *reader) checkTopLevel(sources []Source) {
	for _, source := range sources {
		f := r.files[source.Name]
		top := &block{
			r: r, what: "a spec",
			attrs:       f.body.Attributes,
			blocks:      f.body.Blocks,
			knownBlocks: []string{"cluster", "variable", "locals"},
		}
		top.close()
	}
}

// mergeAndRead reads the cluster block, whose parts may stand in several files.
func (r *reader) mergeAndRead(blocks []*hclsyntax.Block, sources []Source) *spec.Cluster {
	blocks = slices.DeleteFunc(blocks, func(b *hclsyntax.Block) bool {
		if len(b.Labels) == 1 {
			return false
		}
		r.errorAt(headerOf(b), `write cluster "name" { }`, "a cluster block has one label, its name")
		r.places.misnamed["cluster"] = true
		return true
	})
	if len(blocks) == 0 {
		r.missingCluster(sources)
		return nil
	}
	first := blocks[0]
	whole := &block{
		r: r, path: "", what: "the cluster",
		header: headerOf(first),
		attrs:  hclsyntax.Attributes{},
	}
	r.places.ranges[""] = whole.header
	r.places.ranges["name"] = first.LabelRanges[0]
	seenIn := map[string]hcl.Range{}
	for _, b := range blocks {
		at := headerOf(b)
		if earlier, twice := seenIn[at.Filename]; twice {
			r.errorAt(at, "move what it says into the first, at "+placeOf(earlier), "this file has a second cluster block")
		} else if b.Labels[0] != first.Labels[0] {
			r.errorAt(b.LabelRanges[0], fmt.Sprintf("write cluster %q here as well, or keep the other cluster in a directory of its own", first.Labels[0]),
				"one spec describes one cluster, and %s says %q", placeOf(first.LabelRanges[0]), first.Labels[0])
		}
		seenIn[at.Filename] = at
		whole.merge(b.Body)
	}
	c := r.readCluster(first.Labels[0], whole)
	if !slices.Contains(r.written, "postgres") && !r.places.misnamed["postgres"] {
		r.places.failed["postgres.version"] = true
		r.errorAt(whole.header, "write postgres { version = 15 }", "the cluster does not say which PostgreSQL to run")
	}
	return c
}

func (b *block) merge(body *hclsyntax.Body) {
	for _, attr := range inTextOrder(body.Attributes) {
		if first, twice := b.attrs[attr.Name]; twice {
			b.r.errorAt(attr.NameRange, "remove one of them; the first is at "+placeOf(first.NameRange), "%s is written twice", attr.Name)
			continue
		}
		b.attrs[attr.Name] = attr
	}
	b.blocks = append(b.blocks, body.Blocks...)
}

func (r *reader) missingCluster(sources []Source) {
	if r.places.misnamed["cluster"] {
		return
	}
	const summary, detail = "there is no cluster block", `write cluster "demo" { ... }`
	if len(sources) == 0 {
		r.diags = append(r.diags, Diagnostic{Severity: spec.SeverityError, Summary: summary, Detail: detail})
		return
	}
	start := hcl.Pos{Line: 1, Column: 1}
	r.errorAt(hcl.Range{Filename: sources[0].Name, Start: start, End: start}, detail, summary)
}
