package hclspec

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Source is the text of one file. Name is what diagnostics call it, and
// file() reads relative to its directory.
type Source struct {
	Name string
	Text []byte
}

// The bounds keep a hostile file from exhausting the parser's stack.
const (
	maxSourceBytes = 4 << 20
	maxNesting     = 100
	maxOperators   = 10_000
)

// file is a source with what is needed to speak about its places.
type file struct {
	Source
	lineStarts []int
	body       *hclsyntax.Body
}

func newFile(source Source) *file {
	starts := []int{0}
	for i, b := range source.Text {
		if b == '\n' {
			starts = append(starts, i+1)
		}
	}
	return &file{Source: source, lineStarts: starts}
}

// parse fills in the body, or reports why there is none.
func (f *file) parse() hcl.Diagnostics {
	if diags := f.checkBounds(); diags.HasErrors() {
		return diags
	}
	parsed, diags := hclsyntax.ParseConfig(f.Text, f.Name, hcl.InitialPos)
	if diags.HasErrors() {
		return diags
	}
	f.body = parsed.Body.(*hclsyntax.Body)
	return nil
}

func (f *file) checkBounds() hcl.Diagnostics {
	if len(f.Text) > maxSourceBytes {
		return refuse(hcl.Range{Filename: f.Name, Start: hcl.InitialPos, End: hcl.InitialPos},
			fmt.Sprintf("the file has %d bytes, more than a spec can need", len(f.Text)), "split it into several files of a directory")
	}
	tokens, _ := hclsyntax.LexConfig(f.Text, f.Name, hcl.InitialPos)
	depth, operators := 0, 0
	for _, token := range tokens {
		switch token.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenTemplateSeqEnd:
			depth--
		case hclsyntax.TokenBang, hclsyntax.TokenMinus, hclsyntax.TokenPlus, hclsyntax.TokenStar, hclsyntax.TokenSlash,
			hclsyntax.TokenPercent, hclsyntax.TokenQuestion, hclsyntax.TokenAnd, hclsyntax.TokenOr:
			operators++
		}
		if depth > maxNesting || operators > maxOperators {
			return refuse(token.Range, "the file is nested or composed beyond what a spec can need", "write it more plainly")
		}
	}
	return nil
}

func refuse(at hcl.Range, summary, detail string) hcl.Diagnostics {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Subject: &at, Summary: summary, Detail: detail}}
}
