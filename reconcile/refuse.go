package reconcile

import (
	"fmt"

	"github.com/ramhq/ram/spec"
)

// Refuse is what a spec asks of this cluster that ram cannot do. A spec that is
// refused is not accepted, whatever else it holds. The reasons are in the order
// of the spec.
func Refuse(rec *Record, want *spec.Cluster) []Blocked {
	var refused []Blocked
	no := func(node, format string, args ...any) {
		refused = append(refused, Blocked{Node: node, Refused: true, Reason: fmt.Sprintf(format, args...)})
	}
	if rec.Formed() && want.Name != rec.Cluster {
		no("", "the spec is for cluster %q, this one is %q: check --addr, or the name in the spec", want.Name, rec.Cluster)
		return refused
	}
	if before := rec.Spec; before != nil {
		if before.Postgres.Version != want.Postgres.Version && rec.SystemID != 0 {
			no("", "postgres.version cannot change from %d to %d: this version of ram does no major upgrades; keep %d", before.Postgres.Version, want.Postgres.Version, before.Postgres.Version)
		}
		if before.Postgres.User != want.Postgres.User && rec.SystemID != 0 {
			no("", "postgres.user cannot change from %q to %q while there is data that belongs to %[1]q", before.Postgres.User, want.Postgres.User)
		}
	}
	if primary, there := want.Node(rec.Primary); rec.Primary != "" && !there {
		no(rec.Primary, "node %s is the primary and cannot leave: make another node the primary first (ramctrl switchover)", rec.Primary)
	} else if rec.Primary != "" && primary.Witness {
		no(rec.Primary, "node %s is the primary and cannot become a witness", rec.Primary)
	}
	if short := shortOfStandbys(rec, want); short != "" {
		no("", "%s", short)
	}
	before := map[string]spec.Node{}
	if rec.Spec != nil {
		for _, n := range rec.Spec.Nodes {
			before[n.Name] = n
		}
	}
	for _, n := range byID(want.Nodes) {
		was, had := before[n.Name]
		for _, reason := range refuseNode(rec, was, had, n) {
			no(n.Name, "%s", reason)
		}
	}
	return refused
}

// shortOfStandbys is why a sync set can never be in force. Only standbys that can
// become primary are in it: what only others have would be lost with the primary.
func shortOfStandbys(rec *Record, want *spec.Cluster) string {
	k := want.Replication.SyncStandbys
	if want.Replication.Mode != spec.ModeQuorum || k == 0 {
		return ""
	}
	possible := 0
	primary := firstPrimary(rec, want)
	for _, n := range want.Nodes {
		if n.Electable() && n.Name != primary.Name {
			possible++
		}
	}
	if k <= possible {
		return ""
	}
	return fmt.Sprintf("replication.sync_standbys is %d, and %d standbys can become primary (those of priority 0 do not count): lower it, raise a priority, or add nodes", k, possible)
}

// refuseNode compares a node with what it was, which is nothing unless had is set.
func refuseNode(rec *Record, before spec.Node, had bool, n spec.Node) []string {
	var reasons []string
	const again = "remove the node, apply, then add it again"
	if m, member := rec.Members[n.Name]; member {
		if m.Host != n.Host || m.APIPort != n.Ports.API || m.RaftPort != n.Ports.Raft {
			reasons = append(reasons, fmt.Sprintf("host, ports.api and ports.raft of member %s cannot change in place: %s", n.Name, again))
		}
	}
	if !had || rec.Assignments[n.Name].Role == "" {
		return reasons
	}
	if before.DataDir != n.DataDir {
		reasons = append(reasons, fmt.Sprintf("data_dir of node %s cannot change in place: %s", n.Name, again))
	}
	if n.Witness && !before.Witness {
		reasons = append(reasons, fmt.Sprintf("node %s holds data and cannot become a witness: %s", n.Name, again))
	}
	return reasons
}
