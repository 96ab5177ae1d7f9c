package hclspec

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ramhq/ram/spec"
)

// RenderOptions say how findings look as text.
type RenderOptions struct {
	// Color adds ANSI escapes for a terminal.
	Color bool
}

const (
	escapeReset  = "\x1b[0m"
	escapeBold   = "\x1b[1m"
	escapeRed    = "\x1b[1;31m"
	escapeYellow = "\x1b[1;33m"
	escapeCyan   = "\x1b[36m"
)

// Render writes the findings for people: place and summary, the line of the
// source with the offending part underlined, and what to write instead. An
// error is the writer's.
func (ds Diagnostics) Render(w io.Writer, opts RenderOptions) error {
	var text strings.Builder
	for i, d := range ds {
		if i > 0 {
			text.WriteByte('\n')
		}
		d.render(&text, opts)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (d Diagnostic) render(text *strings.Builder, opts RenderOptions) {
	paint := func(escape, s string) string {
		if !opts.Color || s == "" {
			return s
		}
		return escape + s + escapeReset
	}
	severityColor := escapeRed
	if d.Severity == spec.SeverityWarning {
		severityColor = escapeYellow
	}
	if d.File != "" {
		text.WriteString(paint(escapeBold, fmt.Sprintf("%s:%d:%d:", d.File, d.Line, d.Column)) + " ")
	}
	text.WriteString(paint(severityColor, string(d.Severity)+":") + " " + d.Summary + "\n")
	if d.Snippet != "" {
		gutter := strconv.Itoa(d.Line)
		blank := strings.Repeat(" ", len(gutter))
		line, marker := d.underline()
		fmt.Fprintf(text, "  %s | %s\n", gutter, line)
		fmt.Fprintf(text, "  %s | %s\n", blank, paint(escapeCyan, marker))
	}
	if d.Detail != "" {
		text.WriteString("  " + d.Detail + "\n")
	}
}

// maxSnippet is how much of a long line is shown, in characters.
const maxSnippet = 160

// underline gives the line of the source and a second line with carets under
// the place. Of a long line the part around the place is shown.
func (d Diagnostic) underline() (line, marker string) {
	runes := []rune(strings.ReplaceAll(d.Snippet, "\t", " "))
	start := min(max(d.Column-1, 0), len(runes))
	end := len(runes)
	if d.EndLine == d.Line {
		end = min(max(d.EndColumn-1, start), len(runes))
	}
	if len(runes) > maxSnippet {
		from := max(0, min(start-maxSnippet/4, len(runes)-maxSnippet))
		to := min(len(runes), from+maxSnippet)
		runes, start, end = runes[from:to], start-from, min(end, to)-from
	}
	width := max(1, len([]rune(strings.TrimRight(string(runes[start:end]), " "))))
	return string(runes), strings.Repeat(" ", start) + strings.Repeat("^", width)
}

// snippet is the line-th line of a text, from 1, without its end.
func snippet(text []byte, lineStarts []int, line int) string {
	if line < 1 || line > len(lineStarts) {
		return ""
	}
	end := len(text)
	if line < len(lineStarts) {
		end = lineStarts[line]
	}
	s := strings.TrimRight(string(text[lineStarts[line-1]:end]), "\r\n")
	if !utf8.ValidString(s) {
		return ""
	}
	return s
}
