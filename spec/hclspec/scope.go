package hclspec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// scope is what expressions can refer to: variables, locals and functions.
type scope struct {
	variables map[string]cty.Value
	locals    map[string]cty.Value
	functions map[string]function.Function
	// declared are the names of all variables and locals, also of those that
	// have no value since something is wrong with them.
	declaredVariables, declaredLocals []string
	contexts                          map[string]*hcl.EvalContext // by file
}

func newScope(opts Options) *scope {
	return &scope{
		variables: map[string]cty.Value{},
		locals:    map[string]cty.Value{},
		functions: functions(opts),
		contexts:  map[string]*hcl.EvalContext{},
	}
}

// context is what expressions of one file see. It is made again after the
// scope has changed.
func (s *scope) context(name string, opts Options) *hcl.EvalContext {
	if ctx, ok := s.contexts[name]; ok {
		return ctx
	}
	functions := maps.Clone(s.functions)
	functions["file"] = fileFunction(name, opts.ReadFile)
	ctx := &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"var":   cty.ObjectVal(s.variables),
			"local": cty.ObjectVal(s.locals),
		},
		Functions: functions,
	}
	s.contexts[name] = ctx
	return ctx
}

func (s *scope) changed() { clear(s.contexts) }

// eval computes an expression. ok is false when that failed, which has then been
// reported, or when the value depends on something that failed.
func (r *reader) eval(expr hclsyntax.Expression) (v cty.Value, ok bool) {
	if !r.checkReferences(expr) {
		return cty.DynamicVal, false
	}
	v, diags := expr.Value(r.scope.context(expr.Range().Filename, r.opts))
	if diags.HasErrors() {
		r.addHCL(diags)
		return cty.DynamicVal, false
	}
	return v, v.IsWhollyKnown()
}

// checkReferences reports names that stand for nothing, better than the library
// does: it knows the nearest ones, and that a bare word wants quotes.
func (r *reader) checkReferences(expr hclsyntax.Expression) bool {
	ok := true
	for _, reference := range expr.Variables() {
		at := reference.SourceRange()
		root := reference.RootName()
		declared, kind := r.scope.declaredVariables, "variable"
		switch root {
		case "var":
		case "local":
			declared, kind = r.scope.declaredLocals, "local value"
		default:
			r.errorAt(at, r.bareWord(root, len(reference) == 1), "%q is not a value", root)
			ok = false
			continue
		}
		name, named := attributeOf(reference)
		if !named {
			continue // var["x"] and the like; the library checks them
		}
		if !slices.Contains(declared, name) {
			detail := fmt.Sprintf("declare it: variable %q { }", name)
			if root == "local" {
				detail = fmt.Sprintf("declare it: locals { %s = ... }", name)
			}
			if near := nearest(name, declared); near != "" {
				detail = fmt.Sprintf("write %s.%s", root, near)
			}
			r.errorAt(at, detail, "there is no %s %q", kind, name)
			ok = false
		}
	}
	return ok
}

func (r *reader) bareWord(word string, alone bool) string {
	if slices.Contains(r.scope.declaredVariables, word) {
		return "write var." + word
	}
	if slices.Contains(r.scope.declaredLocals, word) {
		return "write local." + word
	}
	if alone {
		return fmt.Sprintf("write it in quotes: %q", word)
	}
	return "only var.NAME and local.NAME can be referred to"
}

func attributeOf(reference hcl.Traversal) (string, bool) {
	if len(reference) < 2 {
		return "", false
	}
	step, ok := reference[1].(hcl.TraverseAttr)
	return step.Name, ok
}
