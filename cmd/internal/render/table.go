package render

import (
	"io"
	"strings"
	"unicode/utf8"
)

// table collects rows and aligns their columns. The last column is not padded.
type table struct {
	style  Style
	head   []string
	rows   [][]cell
	right  map[int]bool // columns of numbers
	indent string
}

type cell struct {
	text string
	ink  ink
}

func plain(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i] = cell{text: text}
	}
	return row
}

func (t *table) add(row []cell) { t.rows = append(t.rows, row) }

func (t *table) writeTo(w io.Writer) error {
	widths := make([]int, len(t.head))
	for i, text := range t.head {
		widths[i] = utf8.RuneCountInString(text)
	}
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var out strings.Builder
	header := plain(t.head...)
	for i := range header {
		header[i].ink = bold
	}
	for _, row := range append([][]cell{header}, t.rows...) {
		t.line(&out, row, widths)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (t *table) line(out *strings.Builder, row []cell, widths []int) {
	var line strings.Builder
	for i, c := range row {
		if i > 0 {
			line.WriteString("  ")
		}
		text, pad := c.text, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
		if c.ink != "" {
			text = t.style.paint(c.ink, text)
		}
		if t.right[i] {
			line.WriteString(pad + text)
		} else {
			line.WriteString(text + pad)
		}
	}
	out.WriteString(t.indent + strings.TrimRight(line.String(), " ") + "\n")
}
