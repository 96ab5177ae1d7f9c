package hclspec

import "github.com/agext/levenshtein"

// nearest is the candidate that a misspelt name most likely meant, or nothing
// when none is near enough. The first of equally near ones is taken.
func nearest(name string, candidates []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, candidate := range candidates {
		if d := levenshtein.Distance(name, candidate, nil); d < least && d < len(candidate) {
			best, least = candidate, d
		}
	}
	return best
}
