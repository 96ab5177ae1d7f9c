package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// Status is the state of a cluster as operators and their scripts read it. Its
// JSON form is part of the operator contract.
type Status struct {
	Cluster   string       `json:"cluster"`
	Revision  uint64       `json:"revision"`
	Converged bool         `json:"converged"`
	Paused    bool         `json:"paused"`
	Raft      RaftStatus   `json:"raft"`
	Primary   string       `json:"primary"`
	Term      uint64       `json:"term"`
	Timeline  pg.Timeline  `json:"timeline"`
	Nodes     []NodeStatus `json:"nodes"`

	// Planned is the switchover that is to begin at a time; nil when none is.
	Planned *PlannedSwitchover `json:"planned_switchover,omitempty"`
	// Opening is the term that is open; nil while there is a primary, or none yet.
	Opening *OpeningStatus `json:"opening,omitempty"`
	// Backups is nil when the spec has no repository.
	Backups *BackupStatus `json:"backups,omitempty"`
	// Run is the ID of the run that is under way, zero for none.
	Run uint64 `json:"run,omitempty"`
	// Blocked, Drift and Watch say why the cluster does not converge, what was
	// changed by hand, and what the file watch is waiting for.
	Blocked []Blocked `json:"blocked,omitempty"`
	Drift   []Change  `json:"drift,omitempty"`
	Watch   []string  `json:"watch,omitempty"`
	// Warnings are what an operator should know.
	Warnings []string `json:"warnings,omitempty"`
}

// RaftStatus is the Raft group as its leader sees it.
type RaftStatus struct {
	Leader    string   `json:"leader"`
	Voters    []string `json:"voters"`
	HasQuorum bool     `json:"has_quorum"`
}

// NodeState is what a node's PostgreSQL is doing.
type NodeState string

const (
	NodeAbsent      NodeState = "absent"
	NodeStarting    NodeState = "starting"
	NodeRunning     NodeState = "running"
	NodeStopped     NodeState = "stopped"
	NodeCloning     NodeState = "cloning"
	NodeRewinding   NodeState = "rewinding"
	NodeFenced      NodeState = "fenced"
	NodeUnreachable NodeState = "unreachable"
)

