package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Preflight writes what a failover or a switchover would come to.
func Preflight(w io.Writer, p reconcile.Preflighted, style Style) error {
	var out strings.Builder
	preflightHeading(&out, p, style)
	if len(p.Nodes) > 0 {
		if err := preflightNodes(&out, p, style); err != nil {
			return err
		}
	}
	if p.Clients != "" {
		fmt.Fprintf(&out, "\nClients: %s.\n", oneLine(p.Clients))
	}
	if p.Loss != nil {
		fmt.Fprintf(&out, "\n%s\n  ! %s\n", style.Bad("ACKNOWLEDGED WRITES MAY BE LOST:"), oneLine(p.Loss.Text))
	} else if !p.Refused() {
		fmt.Fprintf(&out, "%s\n", style.Good("No acknowledged write is lost."))
	}
	attention(&out, style.Notice("Warnings:"), p.Warnings)
	attention(&out, style.Bad("Refused:"), p.Refusals)
	_, err := io.WriteString(w, out.String())
	return err
}

func preflightHeading(out *strings.Builder, p reconcile.Preflighted, style Style) {
	name := map[reconcile.OpenReason]string{reconcile.OpenFailover: "Failover", reconcile.OpenSwitchover: "Switchover"}[p.Cause]
	what := fmt.Sprintf("primary %s", dash(p.Primary))
	if p.Open {
		what = fmt.Sprintf("no primary, term %d is open; it was %s", p.Term, p.Primary)
	}
	if p.To != "" && !p.Refused() {
		what += " -> " + p.To
	}
	if !p.At.IsZero() {
		what = fmt.Sprintf("to begin at %s; as it is now: %s", style.Moment(p.At), what)
	}
	fmt.Fprintf(out, "%s: %s\n", style.Bold(name), what)
}

func preflightNodes(out *strings.Builder, p reconcile.Preflighted, style Style) error {
	out.WriteString("\n")
	t := table{style: style, indent: "  ", head: []string{"NODE", "LSN", "LAG", "NOTE"}, right: map[int]bool{2: true}}
	for _, n := range p.Nodes {
		lsn, lag := "-", "-"
		if n.LSN != 0 {
			lsn, lag = n.LSN.String(), pg.Bytes(n.Lag).Human()
		}
		row := plain(n.Node, lsn, lag, oneLine(n.Note))
		if n.Chosen {
			row[0].ink = green
		}
		t.add(row)
	}
	return t.writeTo(out)
}
