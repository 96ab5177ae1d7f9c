package hclspec

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// places remember where in the text each part of the spec stands, by the paths
// of spec.Problem, and which parts could not be read.
type places struct {
	ranges map[string]hcl.Range
	// failed parts have been reported: nothing else is said about them or
	// what is inside them.
	failed map[string]bool
	// misnamed parts are missing since the text spells them wrong, which has
	// been reported: that they are missing is not said as well.
	misnamed map[string]bool
	// sensitive parts came from a sensitive variable.
	sensitive map[string]bool
}

func newPlaces() places {
	return places{
		ranges:    map[string]hcl.Range{},
		failed:    map[string]bool{},
		misnamed:  map[string]bool{},
		sensitive: map[string]bool{},
	}
}

// outer is the path of what a path is inside of; ok is false at the top.
func outer(path string) (string, bool) {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return "", false
	}
	return path[:i], true
}

// find gives the range of a path, or of the nearest thing around it that the
// text spells out. The whole cluster is the empty path.
func (p places) find(path string) (hcl.Range, bool) {
	for ok := true; ok; path, ok = outer(path) {
		if r, found := p.ranges[path]; found {
			return r, true
		}
	}
	r, found := p.ranges[""]
	return r, found
}

func within(paths map[string]bool, path string) bool {
	for ok := true; ok; path, ok = outer(path) {
		if paths[path] {
			return true
		}
	}
	return false
}

// reported tells whether a problem at path only repeats, or follows from, what
// has been reported already.
func (p places) reported(path string) bool {
	if within(p.failed, path) || p.misnamed[path] {
		return true
	}
	if p.misnamed["node"] && (path == "replication.sync_standbys" || strings.HasSuffix(path, ".from")) {
		return true
	}
	return p.misnamed["repository"] && strings.HasSuffix(path, ".repository")
}
