package hclspec

import (
	"bytes"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/hashicorp/hcl/v2"
)

// Format gives a spec its canonical layout: two spaces of indentation, aligned
// equals signs, no trailing blanks, at most one empty line between things and
// none at the edges of a block, one line end at the end. Formatting twice
// changes nothing more. A text with broken syntax is refused with Diagnostics
// that call it name.
func Format(name string, text []byte) ([]byte, error) {
	r := newReader([]Source{{Name: name, Text: text}}, Options{})
	if !r.parseSyntax([]Source{{Name: name, Text: text}}) {
		return nil, r.findings()
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	return tidyLines(hclwrite.Format(text)), nil
}

// tidyLines sets empty lines and line ends right, except inside heredocs and
// comments of several lines, whose text is the author's.
func tidyLines(text []byte) []byte {
	verbatim := verbatimLines(text)
	lines := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	var out [][]byte
	for i, line := range lines {
		if verbatim[i+1] {
			out = append(out, line)
			continue
		}
		line = bytes.TrimRight(line, " \t")
		if len(line) == 0 && (len(out) == 0 || edge(out[len(out)-1], '{', '[') || len(out[len(out)-1]) == 0) {
			continue
		}
		if closes(line) && len(out) > 0 && len(out[len(out)-1]) == 0 && !verbatim[i] {
			out = out[:len(out)-1]
		}
		out = append(out, line)
	}
	for len(out) > 0 && len(out[len(out)-1]) == 0 {
		out = out[:len(out)-1]
	}
	if len(out) == 0 {
		return nil
	}
	return append(bytes.Join(out, []byte("\n")), '\n')
}

func edge(line []byte, marks ...byte) bool {
	return len(line) > 0 && bytes.IndexByte(marks, line[len(line)-1]) >= 0 && !bytes.HasPrefix(bytes.TrimSpace(line), []byte("#"))
}

func closes(line []byte) bool {
	trimmed := bytes.TrimSpace(line)
	return len(trimmed) > 0 && (trimmed[0] == '}' || trimmed[0] == ']')
}

// verbatimLines are the numbers, from 1, of the lines that begin inside a
// heredoc or a comment.
func verbatimLines(text []byte) map[int]bool {
	lines := map[int]bool{}
	tokens, _ := hclsyntax.LexConfig(text, "", hcl.InitialPos)
	heredocStart := 0
	for _, token := range tokens {
		from, to := token.Range.Start.Line, token.Range.End.Line
		switch token.Type {
		case hclsyntax.TokenOHeredoc:
			heredocStart = from
		case hclsyntax.TokenCHeredoc:
			for line := heredocStart + 1; line <= from; line++ {
				lines[line] = true
			}
		case hclsyntax.TokenComment:
			if token.Range.End.Column == 1 {
				to-- // the comment's own line end
			}
			for line := from + 1; line <= to; line++ {
				lines[line] = true
			}
		}
	}
	return lines
}
