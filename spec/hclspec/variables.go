package hclspec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/ramhq/ram/spec"
)

// variable is one variable block.
type variable struct {
	name      string
	declared  hcl.Range
	kind      cty.Type // cty.DynamicPseudoType when none is written
	typed     bool
	fallback  cty.Value // cty.NilVal when there is no default
	sensitive bool
	broken    bool // reported, so that its value is not missed
}

// readVariables fills the scope with the values of all variable blocks.
func (r *reader) readVariables(blocks []*hclsyntax.Block) {
	variables := map[string]*variable{}
	var inOrder []*variable
	for _, b := range blocks {
		v := r.readVariable(b)
		if v == nil {
			continue
		}
		if first, twice := variables[v.name]; twice {
			r.errorAt(v.declared, fmt.Sprintf("remove it; the first is at %s", placeOf(first.declared)), "variable %q is declared twice", v.name)
			continue
		}
		variables[v.name] = v
		inOrder = append(inOrder, v)
		r.scope.declaredVariables = append(r.scope.declaredVariables, v.name)
	}
	given := r.givenValues(variables)
	for _, v := range inOrder {
		value := r.variableValue(v, given[v.name])
		if v.sensitive {
			r.secret.hide(value)
			value = value.Mark(sensitive)
		}
		r.scope.variables[v.name] = value
	}
	r.scope.changed()
}

func (r *reader) readVariable(b *hclsyntax.Block) *variable {
	if len(b.Labels) != 1 || !hclsyntax.ValidIdentifier(b.Labels[0]) {
		r.errorAt(headerOf(b), `write variable "name" { }`, "a variable block has one label, an identifier")
		return nil
	}
	v := &variable{name: b.Labels[0], declared: headerOf(b), kind: cty.DynamicPseudoType, fallback: cty.NilVal}
	body := r.open(b, "variable."+v.name, fmt.Sprintf("variable %q", v.name))
	var description string
	body.text("description", &description)
	body.boolean("sensitive", &v.sensitive)
	if attr := body.take("type"); attr != nil {
		kind, diags := typeexpr.TypeConstraint(attr.Expr)
		if diags.HasErrors() {
			r.addHCL(diags)
			v.broken = true
		} else {
			v.kind, v.typed = kind, true
		}
	}
	if attr := body.take("default"); attr != nil {
		r.readDefault(v, attr)
	}
	body.close()
	return v
}

func (r *reader) readDefault(v *variable, attr *hclsyntax.Attribute) {
	value, ok := r.eval(attr.Expr)
	if !ok {
		v.broken = true
		return
	}
	if v.sensitive {
		r.secret.hide(value)
	}
	if spelledText(value) {
		r.judgeSpelledDefault(v, attr, value)
	}
	converted, err := convert.Convert(value, v.kind)
	if err != nil {
		r.errorAt(attr.Expr.Range(), "write "+describeType(v.kind), "the default of variable %q has the wrong type", v.name)
		v.broken = true
		return
	}
	v.fallback = converted
}

// judgeSpelledDefault refuses a default that looks like a secret, and warns of one
// that is merely said to be sensitive.
func (r *reader) judgeSpelledDefault(v *variable, attr *hclsyntax.Attribute, value cty.Value) {
	if spec.SecretName(v.name) {
		r.spelledSecret(attr.Expr.Range(), fmt.Sprintf("the default of variable %q", v.name), value)
		return
	}
	if v.sensitive {
		r.secretAt(attr.Expr.Range(), "remove the default and give the value with --var-file or env()", "the sensitive variable %q has a default that every reader of the spec sees", v.name)
		r.diags[len(r.diags)-1].Severity = spec.SeverityWarning
	}
}

// given is a value from --var or a variable file.
type given struct {
	value cty.Value // set for a variable file
	text  string    // set for --var
	at    hcl.Range // of the value in a variable file
}

