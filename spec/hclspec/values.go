package hclspec

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// value evaluates an attribute. ok is false when it is not written, null, or
// wrong, and in the last case it has been reported.
func (b *block) value(name string) (v cty.Value, attr *hclsyntax.Attribute, ok bool) {
	attr = b.take(name)
	if attr == nil {
		return cty.NilVal, nil, false
	}
	v, ok = b.r.eval(attr.Expr)
	if !ok {
		b.fail(name)
		return cty.NilVal, attr, false
	}
	b.r.noteSensitive(b.at(name), v)
	bare, _ := v.Unmark()
	return v, attr, !bare.IsNull()
}

// fail keeps the rules quiet about a part that could not be read.
func (b *block) fail(name string) { b.r.places.failed[b.at(name)] = true }

func (b *block) wrong(name string, attr *hclsyntax.Attribute, detail, format string, args ...any) {
	b.fail(name)
	b.r.errorAt(attr.Expr.Range(), detail, format, args...)
}

// primitive evaluates an attribute that is one value of a type.
func (b *block) primitive(name string, kind cty.Type, hint string) (cty.Value, *hclsyntax.Attribute, bool) {
	v, attr, ok := b.value(name)
	if !ok {
		return cty.NilVal, attr, false
	}
	v, _ = v.UnmarkDeep()
	if v.Type() != kind {
		b.wrong(name, attr, remedy(attr.Expr, v, kind, hint), "%s must be %s, not %s", name, describeType(kind), describeValue(v.Type()))
		return cty.NilVal, attr, false
	}
	return v, attr, true
}

// remedy says how a value of one type is written as another.
func remedy(expr hclsyntax.Expression, v cty.Value, want cty.Type, hint string) string {
	got := v.Type()
	_, literal := expr.(*hclsyntax.TemplateExpr)
	if literal && got == cty.String {
		if _, err := convert.Convert(v, want); err == nil {
			return "write it without quotes: " + v.AsString()
		}
	}
	switch {
	case want == cty.String && got == cty.Number && hint == anyText:
		return fmt.Sprintf("write it in quotes: %q", plainText(v))
	case want == cty.String && got.IsPrimitiveType():
		return "write it in quotes, such as " + hint
	case got == cty.String && literal:
		return "write " + hint
	case got == cty.String && want == cty.Number:
		return "convert it with tonumber(...), or write " + hint
	case got == cty.String && want == cty.Bool:
		return "convert it with tobool(...), or write true or false"
	}
	return "write " + hint
}

func describeValue(kind cty.Type) string {
	switch {
	case kind == cty.String:
		return "a string"
	case kind == cty.Number:
		return "a number"
	case kind == cty.Bool:
		return "a truth value"
	case kind.IsTupleType() || kind.IsListType() || kind.IsSetType():
		return "a list"
	case kind.IsObjectType() || kind.IsMapType():
		return "a map"
	}
	return "a value of another type"
}

const anyText = `"..."`

// text reads a string.
func (b *block) text(name string, into *string) {
	if v, _, ok := b.primitive(name, cty.String, anyText); ok {
		*into = v.AsString()
	}
}

// boolean reads true or false.
func (b *block) boolean(name string, into *bool) {
	if v, _, ok := b.primitive(name, cty.Bool, "true or false"); ok {
		*into = v.True()
	}
}

// integer reads a whole number and tells whether one was read.
func (b *block) integer(name string, into *int) bool {
	v, attr, ok := b.primitive(name, cty.Number, "a whole number such as 5")
	if !ok {
		return false
	}
	n, accuracy := v.AsBigFloat().Int64()
	if accuracy != big.Exact || int64(int32(n)) != n {
		b.wrong(name, attr, "write a whole number", "%s must be a whole number of moderate size", name)
		return false
	}
	*into = int(n)
	return true
}

// size reads an amount of data such as "16MB".
func (b *block) size(name string, into *pg.Bytes) {
	v, attr, ok := b.primitive(name, cty.String, `"16MB"`)
	if !ok {
		return
	}
	n, err := pg.ParseBytes(v.AsString())
	switch {
	case err != nil && strings.Contains(err.Error(), "negative"):
		b.wrong(name, attr, `write a size such as "16MB"; use "0" to forbid loss`, "%s must not be negative", name)
	case err != nil:
		b.wrong(name, attr, `write a size such as "16MB"`, "%s: %v", name, err)
	default:
		*into = n
	}
}

// duration reads a time such as "1s".
func (b *block) duration(name string, into *spec.Duration) {
	v, attr, ok := b.primitive(name, cty.String, `"1s"`)
	if !ok {
		return
	}
	d, err := spec.ParseDuration(v.AsString())
	if err != nil {
		b.wrong(name, attr, `write a time such as "300ms", "1s" or "5m"`, "%s: %v", name, err)
		return
	}
	*into = d
}

// parameterText is a value in PostgreSQL's own notation.
func parameterText(v cty.Value) string {
	switch v.Type() {
	case cty.Bool:
		if v.True() {
			return "on"
		}
		return "off"
	case cty.Number:
		return v.AsBigFloat().Text('f', -1)
	}
	return v.AsString()
}

// plainText is a value as HCL itself would put it into a string.
func plainText(v cty.Value) string {
	if v.Type() == cty.Bool {
		return fmt.Sprint(v.True())
	}
	return parameterText(v)
}
