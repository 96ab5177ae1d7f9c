package render

import (
	"fmt"

	"github.com/ramhq/ram/reconcile"
)

// Activity is what an agent is doing, without the node: cloning from a, 412 MB of
// 1.2 GB. From may be empty.
func Activity(a reconcile.Activity, from string) string {
	text := doing(a.Step)
	if from != "" {
		text += " from " + from
	}
	switch {
	case a.Total > 0:
		text += fmt.Sprintf(", %s of %s", a.Done.Human(), a.Total.Human())
	case a.Done > 0:
		text += ", " + a.Done.Human()
	}
	return text
}

var participles = map[reconcile.StepKind]string{
	reconcile.StepJoin:      "joining",
	reconcile.StepInit:      "initialising",
	reconcile.StepClone:     "cloning",
	reconcile.StepConfigure: "configuring",
	reconcile.StepStart:     "starting",
	reconcile.StepRestart:   "restarting",
	reconcile.StepFollow:    "connecting to its upstream",
	reconcile.StepFailover:  "changing its role",
	reconcile.StepRewind:    "rewinding its data",
	reconcile.StepRestore:   "restoring",
	reconcile.StepRetire:    "retiring",
	reconcile.StepLeave:     "leaving",
}

func doing(kind reconcile.StepKind) string {
	if word, ok := participles[kind]; ok {
		return word
	}
	return string(kind)
}
