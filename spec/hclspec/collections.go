package hclspec

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// strings reads a list of strings; check sees each with what it was made of.
func (b *block) strings(name string, into *[]string, hint string, check func(path string, at hcl.Range, text string, v cty.Value)) {
	v, attr, ok := b.value(name)
	if !ok {
		return
	}
	bare, marks := v.Unmark()
	if kind := bare.Type(); !kind.IsTupleType() && !kind.IsListType() && !kind.IsSetType() {
		b.wrong(name, attr, "write "+hint, "%s must be a list of strings, not %s", name, describeValue(kind))
		return
	}
	list := make([]string, 0, bare.LengthInt())
	for i, element := range elements(bare) {
		path := fmt.Sprintf("%s[%d]", b.at(name), i)
		at := elementRange(attr.Expr, i)
		b.r.places.ranges[path] = at
		element = element.WithMarks(marks)
		b.r.noteSensitive(path, element)
		text, _ := element.UnmarkDeep()
		if text.Type() != cty.String || text.IsNull() {
			b.r.places.failed[path] = true
			b.r.errorAt(at, "write "+hint, "%s must be a list of strings, but this is %s", name, describeValue(text.Type()))
			list = append(list, "")
			continue
		}
		list = append(list, text.AsString())
		if check != nil {
			check(path, at, text.AsString(), element)
		}
	}
	*into = list
}

func elements(v cty.Value) []cty.Value {
	var list []cty.Value
	for it := v.ElementIterator(); it.Next(); {
		_, element := it.Element()
		list = append(list, element)
	}
	return list
}

// elementRange is where the i-th element is written, or the whole expression
// when that is not a plain list.
func elementRange(expr hclsyntax.Expression, i int) hcl.Range {
	if tuple, ok := expr.(*hclsyntax.TupleConsExpr); ok && i < len(tuple.Exprs) {
		return tuple.Exprs[i].Range()
	}
	return expr.Range()
}

// table reads a map of primitive values as text.
func (b *block) table(name string, into *map[string]string, hint string, asText func(cty.Value) string) {
	v, attr, ok := b.value(name)
	if !ok {
		return
	}
	bare, marks := v.Unmark()
	if kind := bare.Type(); !kind.IsObjectType() && !kind.IsMapType() {
		b.wrong(name, attr, "write "+hint, "%s must be a map, not %s", name, describeValue(kind))
		return
	}
	written := b.keyRanges(name, attr.Expr)
	table := map[string]string{}
	for it := bare.ElementIterator(); it.Next(); {
		keyValue, element := it.Element()
		key := keyValue.AsString()
		path := b.at(name) + "." + key
		at, found := written[key]
		if !found {
			at = attr.Expr.Range()
		}
		b.r.places.ranges[path] = at
		element = element.WithMarks(marks)
		b.r.noteSensitive(path, element)
		text, _ := element.UnmarkDeep()
		if text.IsNull() {
			continue
		}
		if !text.Type().IsPrimitiveType() {
			b.r.places.failed[path] = true
			b.r.errorAt(at, `write one value; where PostgreSQL takes a list, that is one string: "a, b"`, "%s must be one value, not %s", key, describeValue(text.Type()))
			continue
		}
		b.refuseSpelledSecret(path, at, key, element)
		table[key] = asText(text)
	}
	if len(table) > 0 {
		*into = table
	}
}

// keyRanges finds where the keys of a map are written, and reports those that
// are written twice, of which the library would drop the first in silence.
func (b *block) keyRanges(name string, expr hclsyntax.Expression) map[string]hcl.Range {
	object, ok := expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		return nil
	}
	ranges := make(map[string]hcl.Range, len(object.Items))
	for _, item := range object.Items {
		key, diags := item.KeyExpr.Value(b.r.scope.context(expr.Range().Filename, b.r.opts))
		if key, _ = key.Unmark(); diags.HasErrors() || key.Type() != cty.String || !key.IsKnown() || key.IsNull() {
			continue
		}
		if first, twice := ranges[key.AsString()]; twice {
			b.r.errorAt(item.KeyExpr.Range(), "remove one of them; the first is at "+placeOf(first), "%s has %q twice", name, key.AsString())
			continue
		}
		ranges[key.AsString()] = hcl.RangeBetween(item.KeyExpr.Range(), item.ValueExpr.Range())
	}
	return ranges
}
