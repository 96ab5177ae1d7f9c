package hclspec

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ramhq/ram/spec"
)

// Diagnostic is one finding about a spec, with the place in the text.
type Diagnostic struct {
	Severity spec.Severity `json:"severity"`
	// File is the name of the source; empty when the finding has no place, and
	// then the positions are zero.
	File string `json:"file,omitempty"`
	// Line and Column count from 1, columns in characters; the end is exclusive.
	Line      int `json:"line,omitempty"`
	Column    int `json:"column,omitempty"`
	EndLine   int `json:"end_line,omitempty"`
	EndColumn int `json:"end_column,omitempty"`
	// Path is the place within the spec, as in spec.Problem, when there is one.
	Path string `json:"path,omitempty"`
	// Summary says what is wrong, Detail what to write instead.
	Summary string `json:"summary"`
	Detail  string `json:"detail,omitempty"`
	// Snippet is the text of Line; empty when it may hold a secret.
	Snippet string `json:"snippet,omitempty"`
}

// Diagnostics are findings in the order of the text.
type Diagnostics []Diagnostic

// HasErrors reports whether one of them makes the spec unusable.
func (ds Diagnostics) HasErrors() bool { return ds.Errors() > 0 }

// Errors counts the findings that make the spec unusable.
func (ds Diagnostics) Errors() int { return ds.count(spec.SeverityError) }

// Warnings counts the findings that do not.
func (ds Diagnostics) Warnings() int { return ds.count(spec.SeverityWarning) }

func (ds Diagnostics) count(severity spec.Severity) int {
	n := 0
	for _, d := range ds {
		if d.Severity == severity {
			n++
		}
	}
	return n
}

// Error is the plain text of all findings, so that Diagnostics can travel as an
// error value.
func (ds Diagnostics) Error() string {
	var text strings.Builder
	ds.Render(&text, RenderOptions{})
	return strings.TrimSuffix(text.String(), "\n")
}

// sort orders by place: files in the order of the sources, findings without a
// place first, equal places as they were found.
func (ds Diagnostics) sort(fileOrder map[string]int) {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(fileOrder[a.File], fileOrder[b.File]),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
}
