package render

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// Choice writes how a primary was chosen: why the term was opened, who was chosen,
// and of every node why it was or was not.
func Choice(w io.Writer, c api.VerdictAnswer, style Style) error {
	var out strings.Builder
	choiceHeading(&out, c.Choice, style)
	choiceInput(&out, c.Input, c.Opened, style)
	out.WriteString("\n")
	t := table{
		style: style, indent: "  ",
		head:  []string{"NODE", "PROMISED", "TL", "LSN", "PRIORITY", "ZONE", "WHY"},
		right: map[int]bool{2: true, 4: true},
	}
	for _, n := range c.Verdict.Nodes {
		t.add(choiceRow(n, c.Input))
	}
	if err := t.writeTo(&out); err != nil {
		return err
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func choiceHeading(out *strings.Builder, c reconcile.Choice, style Style) {
	v := c.Verdict
	switch {
	case v.Choose == "":
		fmt.Fprintf(out, "Term %d: %s\n", v.Term, style.Bad("no primary is chosen yet"))
	default:
		fmt.Fprintf(out, "Term %d: node %s was chosen\n", v.Term, style.Bold(v.Choose))
	}
	if c.Event != 0 {
		fmt.Fprintf(out, "  event     %d, %s\n", c.Event, style.stamp(c.At))
	}
	fmt.Fprintf(out, "  because   %s\n", oneLine(v.Reason))
	if v.MayLose != "" {
		fmt.Fprintf(out, "  may lose  %s\n", style.Bad(oneLine(v.MayLose)))
	} else if v.Choose != "" {
		fmt.Fprintf(out, "  may lose  nothing\n")
	}
}

func choiceInput(out *strings.Builder, in reconcile.FailoverInput, event *reconcile.Event, style Style) {
	opened := string(in.Cause) + " of " + in.Deposed.Node
	if event != nil {
		opened += ", event " + fmt.Sprint(event.Seq) + ": " + oneLine(event.Reason)
	}
	if in.Target != "" {
		opened += ", asked for: " + in.Target
	}
	if in.AcceptLoss {
		opened += ", " + style.Notice("loss accepted by an operator")
	}
	fmt.Fprintf(out, "  opened    %s; decided after %s\n", opened, Elapsed(in.Waited))
	fmt.Fprintf(out, "  rule      %s\n", choiceRule(in))
}

// choiceRule is what had to be so before anybody could be chosen.
func choiceRule(in reconcile.FailoverInput) string {
	var sets []string
	met := true
	for _, s := range in.Sets {
		if s.K == 0 {
			sets = nil
			break
		}
		sets = append(sets, fmt.Sprintf("%d of %s", len(s.Members)-s.K+1, strings.Join(s.Members, ", ")))
		met = met && promisesOf(s, in) >= len(s.Members)-s.K+1
	}
	switch {
	case len(sets) > 0 && met:
		return "promises of " + strings.Join(sets, ", and ") + ": one of them has every acknowledged write"
	case len(sets) > 0:
		return "promises of " + strings.Join(sets, ", and ") + ", so that one of them has every acknowledged write: not met"
	case in.Mode == spec.ModeAsync:
		return fmt.Sprintf("async mode: the old primary is dead or its lease over, and the new one at most %s behind", in.MaxLag.Human())
	}
	return "no sync set was in force: the old primary is dead or its lease over"
}

func promisesOf(s reconcile.SyncSet, in reconcile.FailoverInput) int {
	have := 0
	for _, n := range in.Nodes {
		if n.Promised && slices.Contains(s.Members, n.Node) {
			have++
		}
	}
	return have
}

func choiceRow(v reconcile.NodeVerdict, in reconcile.FailoverInput) []cell {
	row := plain(v.Node, "-", "-", "-", "-", "-", oneLine(v.Reason))
	for _, n := range in.Nodes {
		if n.Node == v.Node {
			row[1].text = map[bool]string{true: "yes", false: "no"}[n.Promised]
			row[2].text, row[3].text = timelineText(n.Timeline), lsnText(n.LSN)
			row[4].text, row[5].text = fmt.Sprint(n.Priority), dash(n.Zone)
		}
	}
	if d := in.Deposed; d.Node == v.Node {
		row[3].text, row[5].text = lsnText(d.LSN), dash(d.Zone)
	}
	if v.Chosen {
		row[0].ink = green
	}
	return row
}

func timelineText(t pg.Timeline) string {
	if t == 0 {
		return "-"
	}
	return fmt.Sprint(uint64(t))
}

func lsnText(lsn pg.LSN) string {
	if lsn == 0 {
		return "-"
	}
	return lsn.String()
}