// NodeStatus is one node's line.
type NodeStatus struct {
	Name     string      `json:"name"`
	Role     Role        `json:"role"`
	State    NodeState   `json:"state"`
	Host     string      `json:"host"`
	Port     int         `json:"port"`
	Timeline pg.Timeline `json:"timeline"`
	// LSN is text, so that an unknown one is the empty string.
	LSN      string `json:"lsn"`
	LagBytes int64  `json:"lag_bytes"`
	Sync     string `json:"sync"`
	Healthy  bool   `json:"healthy"`
	// PendingRestart is set while a setting waits for a restart.
	PendingRestart bool `json:"pending_restart"`
	// LastSeen is the time since the last report, in milliseconds; -1 before the first.
	LastSeen int64             `json:"last_seen_ms"`
	Reason   string            `json:"reason"`
	Zone     string            `json:"zone,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
	// Activity is something long that is under way.
	Activity *Activity `json:"activity,omitempty"`
}

// StatusOf describes the cluster from the record, what was observed and the plan
// that Diff makes of them. Before the first spec is accepted, nodes are the
// members.
func StatusOf(rec *Record, obs Observed, plan Plan, raft RaftStatus) Status {
	s := Status{
		Cluster: rec.Cluster, Revision: rec.Revision, Paused: rec.Pause != nil, Raft: raft,
		Primary: rec.Primary, Term: rec.Term, Nodes: []NodeStatus{}, Blocked: plan.Blocked, Planned: rec.Planned,
	}
	if rec.Run != nil {
		s.Run = rec.Run.ID
	}
	for _, c := range plan.Changes {
		if c.Drift {
			s.Drift = append(s.Drift, c)
		}
	}
	primary := obs.Nodes[rec.Primary].Report.Server
	s.Timeline = obs.Nodes[rec.Primary].Report.Server.Timeline
	healthy := true
	for _, n := range statusNodes(rec) {
		line := nodeStatus(n, rec, obs.Nodes[n.Name], primary)
		healthy = healthy && line.Healthy
		if w := obs.Nodes[n.Name].Report.Watch; w != "" {
			s.Watch = append(s.Watch, fmt.Sprintf("node %s: %s", n.Name, w))
		}
		s.Nodes = append(s.Nodes, line)
	}
	s.Opening = openingStatus(rec, obs, raft)
	s.Backups = backupStatus(rec, obs)
	s.Warnings = append(statusWarnings(rec, obs, raft), backupWarnings(rec, obs)...)
	s.Converged = rec.Revision > 0 && rec.Opening == nil && plan.Empty() && len(plan.Blocked) == 0 && healthy
	if rec.Waiting != nil {
		s.Watch = append(s.Watch, "a changed spec waits for ramctrl apply --allow-destroy: "+rec.Waiting.Reason)
	}
	return s
}

// statusNodes are the nodes of the spec by ID, then members that it does not have.
func statusNodes(rec *Record) []spec.Node {
	var nodes []spec.Node
	if rec.Spec != nil {
		nodes = byID(rec.Spec.Nodes)
	}
	var names []string
	for name := range rec.Members {
		if !slices.ContainsFunc(nodes, func(n spec.Node) bool { return n.Name == name }) {
			names = append(names, name)
		}
	}
	for _, name := range sorted(names) {
		nodes = append(nodes, spec.Node{Name: name, Host: rec.Members[name].Host})
	}
	return nodes
}

func nodeStatus(n spec.Node, rec *Record, v NodeView, primary pg.Server) NodeStatus {
	r := v.Report
	line := NodeStatus{
		Name: n.Name, Role: RoleUnknown, State: nodeState(v, rec.Assignments[n.Name]), Host: n.Host, Port: n.Ports.Postgres,
		Zone: n.Zone, Tags: n.Tags, Activity: r.Activity, LastSeen: -1,
	}
	if v.Reported {
		line.LastSeen = int64(v.Silent / time.Millisecond)
	}
	if _, member := rec.Members[n.Name]; !member {
		line.State = NodeAbsent
		line.Reason = "not a member yet: run ramd start --node " + n.Name + " on its host"
		return line
	}
	if n.Witness {
		line.Role = RoleWitness
		line.Healthy = v.Reachable
		line.Reason = reasonOf(v)
		return line
	}
	if v.Running() {
		line.Role = RoleStandby
		if !r.Server.Recovery {
			line.Role = RolePrimary
		}
		line.Timeline = r.Server.Timeline
		line.PendingRestart = len(r.Server.PendingRestart) > 0
	}
	if r.Server.LSN != 0 && r.Server.State == pg.ServerRunning {
		line.LSN = r.Server.LSN.String()
		line.LagBytes = int64(lag(n.Name, r.Server, primary))
	}
	issued := rec.Assignments[n.Name]
	if line.Role == RoleStandby {
		line.Sync = "async"
		if set := rec.Sync.Current; set.K > 0 && slices.Contains(set.Members, n.Name) {
			line.Sync = "quorum"
		}
	}
	line.Reason = reasonOf(v)
	if line.State == NodeFenced && line.Reason == "" {
		line.Reason = fmt.Sprintf("it was the primary before term %d, and waits for one to follow", issued.Term)
	}
	switch line.Role {
	case RolePrimary:
		line.Healthy = issued.Role == RolePrimary
	case RoleStandby:
		line.Healthy = issued.Role == RoleStandby && v.StreamingFrom(issued.Upstream)
		if !line.Healthy && line.Reason == "" && issued.Upstream != nil {
			line.Reason = "does not stream from " + issued.Upstream.Node
		}
	}
	return line
}

func reasonOf(v NodeView) string {
	switch {
	case !v.Reported:
		return "its ramd has not reported yet"
	case !v.Reachable:
		return "its ramd does not answer"
	case v.Report.Problem != nil:
		return v.Report.Problem.Text
	}
	return ""
}

func nodeState(v NodeView, issued Assignment) NodeState {
	if !v.Reachable {
		return NodeUnreachable
	}
	if a := v.Report.Activity; a != nil {
		switch a.Step {
		case StepClone, StepRestore:
			return NodeCloning
		case StepRewind:
			return NodeRewinding
		}
	}
	switch v.Report.Server.State {
	case pg.ServerRunning:
		return NodeRunning
	case pg.ServerStarting, pg.ServerHung:
		return NodeStarting
	}
	if v.Report.Data.State != pg.DirCluster {
		return NodeAbsent
	}
	if issued.Frozen() && v.Report.Data.WasPrimary() {
		return NodeFenced
	}
	return NodeStopped
}

// lag is how far a server trails the primary. The primary's own view of its
// followers is of one moment; two nodes' reports are not.
func lag(node string, s, primary pg.Server) pg.Bytes {
	for _, sender := range primary.Senders {
		if sender.Application == pg.ApplicationName(node) && sender.FlushLSN != 0 {
			return sender.FlushLSN.Behind(primary.LSN)
		}
	}
	return s.LSN.Behind(primary.LSN)
}
