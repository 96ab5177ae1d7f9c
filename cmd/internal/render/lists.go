package render

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/reconcile"
)

// Nodes writes what the nodes are.
func Nodes(w io.Writer, nodes []api.NodeInfo, style Style) error {
	t := table{
		style: style,
		head:  []string{"NODE", "ID", "ROLE", "HOST", "POSTGRES", "API", "RAFT", "VOTES", "PRIORITY", "ZONE", "RAMD", "DATA"},
		right: map[int]bool{1: true, 4: true, 5: true, 6: true, 8: true},
	}
	for _, n := range nodes {
		t.add(nodeRow(n))
	}
	return t.writeTo(w)
}

func nodeRow(n api.NodeInfo) []cell {
	votes, priority, port := "no", strconv.Itoa(n.Priority), number(n.Port)
	if n.Voter {
		votes = "yes"
	}
	if n.Role == reconcile.RoleWitness {
		priority, port = "-", "-"
	}
	return plain(n.Name, number(n.ID), string(n.Role), n.Host, port, number(n.APIPort), number(n.RaftPort),
		votes, priority, dash(n.Zone), dash(n.Ramd), dash(n.DataDir))
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// History writes accepted revisions, oldest first.
func History(w io.Writer, revisions []reconcile.Revision, style Style) error {
	t := table{style: style, head: []string{"REV", "ACCEPTED", "BY", "DIGEST", "MESSAGE"}, right: map[int]bool{0: true}}
	for _, r := range revisions {
		t.add(plain(strconv.FormatUint(r.Number, 10), style.stamp(r.At), dash(oneLine(r.By)), shortDigest(r.Digest), oneLine(r.Message)))
	}
	return t.writeTo(w)
}

func shortDigest(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(len(hex), 12)]
}

// Events writes events, a line each, in the order in which they come.
func Events(w io.Writer, events []reconcile.Event, style Style) error {
	var out strings.Builder
	for _, e := range events {
		event(&out, e, style)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func event(out *strings.Builder, e reconcile.Event, style Style) {
	message := oneLine(e.Message)
	switch e.Severity {
	case reconcile.Warning:
		message = style.Notice("warning: " + message)
	case reconcile.Failure:
		message = style.Bad("error: " + message)
	}
	node := "-"
	if e.Node != "" {
		node = e.Node
	}
	reason := ""
	if e.Reason != "" {
		reason = style.Faint("  # " + oneLine(e.Reason))
	}
	fmt.Fprintf(out, "%s  %-9s  %-8s  %s%s\n", style.stamp(e.At), e.Kind, node, message, reason)
}
