package render

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Plan writes a plan as people read it before they agree: what changes, in
// which steps, what is in the way, and all of it in one line. An empty plan is
// one line.
func Plan(w io.Writer, p reconcile.Plan, style Style) error {
	var out strings.Builder
	r := planText{out: &out, style: style, plan: p}
	if p.Empty() && len(p.Blocked) == 0 && len(p.Warnings) == 0 {
		fmt.Fprintf(&out, "No changes: cluster %s is as the spec says (revision %d).\n", p.Cluster, p.Revision)
	} else {
		r.whole()
	}
	_, err := io.WriteString(w, out.String())
	return err
}

type planText struct {
	out   *strings.Builder
	style Style
	plan  reconcile.Plan
}

func (r *planText) printf(format string, args ...any) { fmt.Fprintf(r.out, format, args...) }

func (r *planText) whole() {
	if !r.plan.Empty() {
		r.printf("Cluster %s, %s:\n\n", r.style.Bold(r.plan.Cluster), revisions(r.plan))
	}
	for _, c := range r.plan.Changes {
		r.change(c)
	}
	r.steps()
	r.blocked()
	r.warnings()
	r.printf("%s\n", r.style.Bold(PlanSummary(r.plan)))
}

func revisions(p reconcile.Plan) string {
	switch {
	case p.Revision == p.Base.Revision:
		return fmt.Sprintf("revision %d", p.Revision)
	case p.Base.Revision == 0:
		return fmt.Sprintf("first revision (%d)", p.Revision)
	}
	return fmt.Sprintf("revision %d -> %d", p.Base.Revision, p.Revision)
}

func (r *planText) symbol(a reconcile.Action) string {
	switch a {
	case reconcile.ActionCreate:
		return r.style.Good("+")
	case reconcile.ActionDestroy:
		return r.style.Bad("-")
	}
	return r.style.Notice("~")
}

func (r *planText) change(c reconcile.Change) {
	remark := ""
	if c.Drift {
		remark = r.style.Notice("  # drift: changed by hand, put right")
	}
	r.printf("  %s %s%s\n", r.symbol(c.Action), r.style.Bold(c.Object), remark)
	lines := attributeLines(c)
	width := 0
	for _, l := range lines {
		width = max(width, min(len(l.name), maxNameWidth))
	}
	for _, l := range lines {
		r.attribute(l, width)
	}
	r.printf("\n")
}

const maxNameWidth = 40

// attributeLine is one line below an object.
type attributeLine struct {
	action reconcile.Action
	name   string
	text   string
	forces string
}

// attributeLines leaves out what a new object has only because every object has
// it, and what an object that goes held: the revision before has that.
func attributeLines(c reconcile.Change) []attributeLine {
	switch c.Action {
	case reconcile.ActionCreate:
		return createdLines(c.Attributes)
	case reconcile.ActionDestroy:
		return nil
	}
	lines := make([]attributeLine, len(c.Attributes))
	for i, a := range c.Attributes {
		lines[i] = attributeLine{action: a.Action, name: a.Name, text: changedText(c, a), forces: a.Forces}
	}
	return lines
}

// createdLines put the elements of a list, hba[0], hba[1], ..., into one line.
func createdLines(attributes []reconcile.Attribute) []attributeLine {
	var lines []attributeLine
	elements := map[string][]string{}
	for _, a := range attributes {
		name, _, element := strings.Cut(a.Name, "[")
		if element {
			elements[name] = append(elements[name], value(a.New))
		}
		if a.New == "" || len(elements[name]) > 1 {
			continue
		}
		lines = append(lines, attributeLine{action: a.Action, name: name, text: value(a.New)})
	}
	for i, l := range lines {
		if list, ok := elements[l.name]; ok {
			lines[i].text = "[" + strings.Join(list, ", ") + "]"
		}
	}
	return lines
}

// changedText is old -> new; of a drift either may be missing on one side.
func changedText(c reconcile.Change, a reconcile.Attribute) string {
	side := func(v string) string {
		if v == "" && c.Drift {
			return "(not set)"
		}
		return value(v)
	}
	switch a.Action {
	case reconcile.ActionCreate:
		return value(a.New)
	case reconcile.ActionDestroy:
		return value(a.Old)
	}
	return side(a.Old) + " -> " + side(a.New)
}

