package hclspec

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/ramhq/ram/spec"
)

// reader is one run of Parse: the files, what has been found out so far, and
// what is wrong.
type reader struct {
	opts   Options
	files  map[string]*file
	order  map[string]int // of files, for sorting
	scope  *scope
	places places
	secret redactor
	diags  Diagnostics
	// written are the paths of the blocks directly inside the cluster.
	written []string
}

func newReader(sources []Source, opts Options) *reader {
	r := &reader{
		opts:   opts,
		files:  make(map[string]*file, len(sources)),
		order:  make(map[string]int, len(sources)),
		places: newPlaces(),
	}
	for i, source := range sources {
		r.files[source.Name] = newFile(source)
		r.order[source.Name] = i + 1
	}
	return r
}

// errorAt reports something at a place in the text.
func (r *reader) errorAt(at hcl.Range, detail, format string, args ...any) {
	r.diags = append(r.diags, r.locate(at, Diagnostic{
		Severity: spec.SeverityError,
		Summary:  fmt.Sprintf(format, args...),
		Detail:   detail,
	}))
}

// secretAt is errorAt for a line that must not be shown.
func (r *reader) secretAt(at hcl.Range, detail, format string, args ...any) {
	r.errorAt(at, detail, format, args...)
	r.diags[len(r.diags)-1].Snippet = ""
}

// addHCL reports what the HCL library found, in our form.
func (r *reader) addHCL(diags hcl.Diagnostics) {
	for _, diag := range diags {
		d := Diagnostic{Severity: spec.SeverityError}
		d.Summary, d.Detail = inOurWords(diag)
		if diag.Severity == hcl.DiagWarning {
			d.Severity = spec.SeverityWarning
		}
		if diag.Subject != nil {
			d = r.locate(*diag.Subject, d)
		}
		r.diags = append(r.diags, d)
	}
}

// inOurWords turns what the library says into what is wrong and what to write.
func inOurWords(diag *hcl.Diagnostic) (summary, detail string) {
	if diag.Summary == "Invalid function argument" {
		if _, said, ok := strings.Cut(diag.Detail, " parameter: "); ok {
			summary, detail, _ = strings.Cut(strings.TrimSuffix(said, "."), "; ")
			return summary, detail
		}
	}
	if said, meant, ok := strings.Cut(diag.Detail, " Did you mean "); ok {
		return sentence(strings.TrimSuffix(said, ".")), "write " + strings.Trim(meant, `"?`)
	}
	return sentence(diag.Summary), strings.TrimSuffix(diag.Detail, ".")
}

// sentence gives a title of the library the form of our summaries.
func sentence(title string) string {
	title = strings.TrimSuffix(title, ".")
	if len(title) > 1 && title[1] >= 'a' && title[1] <= 'z' {
		return strings.ToLower(title[:1]) + title[1:]
	}
	return title
}

func (r *reader) locate(at hcl.Range, d Diagnostic) Diagnostic {
	d.File = at.Filename
	d.Line, d.Column = at.Start.Line, at.Start.Column
	d.EndLine, d.EndColumn = at.End.Line, at.End.Column
	if f, ok := r.files[at.Filename]; ok {
		d.Snippet = snippet(f.Text, f.lineStarts, d.Line)
	}
	return d
}

// addProblems reports what the rules of package spec found, except what
// follows from something that has been reported already.
func (r *reader) addProblems(problems []spec.Problem) {
	for _, p := range problems {
		if r.places.reported(p.Path) {
			continue
		}
		d := Diagnostic{Severity: p.Severity, Path: p.Path, Summary: p.Summary, Detail: p.Detail}
		if within(r.places.sensitive, p.Path) {
			d.Summary = p.Path + " cannot have this value, which is sensitive and not shown"
			d.Detail = "look at the variable that it comes from"
		}
		if at, ok := r.places.find(p.Path); ok {
			d = r.locate(at, d)
		}
		if p.Secret {
			d.Snippet = ""
		}
		r.diags = append(r.diags, d)
	}
}

// findings are all diagnostics in order and without secrets.
func (r *reader) findings() Diagnostics {
	r.secret.settle()
	for i := range r.diags {
		d := &r.diags[i]
		d.Summary, d.Detail = r.secret.clean(d.Summary), r.secret.clean(d.Detail)
		if r.secret.clean(d.Snippet) != d.Snippet {
			d.Snippet = ""
		}
	}
	r.diags.sort(r.order)
	return r.diags
}

// blocksOf gives the top-level blocks of a type in the order of the sources.
func (r *reader) blocksOf(sources []Source, kind string) []*hclsyntax.Block {
	var blocks []*hclsyntax.Block
	for _, source := range sources {
		f := r.files[source.Name]
		if f.body == nil {
			continue
		}
		for _, b := range f.body.Blocks {
			if b.Type == kind {
				blocks = append(blocks, b)
			}
		}
	}
	return blocks
}

func headerOf(b *hclsyntax.Block) hcl.Range { return b.DefRange() }