func (r *reader) givenValues(variables map[string]*variable) map[string]*given {
	values := map[string]*given{}
	for _, source := range r.opts.VarFiles {
		for name, value := range r.readVarFile(source, variables) {
			values[name] = value
		}
	}
	known := slices.Sorted(maps.Keys(variables))
	for _, name := range slices.Sorted(maps.Keys(r.opts.Vars)) {
		if _, ok := variables[name]; !ok {
			r.diags = append(r.diags, Diagnostic{
				Severity: spec.SeverityError,
				Summary:  fmt.Sprintf("--var gives a value to %q, which the spec does not declare", name),
				Detail:   undeclared(name, known),
			})
			continue
		}
		values[name] = &given{text: r.opts.Vars[name]}
	}
	return values
}

func undeclared(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("write %s", near)
	}
	return fmt.Sprintf("add variable %q { } to the spec, or leave the value out", name)
}

// readVarFile reads HCL attributes. The file's lines are never shown: it is where
// secrets are.
func (r *reader) readVarFile(source Source, variables map[string]*variable) map[string]*given {
	f := newFile(source)
	if diags := f.parse(); diags.HasErrors() {
		r.addHCL(diags)
		return nil
	}
	for _, b := range f.body.Blocks {
		r.errorAt(headerOf(b), "write name = value", "a variable file has no blocks")
	}
	known := slices.Sorted(maps.Keys(variables))
	values := map[string]*given{}
	for name, attr := range f.body.Attributes {
		if _, ok := variables[name]; !ok {
			r.errorAt(attr.NameRange, undeclared(name, known), "the spec does not declare variable %q", name)
			continue
		}
		if references := attr.Expr.Variables(); len(references) > 0 {
			r.errorAt(references[0].SourceRange(), "write strings in quotes", "a value in a variable file cannot refer to anything")
			variables[name].broken = true
			continue
		}
		value, diags := attr.Expr.Value(nil)
		if diags.HasErrors() {
			r.addHCL(diags)
			variables[name].broken = true
			continue
		}
		values[name] = &given{value: value, at: attr.Expr.Range()}
	}
	return values
}

// variableValue decides between what was given and the default.
func (r *reader) variableValue(v *variable, given *given) cty.Value {
	value := v.fallback
	if given != nil {
		value = r.convertGiven(v, given)
	}
	if value == cty.NilVal && !v.broken {
		r.errorAt(v.declared, fmt.Sprintf("give --var %s=..., or write a default", v.name), "variable %q has no value", v.name)
	}
	if value == cty.NilVal {
		return cty.DynamicVal
	}
	return value
}

func (r *reader) convertGiven(v *variable, given *given) cty.Value {
	value, at, source := given.value, given.at, "the variable file"
	if value == cty.NilVal {
		at, source = v.declared, "--var"
		if v.sensitive {
			r.secret.hideText(given.text)
		}
		var ok bool
		if value, ok = r.parseGiven(v, given.text); !ok {
			v.broken = true
			return cty.NilVal
		}
	}
	if v.sensitive {
		r.secret.hide(value)
	}
	converted, err := convert.Convert(value, v.kind)
	if err != nil {
		r.errorAt(at, "give "+describeType(v.kind), "%s gives variable %q a value of the wrong type", source, v.name)
		v.broken = true
		return cty.NilVal
	}
	return converted
}

// parseGiven takes the text as it is for a string and for a variable without a
// type, and as an expression without references for any other type.
func (r *reader) parseGiven(v *variable, text string) (cty.Value, bool) {
	if !v.typed || v.kind == cty.String {
		return cty.StringVal(text), true
	}
	f := newFile(Source{Name: "--var " + v.name, Text: []byte(text)})
	if !f.checkBounds().HasErrors() {
		if expr, diags := hclsyntax.ParseExpression(f.Text, f.Name, hcl.InitialPos); !diags.HasErrors() {
			if value, diags := expr.Value(nil); !diags.HasErrors() {
				return value, true
			}
		}
	}
	r.errorAt(v.declared, "give "+describeType(v.kind), "--var gives variable %q a value that cannot be read", v.name)
	return cty.NilVal, false
}

func describeType(kind cty.Type) string {
	switch {
	case kind == cty.String:
		return `a string in quotes`
	case kind == cty.Number:
		return "a number"
	case kind == cty.Bool:
		return "true or false"
	}
	return "a value of type " + typeexpr.TypeString(kind)
}

func placeOf(at hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", at.Filename, at.Start.Line, at.Start.Column)
}
