package hclspec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/ramhq/ram/spec"
)

// block reads one block of the language. The calls that read attributes and
// inner blocks are the grammar: close reports whatever no call has asked for.
type block struct {
	r      *reader
	path   string // of the block, empty for the cluster
	what   string // names the block in a sentence
	header hcl.Range
	attrs  hclsyntax.Attributes
	blocks []*hclsyntax.Block

	knownAttrs, knownBlocks []string
	required                []requirement
}

type requirement struct{ name, example string }

func (r *reader) open(b *hclsyntax.Block, path, what string) *block {
	r.places.ranges[path] = headerOf(b)
	return &block{
		r: r, path: path, what: what,
		header: headerOf(b),
		attrs:  b.Body.Attributes,
		blocks: b.Body.Blocks,
	}
}

// at is the path of something directly inside the block.
func (b *block) at(name string) string {
	if b.path == "" {
		return name
	}
	return b.path + "." + name
}

// take gives the attribute of a name, or nil when it is not written.
func (b *block) take(name string) *hclsyntax.Attribute {
	b.knownAttrs = append(b.knownAttrs, name)
	attr := b.attrs[name]
	if attr != nil {
		b.r.places.ranges[b.at(name)] = attr.Expr.Range()
	}
	return attr
}

// require makes close report an attribute that is missing, with an example of what to write.
func (b *block) require(name, example string) {
	b.required = append(b.required, requirement{name, example})
}

// one reads the inner block of a type that has no label and stands at most
// once, and tells whether it is written.
func (b *block) one(kind string, read func(*block)) bool {
	b.knownBlocks = append(b.knownBlocks, kind)
	var first *hclsyntax.Block
	for _, inner := range b.blocks {
		if inner.Type != kind {
			continue
		}
		if len(inner.Labels) > 0 {
			b.r.errorAt(inner.LabelRanges[0], fmt.Sprintf("write %s { }", kind), "a %s block has no label", kind)
		}
		if first != nil {
			b.r.errorAt(headerOf(inner), "move what it says into the first, at "+placeOf(headerOf(first)), "%s has a second %s block", b.what, kind)
			continue
		}
		first = inner
		child := b.r.open(inner, b.at(kind), "the "+kind+" block")
		read(child)
		child.close()
	}
	return first != nil
}

// named reads the inner blocks of a type that have a name as their label.
func (b *block) named(kind string, read func(name string, inner *block)) {
	b.knownBlocks = append(b.knownBlocks, kind)
	seen := map[string]int{}
	for _, inner := range b.blocks {
		if inner.Type != kind {
			continue
		}
		if len(inner.Labels) != 1 {
			b.r.errorAt(headerOf(inner), fmt.Sprintf("write %s \"name\" { }", kind), "a %s block has one label, its name", kind)
			b.r.places.misnamed[b.at(kind)] = true
			continue
		}
		name := inner.Labels[0]
		seen[name]++
		child := b.r.open(inner, b.at(spec.BlockPath(kind, name, seen[name])), fmt.Sprintf("%s %q", kind, name))
		read(name, child)
		child.close()
	}
}

// close reports what is unknown and what is missing.
func (b *block) close() {
	misnamed := map[string]bool{}
	for _, attr := range inTextOrder(b.attrs) {
		if !slices.Contains(b.knownAttrs, attr.Name) {
			misnamed[b.unknownAttribute(attr)] = true
		}
	}
	for _, inner := range b.blocks {
		if !slices.Contains(b.knownBlocks, inner.Type) {
			misnamed[b.unknownBlock(inner)] = true
		}
	}
	for name := range misnamed {
		b.r.places.misnamed[b.at(name)] = true
	}
	for _, need := range b.required {
		if b.attrs[need.name] != nil || misnamed[need.name] {
			continue
		}
		b.r.places.failed[b.at(need.name)] = true
		b.r.errorAt(b.header, "write "+need.example, "%s has no %s", b.what, need.name)
	}
}

func (b *block) unknownAttribute(attr *hclsyntax.Attribute) (meant string) {
	if spec.SecretName(attr.Name) || nearest(attr.Name, []string{"password", "secret", "token"}) != "" {
		b.r.secretAt(attr.NameRange, "no secret is written in a spec: remove it; ramd makes the secrets that it needs, and others are read from files (..._file) or with env()",
			"%s has no attribute %q", b.what, attr.Name)
		return ""
	}
	if slices.Contains(b.knownBlocks, attr.Name) {
		b.r.errorAt(attr.NameRange, fmt.Sprintf("write %s { ... } without =", attr.Name), "%q is a block, not an attribute", attr.Name)
		return attr.Name
	}
	meant = b.suggest(attr.Name)
	b.r.errorAt(attr.NameRange, b.advice(attr.Name, meant, "attribute"), "%s has no attribute %q", b.what, attr.Name)
	return meant
}

func (b *block) unknownBlock(inner *hclsyntax.Block) (meant string) {
	if slices.Contains(b.knownAttrs, inner.Type) {
		b.r.errorAt(inner.TypeRange, fmt.Sprintf("write %s = ...", inner.Type), "%q is an attribute, not a block", inner.Type)
		return inner.Type
	}
	meant = b.suggest(inner.Type)
	b.r.errorAt(inner.TypeRange, b.advice(inner.Type, meant, "block"), "%s has no block %q", b.what, inner.Type)
	return meant
}

func (b *block) suggest(name string) string {
	return nearest(name, slices.Concat(b.knownAttrs, b.knownBlocks))
}

func (b *block) advice(name, meant, kind string) string {
	if meant != "" {
		return fmt.Sprintf("write %s", meant)
	}
	if home := elsewhere(name); home != "" {
		return home
	}
	known := b.knownAttrs
	if kind == "block" {
		known = b.knownBlocks
	}
	if len(known) == 0 {
		return "remove it"
	}
	return fmt.Sprintf("remove it; %s may have %s", b.what, strings.Join(known, ", "))
}

// elsewhere helps with names that people look for in the wrong block.
func elsewhere(name string) string {
	homes := map[string][]string{
		"the cluster block":     {"node", "postgres", "replication", "failover", "repository", "archive", "backup", "bootstrap", "protect"},
		"the postgres block":    {"version", "bin_dir", "hba", "user"},
		"a node block":          {"host", "zone", "priority", "witness", "ports", "data_dir", "tags"},
		"the replication block": {"mode", "sync_standbys", "when_short", "max_lag"},
		"the failover block":    {"automatic", "detect", "lease"},
		"a repository block":    {"url", "compression", "encryption"},
		"a backup block":        {"schedule", "timezone", "keep", "verify"},
		"the top of the file":   {"cluster", "variable", "locals"},
	}
	for _, home := range slices.Sorted(maps.Keys(homes)) {
		if slices.Contains(homes[home], name) {
			return fmt.Sprintf("%s belongs in %s", name, home)
		}
	}
	if name == "dynamic" {
		return "write the blocks out; for expressions work inside values"
	}
	return ""
}
