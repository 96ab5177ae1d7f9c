package spec

import "fmt"

// Severity says whether a Problem makes a spec unusable.
type Severity string

const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Problem is one thing that is wrong with a spec. It names the place by a path,
// which the reader of the syntax turns into file, line and column.
type Problem struct {
	Severity Severity `json:"severity"`
	// Path leads to the offending value, such as `node.b.ports.postgres`,
	// `postgres.parameters.fsync`, `postgres.hba[2]` (counted from 0),
	// `backup.nightly.schedule`. Names of nodes, repositories and backups stand
	// in it as they are; of several with one name, the second is `node.b#2`.
	Path string `json:"path"`
	// Summary says what is wrong, Detail what to write instead.
	Summary string `json:"summary"`
	Detail  string `json:"detail,omitempty"`
	// Secret is set when the text at the place may hold a secret and must not
	// be shown.
	Secret bool `json:"secret,omitempty"`
}

// problems collects what Validate finds, in the order in which it looks.
type problems []Problem

func (p *problems) errorf(path, detail, format string, args ...any) {
	*p = append(*p, Problem{Severity: SeverityError, Path: path, Summary: fmt.Sprintf(format, args...), Detail: detail})
}

// secretf is errorf for a place whose text must not be shown.
func (p *problems) secretf(path, detail, format string, args ...any) {
	p.errorf(path, detail, format, args...)
	(*p)[len(*p)-1].Secret = true
}

func (p *problems) warnf(path, detail, format string, args ...any) {
	*p = append(*p, Problem{Severity: SeverityWarning, Path: path, Summary: fmt.Sprintf(format, args...), Detail: detail})
}

// blockPaths gives each of a list of named blocks its path: the name, and #2, #3
// for further blocks of one name.
func blockPaths[T any](kind string, blocks []T, name func(T) string) []string {
	seen := make(map[string]int, len(blocks))
	paths := make([]string, len(blocks))
	for i, b := range blocks {
		n := name(b)
		seen[n]++
		paths[i] = BlockPath(kind, n, seen[n])
	}
	return paths
}

// BlockPath is the path of the occurrence-th block (from 1) of a kind and name.
func BlockPath(kind, name string, occurrence int) string {
	if occurrence < 2 {
		return kind + "." + name
	}
	return fmt.Sprintf("%s.%s#%d", kind, name, occurrence)
}
