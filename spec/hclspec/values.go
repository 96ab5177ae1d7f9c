package hclspec

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
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

// noteSensitive remembers that a part of the spec must not be shown.
//
// A list or map that only holds a sensitive element is not sensitive itself.
func (r *reader) noteSensitive(path string, v cty.Value) {
	if _, marks := v.Unmark(); has(marks, sensitive) {
		r.places.sensitive[path] = true
		r.secret.hide(v)
	}
}

func has(marks cty.ValueMarks, m mark) bool {
	_, found := marks[m]
	return found
}

func hasMark(v cty.Value, m mark) bool {
	_, marks := v.UnmarkDeep()
	return has(marks, m)
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
			b.r.errorAt(at, "write a string, a number or a truth value", "%s must be one value, not %s", key, describeValue(text.Type()))
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

// refuseSpelledSecret reports a secret that stands in the text of the spec.
func (b *block) refuseSpelledSecret(path string, at hcl.Range, name string, v cty.Value) {
	if !spec.SecretName(name) || hasMark(v, outside) || hasMark(v, sensitive) {
		return
	}
	b.r.places.failed[path] = true
	b.r.spelledSecret(at, name, v)
}

func (r *reader) spelledSecret(at hcl.Range, name string, v cty.Value) {
	r.secret.hide(v)
	r.secretAt(at, `read it from outside: env("NAME"), file("path") or a variable with sensitive = true`, "%s looks like a secret, and no secret is written in a spec", name)
}

// refuseHBASecret does the same for the options of pg_hba.conf that hold one.
func (b *block) refuseHBASecret(path string, at hcl.Range, line string, v cty.Value) {
	words := strings.Fields(line)
	holds := slices.ContainsFunc(words, func(word string) bool {
		option, _, isOption := strings.Cut(word, "=")
		return isOption && slices.Contains([]string{"ldapbindpasswd", "radiussecrets", "radiussecret"}, option)
	})
	if !holds || hasMark(v, outside) || hasMark(v, sensitive) {
		return
	}
	b.r.secret.hideText(line)
	b.r.places.failed[path] = true
	b.r.secretAt(at, `put it in from outside: "... ldapbindpasswd=${env("NAME")}"`, "this line holds a secret, and no secret is written in a spec")
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
