package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// differences says in words what an assignment changes.
func (d *differ) differences(from, to Assignment) string {
	var parts []string
	if names := changedSettings(from.Settings, to.Settings, d.major()); len(names) > 0 {
		parts = append(parts, strings.Join(names, ", "))
	}
	if !equalLists(from.HBA, to.HBA) {
		parts = append(parts, "pg_hba.conf")
	}
	if !equalLists(from.Slots, to.Slots) {
		parts = append(parts, slotChanges(from.Slots, to.Slots))
	}
	if from.Upstream != nil && to.Upstream != nil && *from.Upstream != *to.Upstream {
		parts = append(parts, "upstream "+to.Upstream.Node)
	}
	if len(parts) == 0 {
		return "the assignment changed"
	}
	return strings.Join(parts, "; ")
}

func slotChanges(from, to []string) string {
	var parts []string
	for _, name := range to {
		if _, found := slices.BinarySearch(from, name); !found {
			parts = append(parts, "create slot "+name)
		}
	}
	for _, name := range from {
		if _, found := slices.BinarySearch(to, name); !found {
			parts = append(parts, "drop slot "+name)
		}
	}
	return strings.Join(parts, ", ")
}

// slotDrift are the slots that should be there and are not, or are of no more use.
func slotDrift(issued Assignment, r Report) []Drift {
	if r.Server.State != pg.ServerRunning || r.Settled < issued.Serial || keepsAll(issued.Slots, r.Server.Slots) {
		return nil
	}
	have := make(map[string]pg.Slot, len(r.Server.Slots))
	for _, s := range r.Server.Slots {
		have[s.Name] = s
	}
	var drift []Drift
	for _, name := range issued.Slots {
		if s, ok := have[name]; !ok {
			drift = append(drift, Drift{Where: "slot", Name: name, Have: "dropped", Want: "present"})
		} else if s.WALStatus == "lost" {
			drift = append(drift, Drift{Where: "slot", Name: name, Have: "lost", Want: "present"})
		}
	}
	return drift
}

// keepsAll is the usual case, told without building an index: the slots are
// there, in order, and good.
func keepsAll(want []string, have []pg.Slot) bool {
	return slices.EqualFunc(want, have, func(name string, s pg.Slot) bool {
		return s.Name == name && s.WALStatus != "lost"
	})
}

func driftNames(drift []Drift) string {
	names := make([]string, len(drift))
	for i, x := range drift {
		names[i] = fmt.Sprintf("%s (%s)", x.Name, x.Where)
	}
	return strings.Join(names, ", ")
}

func (d *differ) drifted(n spec.Node, drift []Drift) {
	c := Change{Action: ActionUpdate, Object: "node " + n.Name, Drift: true}
	for _, x := range drift {
		c.Attributes = append(c.Attributes, Attribute{
			Action: ActionUpdate, Name: fmt.Sprintf("%s (%s)", x.Name, x.Where), Old: x.Have, New: x.Want,
		})
	}
	d.plan.Changes = append(d.plan.Changes, c)
}
