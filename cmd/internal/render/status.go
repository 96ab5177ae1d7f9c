package render

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Status writes the state of a cluster: a heading, a line for each node, and
// below them whatever asks for attention.
func Status(w io.Writer, s reconcile.Status, style Style) error {
	var out strings.Builder
	statusHeading(&out, s, style)
	if err := statusNodes(&out, s, style); err != nil {
		return err
	}
	statusBackups(&out, s.Backups, style)
	statusAttention(&out, s, style)
	_, err := io.WriteString(w, out.String())
	return err
}

func statusHeading(out *strings.Builder, s reconcile.Status, style Style) {
	fmt.Fprintf(out, "Cluster %s  %s\n", style.Bold(s.Cluster), statusVerdict(s, style))
	primary := "none"
	switch {
	case s.Primary != "":
		primary = fmt.Sprintf("%s (term %d)", s.Primary, s.Term)
		if s.Timeline > 0 {
			primary = fmt.Sprintf("%s (term %d, timeline %d)", s.Primary, s.Term, s.Timeline)
		}
	case s.Opening != nil:
		primary = style.Bad("NONE") + fmt.Sprintf(" (term %d is open)", s.Term)
	}
	leader := s.Raft.Leader
	if leader == "" {
		leader = "none"
	}
	quorum := "quorum"
	if !s.Raft.HasQuorum {
		quorum = style.Bad("NO QUORUM")
	}
	fmt.Fprintf(out, "  primary %s   raft leader %s, %s, %s   revision %d\n\n",
		primary, leader, count(len(s.Raft.Voters), "voter"), quorum, s.Revision)
	statusOpening(out, s, style)
}

func statusVerdict(s reconcile.Status, style Style) string {
	switch {
	case s.Paused && s.Opening != nil:
		return style.Bad("NO PRIMARY, and paused: the cluster decides nothing until ramctrl resume")
	case s.Opening != nil:
		return style.Bad("NO PRIMARY: writes stop until term " + strconv.FormatUint(s.Term, 10) + " has one")
	case s.Paused:
		return style.Notice("paused: the cluster decides nothing until ramctrl resume")
	case s.Converged:
		return style.Good("converged")
	case s.Revision == 0:
		return style.Notice("no spec applied yet: see ramctrl plan")
	case s.Run != 0:
		return style.Notice(fmt.Sprintf("run %d under way", s.Run))
	}
	return style.Bad("not converged: see ramctrl plan")
}

func statusNodes(out *strings.Builder, s reconcile.Status, style Style) error {
	t := table{
		style: style, indent: "  ",
		head:  []string{"NODE", "ROLE", "STATE", "ADDRESS", "TL", "LSN", "LAG", "SYNC", "SEEN", "NOTE"},
		right: map[int]bool{4: true, 6: true, 8: true},
	}
	for _, n := range s.Nodes {
		t.add(statusRow(n))
	}
	return t.writeTo(out)
}

func statusRow(n reconcile.NodeStatus) []cell {
	state := cell{text: string(n.State), ink: red}
	switch {
	case n.Healthy && n.Role == reconcile.RoleWitness:
		state = cell{text: "voting", ink: green}
	case n.Healthy:
		state.ink = green
	case n.State == reconcile.NodeStarting, n.State == reconcile.NodeCloning, n.State == reconcile.NodeRewinding:
		state.ink = yellow
	}
	row := plain(n.Name, string(n.Role), "", address(n.Host, n.Port), "-", dash(n.LSN), "-", dash(n.Sync), seen(n.LastSeen), note(n))
	row[2] = state
	if n.Role == reconcile.RolePrimary {
		row[1].ink = bold
	}
	if n.Timeline != 0 {
		row[4].text = strconv.FormatUint(uint64(n.Timeline), 10)
	}
	if n.Role == reconcile.RoleStandby {
		row[6].text = pg.Bytes(n.LagBytes).Human()
	}
	return row
}

func address(host string, port int) string {
	if port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(port)
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func seen(ms int64) string {
	if ms < 0 {
		return "never"
	}
	return Elapsed(time.Duration(ms) * time.Millisecond)
}

func note(n reconcile.NodeStatus) string {
	var notes []string
	if n.Activity != nil {
		notes = append(notes, Activity(*n.Activity, ""))
	}
	if n.PendingRestart {
		notes = append(notes, "settings wait for a restart")
	}
	if n.Reason != "" {
		notes = append(notes, oneLine(n.Reason))
	}
	return strings.Join(notes, "; ")
}

// statusAttention lists what keeps the cluster from being as the spec says,
// apart from what the nodes' lines have said.
func statusAttention(out *strings.Builder, s reconcile.Status, style Style) {
	var told []string
	for _, n := range s.Nodes {
		told = append(told, n.Reason, fmt.Sprintf("node %s: %s", n.Name, n.Reason))
	}
	var blocked []string
	for _, b := range s.Blocked {
		if !slices.Contains(told, b.Reason) {
			blocked = append(blocked, b.Reason)
		}
	}
	var drift []string
	for _, c := range s.Drift {
		for _, a := range c.Attributes {
			drift = append(drift, fmt.Sprintf("%s: %s is %s, the spec says %s", c.Object, a.Name, driftSide(a.Old), driftSide(a.New)))
		}
	}
	attention(out, style.Bad("Cannot be done now:"), blocked)
	attention(out, style.Notice("Changed by hand, to be put right:"), drift)
	attention(out, style.Notice("Watched file:"), s.Watch)
	attention(out, style.Notice("Warnings:"), s.Warnings)
}

func driftSide(v string) string {
	if v == "" {
		return "not set"
	}
	return value(v)
}

func attention(out *strings.Builder, head string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n", head)
	for _, line := range lines {
		fmt.Fprintf(out, "  ! %s\n", oneLine(line))
	}
}
