package hclspec

import (
	"slices"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// redactor keeps the values of sensitive variables out of everything that is
// said about a spec.
type redactor struct{ values []string }

const redacted = "(sensitive)"

// hide adds every text and number inside a value.
func (r *redactor) hide(v cty.Value) {
	v, _ = v.UnmarkDeep()
	_ = cty.Walk(v, func(_ cty.Path, v cty.Value) (bool, error) {
		if !v.IsKnown() || v.IsNull() || !v.Type().IsPrimitiveType() || v.Type() == cty.Bool {
			return true, nil
		}
		if text, err := convert.Convert(v, cty.String); err == nil {
			r.hideText(text.AsString())
		}
		return true, nil
	})
}

func (r *redactor) hideText(text string) {
	if text == "" {
		return
	}
	quoted := strconv.Quote(text)
	r.values = append(r.values, text, quoted[1:len(quoted)-1])
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			r.values = append(r.values, line)
		}
	}
}

// settle orders the values so that one inside another is replaced last.
func (r *redactor) settle() {
	slices.SortFunc(r.values, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	r.values = slices.Compact(r.values)
}

// minPlain is the length from which a value is replaced wherever it stands.
// Shorter ones are, too, when quotes or an equals sign show them to be values.
const minPlain = 4

func (r *redactor) clean(text string) string {
	for _, value := range r.values {
		if len(value) >= minPlain {
			text = strings.ReplaceAll(text, value, redacted)
			continue
		}
		text = strings.ReplaceAll(text, `"`+value+`"`, redacted)
		text = strings.ReplaceAll(text, "= "+value, "= "+redacted)
	}
	return text
}
