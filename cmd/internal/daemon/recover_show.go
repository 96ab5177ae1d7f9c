package daemon

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ramhq/ram/raftstore"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// show tells the operator what this node knows, what may be lost, and what follows.
func (r *recovery) show(out io.Writer) {
	fmt.Fprintf(out, "Node %s of cluster %s, in %s.\n\nWhat it knows:\n", r.remains.Self.Name, r.remains.Cluster, r.dataDir)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"raft members", r.members()},
		{"raft log", r.age()},
		{"spec", specOf(r.record)},
		{"primary", primaryOf(r.record, r.remains.Self.Name)},
		{"commits", commitsOf(r.record)},
		{"latest event", latestEvent(r.record)},
	} {
		fmt.Fprintf(w, "  %s\t%s\n", line[0], line[1])
	}
	_ = w.Flush()
	fmt.Fprintln(out, "Nothing on this node can tell what happened after that.")
	section(out, "What may be lost:", r.losses())
	section(out, "What must never happen:", r.dangers())
	section(out, "What will be done:", r.effects())
}

func section(out io.Writer, title string, items []string) {
	fmt.Fprintf(out, "\n%s\n", title)
	for _, item := range items {
		fmt.Fprintf(out, "  - %s\n", strings.ReplaceAll(item, "\n", "\n    "))
	}
}

func (r *recovery) members() string {
	names := make([]string, 0, len(r.remains.Members))
	for _, m := range r.remains.Members {
		text := m.Name
		if !m.Voter {
			text += " (without a vote)"
		}
		if m.ID() == r.remains.Self.ID() {
			text += " (this node)"
		}
		names = append(names, text)
	}
	return strings.Join(names, ", ")
}

// age is how new the log is, by the clocks of the leader that wrote it and of this host.
func (r *recovery) age() string {
	text := fmt.Sprintf("to entry %d of Raft term %d", r.remains.Last, r.remains.LastTerm)
	if !r.remains.Written.IsZero() {
		text += fmt.Sprintf(", written %s, %s ago", r.remains.Written.Format(time.RFC3339), r.at.Sub(r.remains.Written).Round(time.Second))
	}
	if n := r.remains.Last - r.remains.Committed; n > 0 {
		text += fmt.Sprintf("; the last %d of them may not have been agreed on, and are kept", n)
	}
	return text
}

func specOf(rec *reconcile.Record) string {
	if rec.Spec == nil {
		return "none was applied yet"
	}
	return fmt.Sprintf("revision %d, nodes %s", rec.Revision, nodeNames(rec.Spec))
}

func primaryOf(rec *reconcile.Record, self string) string {
	switch {
	case rec.Opening != nil:
		return fmt.Sprintf("none: term %d is open, after %s", rec.Term, rec.Opening.Deposed)
	case rec.Primary == "":
		return "none yet"
	case rec.Primary == self:
		return fmt.Sprintf("this node, of term %d", rec.Term)
	}
	return fmt.Sprintf("%s, of term %d", rec.Primary, rec.Term)
}

// commitsOf says what an acknowledged write was promised.
func commitsOf(rec *reconcile.Record) string {
	var sets []string
	for _, s := range rec.Sync.Sets() {
		if s.K > 0 {
			sets = append(sets, fmt.Sprintf("%d of %s", s.K, strings.Join(s.Members, ", ")))
		}
	}
	if len(sets) == 0 {
		return "wait for no standby"
	}
	return "wait for " + strings.Join(sets, " and ")
}

func latestEvent(rec *reconcile.Record) string {
	if len(rec.Events) == 0 {
		return "none"
	}
	e := rec.Events[len(rec.Events)-1]
	return fmt.Sprintf("%s: %s", e.At.Format(time.RFC3339), e.Message)
}

