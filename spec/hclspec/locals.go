package hclspec

import (
	"cmp"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/ramhq/ram/spec"
)

// localValues are computed in the order in which they need each other.
type localValues struct {
	r     *reader
	attrs map[string]*hclsyntax.Attribute
	state map[string]visit
}

type visit int

const (
	unvisited visit = iota
	underWay
	done
)

// readLocals fills the scope with the values of all locals blocks.
func (r *reader) readLocals(blocks []*hclsyntax.Block) {
	l := localValues{r: r, attrs: map[string]*hclsyntax.Attribute{}, state: map[string]visit{}}
	for _, b := range blocks {
		if len(b.Labels) > 0 {
			r.errorAt(headerOf(b), "write locals { }", "a locals block has no label")
		}
		for _, inner := range b.Body.Blocks {
			r.errorAt(headerOf(inner), "write name = value", "a locals block has no blocks")
		}
		l.declare(b.Body.Attributes)
	}
	for _, name := range r.scope.declaredLocals {
		l.compute(name)
	}
}

func (l localValues) declare(attrs hclsyntax.Attributes) {
	for _, attr := range inTextOrder(attrs) {
		if first, twice := l.attrs[attr.Name]; twice {
			l.r.errorAt(attr.NameRange, "remove one of them; the first is at "+placeOf(first.NameRange), "local value %q is declared twice", attr.Name)
			continue
		}
		l.attrs[attr.Name] = attr
		l.r.scope.declaredLocals = append(l.r.scope.declaredLocals, attr.Name)
	}
}

func (l localValues) compute(name string) {
	attr := l.attrs[name]
	if l.state[name] != unvisited || attr == nil {
		return
	}
	l.state[name] = underWay
	value := cty.DynamicVal
	if l.computeNeeds(attr) {
		if v, ok := l.r.eval(attr.Expr); ok {
			value = v
			if spec.SecretName(name) && spelledText(v) {
				l.r.spelledSecret(attr.Range(), name, v)
			}
		}
	}
	l.r.scope.locals[name] = value
	l.r.scope.changed()
	l.state[name] = done
}

// spelledText reports whether a value is a text that the spec itself spells out.
func spelledText(v cty.Value) bool {
	return !hasMark(v, outside) && !hasMark(v, sensitive) && v.Type() == cty.String && !v.IsNull() && v.AsString() != ""
}

// computeNeeds computes what an expression refers to; false reports a circle.
func (l localValues) computeNeeds(attr *hclsyntax.Attribute) bool {
	for _, reference := range attr.Expr.Variables() {
		needed, named := attributeOf(reference)
		if reference.RootName() != "local" || !named {
			continue
		}
		if l.state[needed] == underWay {
			l.r.errorAt(reference.SourceRange(), "break the circle", "local value %q needs itself", needed)
			return false
		}
		l.compute(needed)
	}
	return true
}

func inTextOrder(attrs hclsyntax.Attributes) []*hclsyntax.Attribute {
	list := make([]*hclsyntax.Attribute, 0, len(attrs))
	for _, attr := range attrs {
		list = append(list, attr)
	}
	slices.SortFunc(list, func(a, b *hclsyntax.Attribute) int {
		return comparePlaces(a.NameRange, b.NameRange)
	})
	return list
}

func comparePlaces(a, b hcl.Range) int {
	return cmp.Or(
		cmp.Compare(a.Filename, b.Filename),
		cmp.Compare(a.Start.Byte, b.Start.Byte),
	)
}
