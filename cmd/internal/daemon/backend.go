package daemon

import (
	"context"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/buildinfo"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// backend answers operators' requests for the life that is current.
type backend struct{ *Daemon }

func (b backend) now() (*life, error) {
	l := b.life.Load()
	if l == nil {
		return nil, errStarting
	}
	return l, nil
}

// raftStatus is the Raft group as this node sees it.
func (l *life) raftStatus() reconcile.RaftStatus {
	s := reconcile.RaftStatus{Voters: []string{}, HasQuorum: l.store.HasQuorum()}
	s.Leader, _, _ = l.store.Leader()
	for _, m := range l.store.Members() {
		if m.Voter {
			s.Voters = append(s.Voters, m.Name)
		}
	}
	return s
}

// Status is api.Backend's.
func (b backend) Status(context.Context) (reconcile.Status, error) {
	l, err := b.now()
	if err != nil {
		return reconcile.Status{}, err
	}
	return l.status(), nil
}

func (l *life) status() reconcile.Status {
	rec, obs, raft := l.machine.Record(), l.leader.Observed(), l.raftStatus()
	if !l.leader.Leads() {
		obs = l.ownObserved()
	}
	var plan reconcile.Plan
	if rec.Spec != nil && raft.HasQuorum {
		plan = reconcile.Diff(rec.Spec, rec, obs)
	}
	s := reconcile.StatusOf(rec, obs, plan, raft)
	if !s.Raft.HasQuorum {
		s.Converged = false
		s.Warnings = append(s.Warnings, "no majority of the voters is up: what is shown is what this node knew last, and nothing can be changed")
	}
	return s
}

// ownObserved is what a ramd that does not lead knows: its own node.
func (l *life) ownObserved() reconcile.Observed {
	report := l.agent.Last()
	return reconcile.Observed{Nodes: map[string]reconcile.NodeView{
		report.Node: {Report: report, Reported: true, Reachable: true},
	}}
}

// Nodes is api.Backend's.
func (b backend) Nodes(context.Context) ([]api.NodeInfo, error) {
	l, err := b.now()
	if err != nil {
		return nil, err
	}
	rec, obs := l.machine.Record(), l.leader.Observed()
	voters := l.raftStatus().Voters
	var nodes []api.NodeInfo
	for _, line := range l.status().Nodes {
		info := api.NodeInfo{NodeStatus: line, Report: obs.Nodes[line.Name].Report, Voter: slices.Contains(voters, line.Name)}
		if rec.Spec != nil {
			n, _ := rec.Spec.Node(line.Name)
			info.ID, info.Priority, info.DataDir = n.ID, n.Priority, n.DataDir
		}
		m := rec.Members[line.Name]
		info.Incarnation, info.APIPort, info.RaftPort, info.Ramd = m.Incarnation, m.APIPort, m.RaftPort, info.Report.Ramd
		nodes = append(nodes, info)
	}
	return nodes, nil
}

// Observed is api.Backend's. The record goes out without its secrets.
func (b backend) Observed(context.Context) (api.ObservedFile, error) {
	l, err := b.now()
	if err != nil {
		return api.ObservedFile{}, err
	}
	rec := *l.machine.Record()
	rec.Secrets = reconcile.Secrets{}
	return api.ObservedFile{Format: api.ObservedFormat, Record: &rec, Observed: l.leader.Observed()}, nil
}

// Spec is api.Backend's.
func (b backend) Spec(context.Context) (api.SpecAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.SpecAnswer{}, err
	}
	want, source := l.wanted(nil)
	rec := l.machine.Record()
	return api.SpecAnswer{Revision: rec.Revision, Source: source, Spec: want, Waiting: rec.Waiting}, nil
}

// History is api.Backend's.
func (b backend) History(context.Context) ([]reconcile.Revision, error) {
	l, err := b.now()
	if err != nil {
		return nil, err
	}
	list := slices.Clone(l.machine.Record().History)
	for i := range list {
		list[i].Spec, list[i].Source = nil, ""
	}
	return list, nil
}