// losses are what the new group may lack, as plainly as it can be said.
func (r *recovery) losses() []string {
	list := []string{"Whatever only the lost nodes agreed on after the log's end: applied specs, pauses, members,\nand which node is the primary."}
	rec, self := r.record, r.remains.Self.Name
	switch {
	case rec.SystemID == 0:
		return append(list, "No data of PostgreSQL: none were set up as far as this node knows.")
	case r.witness():
		list = append(list, "All data of PostgreSQL, unless a node that has some comes back: this node is a witness and holds none.")
	case rec.Primary == self:
		list = append(list, "Acknowledged writes, if the lost nodes made another one the primary of a later term: this node\nwould not know of it, and it stays the primary with the data that it has.")
	default:
		last := rec.Primary
		if rec.Opening != nil {
			last = rec.Opening.Deposed
		}
		list = append(list, fmt.Sprintf("Acknowledged writes that were on %s, or on a primary of a later term that this node does not know of,\nand not on this one: nothing here shows whether there are any.", cmp.Or(last, "the primary")))
	}
	return list
}

func (r *recovery) witness() bool {
	if r.record.Spec == nil {
		return false
	}
	n, ok := r.record.Spec.Node(r.remains.Self.Name)
	return ok && n.Witness
}

func (r *recovery) dangers() []string {
	lost := namesOf(r.remains.Others())
	return []string{
		fmt.Sprintf("%s started again with the raft directory of before. A majority of the old members is the old cluster, which\ngoes on with a primary of its own: two clusters that accept writes. Nothing on this node can prevent that.", lost),
		"Only when raft and identity.json were moved out of its data directory may one of them run again; it joins as a new\nmember then, and its PostgreSQL is rewound or copied anew.",
	}
}

func namesOf(members []raftstore.Member) string {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Name
	}
	if len(names) == 0 {
		return "Another node"
	}
	return strings.Join(names, " or ")
}

func (r *recovery) effects() []string {
	list := []string{
		"This node becomes a new member and the only voter, with a new cluster ID and a new peer token: members of the\nold group can neither vote here, nor confirm a lease, nor send anything that is believed.",
		fmt.Sprintf("The old Raft directory is kept as %s.lost-N; the spec stays as it is.", r.dataDir+"/raft"),
	}
	return append(list, r.primaryship())
}

// primaryship is what becomes of it.
func (r *recovery) primaryship() string {
	rec := r.record
	switch {
	case rec.SystemID == 0:
		return "There is no primary to be replaced."
	case rec.Pause != nil:
		return "The cluster stays paused: after ramctrl resume it looks for a primary."
	case !opens(rec, r.remains.Self.Name):
		return "This node stays the primary."
	case r.acceptLoss:
		return "A term without a primary is opened, and this node may become its primary, whatever it lacks (--accept-data-loss),\nonce the lease of the old one has ended."
	case rec.Spec != nil && rec.Spec.Replication.Mode == spec.ModeQuorum:
		return "A term without a primary is opened. This node becomes the primary when enough others have promised, so that no\nacknowledged write is lost; when they never will: ramctrl failover --accept-data-loss."
	}
	return "A term without a primary is opened. This node becomes the primary when max_lag allows it; when it does not:\nramctrl failover --accept-data-loss."
}

// recovered is a recovery that was carried out.
type recovered struct {
	*recovery
	id                       string
	raftAside, identityAside string
}

func (r recovered) show(out io.Writer) {
	fmt.Fprintf(out, "\nNode %s is the only voter of cluster %s now, as the new member %s.\nKept: %s\n      %s\n",
		r.self.Name, r.remains.Cluster, r.id, r.raftAside, r.identityAside)
	section(out, "Next:", []string{
		"ramd start, as always; ramctrl status says what is still missing.",
		"On each other host that is there: empty ramd's data directory (or, to keep PostgreSQL's data, move raft and\nidentity.json out of it), and ramd start.",
		"Without those that never come back: take them out of the spec, and ramctrl apply --allow-destroy.",
	})
}
