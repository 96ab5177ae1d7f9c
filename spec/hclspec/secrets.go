package hclspec

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/ramhq/ram/spec"
)

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