// Revision is api.Backend's.
func (b backend) Revision(_ context.Context, number uint64) (reconcile.Revision, error) {
	l, err := b.now()
	if err != nil {
		return reconcile.Revision{}, err
	}
	for _, r := range l.machine.Record().History {
		if r.Number == number {
			return r, nil
		}
	}
	return reconcile.Revision{}, api.Errorf(http.StatusNotFound, "there is no revision %d: see ramctrl history", number)
}

// defaultEvents is how many events come without a limit.
const defaultEvents = 200

// Events is api.Backend's. It waits for the first event after the given one when
// there is none yet.
func (b backend) Events(ctx context.Context, after uint64, limit int, wait time.Duration) (api.EventsAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.EventsAnswer{}, err
	}
	if limit <= 0 {
		limit = defaultEvents
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		changed := l.machine.Changed()
		rec := l.machine.Record()
		i, _ := slices.BinarySearchFunc(rec.Events, after+1, func(e reconcile.Event, seq uint64) int {
			return int(int64(e.Seq) - int64(seq))
		})
		events := rec.Events[i:]
		if after == 0 && len(events) > limit {
			events = events[len(events)-limit:]
		}
		events = events[:min(len(events), limit)]
		if len(events) > 0 || wait == 0 {
			answer := api.EventsAnswer{Events: append([]reconcile.Event{}, events...), Last: after}
			if len(events) > 0 {
				answer.Last = events[len(events)-1].Seq
			}
			return answer, nil
		}
		select {
		case <-ctx.Done():
			return api.EventsAnswer{Events: []reconcile.Event{}, Last: after}, nil
		case <-changed:
		}
	}
}

// Pause is api.Backend's.
func (b backend) Pause(ctx context.Context, paused bool, r api.PauseRequest) error {
	l, err := b.now()
	if err != nil {
		return err
	}
	err = l.ledger().Propose(ctx, reconcile.Command{
		At: time.Now().UTC(), By: r.By, Pause: &reconcile.SetPause{Paused: paused, Reason: r.Reason},
	})
	if err == nil {
		l.pushHold(ctx)
	}
	return err
}

// Credentials is api.Backend's.
func (b backend) Credentials(context.Context) (api.Credentials, error) {
	l, err := b.now()
	if err != nil {
		return api.Credentials{}, err
	}
	return api.Credentials{User: reconcile.SuperuserRole, Password: l.machine.Record().Secrets.Superuser}, nil
}

// Info is api.Backend's.
func (b backend) Info(context.Context) (api.Info, error) {
	l, err := b.now()
	if err != nil {
		return api.Info{}, err
	}
	info := api.Info{
		Node: l.start.node.Name, Cluster: l.start.spec.Name, Version: buildinfo.Version, PID: os.Getpid(),
		Started: b.started, DataDir: l.dataDir, Spec: l.opts.SpecPath, Watch: l.watch,
		Incarnation: l.store.Incarnation(), Phase: "member", Reason: l.reason.Load(), RaftState: "follower",
	}
	if !l.store.IsMember() {
		info.Phase = "joining"
	}
	if l.store.IsLeader() {
		info.RaftState = "leader"
	}
	info.Leader, _, _ = l.store.Leader()
	report := l.agent.Last()
	info.Report = &report
	return info, nil
}

// Stop is api.Backend's.
func (b backend) Stop(_ context.Context, r api.StopRequest) error {
	b.stop(r.Postgres)
	return nil
}

// Health is api.Backend's.
func (b backend) Health(context.Context) api.Health {
	h := api.Health{Node: b.start.node.Name, Role: reconcile.RoleUnknown, State: string(pg.ServerStopped)}
	l, err := b.now()
	if err != nil {
		return h
	}
	if b.start.node.Witness {
		h.Role = reconcile.RoleWitness
		return h
	}
	r := l.agent.Last()
	h.State, h.Running = string(r.Server.State), r.Server.State == pg.ServerRunning
	if h.Running {
		h.Role = reconcile.RolePrimary
		if r.Server.Recovery {
			h.Role = reconcile.RoleStandby
		}
	}
	return h
}
