package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

func subject(s reconcile.RunStep) string {
	if s.Node == "" {
		return ""
	}
	return "node " + s.Node + ": "
}

// stepWords say what a step is while it goes on and once it is done. A kind that
// is not listed is told by the step's own summary.
var stepWords = map[reconcile.StepKind]struct{ going, ended string }{
	reconcile.StepJoin:      {"joining the cluster", "joined the cluster"},
	reconcile.StepInit:      {"initialising PostgreSQL", "initialised, runs as primary"},
	reconcile.StepClone:     {"cloning", "cloned"},
	reconcile.StepConfigure: {"loading its configuration", "configured"},
	reconcile.StepStart:     {"starting PostgreSQL", "started"},
	reconcile.StepRestart:   {"restarting PostgreSQL", "restarted"},
	reconcile.StepFollow:    {"connecting to its upstream", "streams"},
	reconcile.StepRewind:    {"rewinding its data", "rewound"},
	reconcile.StepRetire:    {"stopping PostgreSQL, setting its data aside", "stopped, its data set aside"},
	reconcile.StepLeave:     {"leaving the cluster", "left the cluster"},
}

// going is a step that goes on: node b: cloning from a, 412 MB of 1.2 GB.
func (p *Progress) going(s reconcile.RunStep, answer api.RunAnswer) string {
	activity, busy := answer.Activities[s.Node]
	if busy && activity.Step == s.Kind && (activity.Total > 0 || activity.Done > 0 || s.Kind == reconcile.StepClone) {
		return subject(s) + Activity(activity, s.From)
	}
	words, known := stepWords[s.Kind]
	switch {
	case !known:
		return summary(s)
	case s.From != "":
		return subject(s) + words.going + " from " + s.From
	}
	return subject(s) + words.going
}

// summary is a step in the plan's own words, which may name the node already.
func summary(s reconcile.RunStep) string {
	text := oneLine(s.Summary)
	if strings.HasPrefix(text, "node "+s.Node+" ") {
		return text
	}
	return subject(s) + text
}

func (p *Progress) ended(s reconcile.RunStep) string {
	words, known := stepWords[s.Kind]
	switch {
	case !known:
		return summary(s)
	case s.From != "":
		return subject(s) + words.ended + " from " + s.From
	}
	return subject(s) + words.ended
}

// trouble is something that keeps a run from getting on.
type trouble struct{ about, text string }

// troubles are the problems of nodes, then what is blocked for other reasons.
func troubles(answer api.RunAnswer) []trouble {
	var list []trouble
	told := map[string]bool{}
	for _, node := range slices.Sorted(maps.Keys(answer.Problems)) {
		text := fmt.Sprintf("node %s: %s", node, oneLine(answer.Problems[node].Text))
		told[text] = true
		list = append(list, trouble{"problem " + node, text})
	}
	for _, b := range answer.Blocked {
		if text := oneLine(b.Reason); !told[text] {
			list = append(list, trouble{"blocked " + b.Node + text, text})
		}
	}
	return list
}

// Troubles is what keeps a run from getting on, a line for each.
func Troubles(answer api.RunAnswer) []string {
	var lines []string
	for _, t := range troubles(answer) {
		lines = append(lines, t.text)
	}
	return lines
}