func (r *planText) attribute(l attributeLine, width int) {
	line := fmt.Sprintf("      %s %-*s = %s", r.symbol(l.action), width, l.name, l.text)
	if l.forces != "" {
		line += "  " + r.forces(l.forces)
	}
	r.printf("%s\n", line)
}

func (r *planText) forces(what string) string {
	if what == "restart" {
		return r.style.Bad("# forces restart")
	}
	return r.style.Faint("# " + what)
}

func (r *planText) steps() {
	if len(r.plan.Steps) == 0 {
		if len(r.plan.Changes) > 0 && !r.plan.Refused() {
			r.printf("No node has anything to do: only the recorded spec changes.\n\n")
		}
		return
	}
	r.printf("Steps:\n\n")
	numbers := map[string]int{}
	for i, s := range r.plan.Steps {
		numbers[s.ID] = i + 1
	}
	width := len(fmt.Sprint(len(r.plan.Steps)))
	for i, s := range r.plan.Steps {
		r.step(fmt.Sprintf("  %*d. ", width, i+1), s, numbers)
	}
	r.printf("\n")
}

func (r *planText) step(lead string, s reconcile.Step, numbers map[string]int) {
	size := ""
	if s.Kind == reconcile.StepClone && s.Bytes > 0 {
		size = ", " + s.Bytes.Human()
	}
	reason := ""
	if s.Reason != "" {
		reason = r.style.Faint("  # " + oneLine(s.Reason))
	}
	r.printf("%s%s%s%s\n", lead, oneLine(s.Summary), size, reason)
	pad := strings.Repeat(" ", len(lead))
	if after := afterNumbers(s.After, numbers); after != "" {
		r.printf("%s%s\n", pad, r.style.Faint("after "+after))
	}
	if s.Waits != "" {
		r.printf("%swaits for %s\n", pad, oneLine(s.Waits))
	}
	if s.Interrupts != "" {
		r.printf("%s%s\n", pad, r.style.Notice("interrupts: "+oneLine(s.Interrupts)))
	}
	if s.Destroys != "" {
		r.printf("%s%s\n", pad, r.style.Bad("destroys: "+oneLine(s.Destroys)))
	}
}

func afterNumbers(ids []string, numbers map[string]int) string {
	var known []int
	for _, id := range ids {
		if n, ok := numbers[id]; ok {
			known = append(known, n)
		}
	}
	slices.Sort(known)
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(slices.Compact(known)), " ", ", "), "[]")
}

func (r *planText) blocked() {
	if len(r.plan.Blocked) == 0 {
		return
	}
	head := "Cannot be done now:"
	if r.plan.Refused() {
		head = "Refused:"
	}
	r.printf("%s\n\n", r.style.Bad(head))
	for _, b := range r.plan.Blocked {
		r.printf("  ! %s\n", oneLine(b.Reason))
	}
	r.printf("\n")
}

func (r *planText) warnings() {
	if len(r.plan.Warnings) == 0 {
		return
	}
	r.printf("%s\n\n", r.style.Notice("Warnings:"))
	for _, text := range r.plan.Warnings {
		r.printf("  ! %s\n", oneLine(text))
	}
	r.printf("\n")
}

// PlanSummary is a plan in one line.
func PlanSummary(p reconcile.Plan) string {
	s := p.Summary
	switch {
	case p.Refused():
		return "Plan: the spec is refused; nothing is changed."
	case p.Empty() && len(p.Blocked) > 0:
		return "Plan: nothing can be done until the above is put right."
	case p.Empty():
		return "Plan: nothing to do."
	}
	line := fmt.Sprintf("Plan: %d to add, %d to change, %d to destroy", s.Create, s.Update, s.Destroy)
	var costs []string
	if s.Clones > 0 {
		costs = append(costs, count(s.Clones, "clone")+sized(s.Bytes))
	}
	if s.Restarts > 0 {
		costs = append(costs, count(s.Restarts, "restart"))
	}
	if len(costs) == 0 && len(p.Steps) > 0 {
		costs = append(costs, count(len(p.Steps), "step"))
	}
	if len(costs) > 0 {
		line += "; " + strings.Join(costs, ", ")
	}
	if s.WritesInterrupted {
		line += "; writes are interrupted"
	} else if len(p.Steps) > 0 && p.Base.Revision > 0 {
		line += "; writes go on"
	}
	if s.Destructive {
		line += "; needs --allow-destroy"
	}
	return line + "."
}

func sized(b pg.Bytes) string {
	if b == 0 {
		return ""
	}
	return " (" + b.Human() + ")"
}
