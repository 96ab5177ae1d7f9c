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
	"github.com/ramhq/ram/spec"
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

// wanted is the spec that a request is about.
func (l *life) wanted(given *spec.Cluster) (want *spec.Cluster, source string) {
	rec := l.machine.Record()
	switch {
	case given != nil:
		return given, ""
	case rec.Spec != nil:
		return rec.Spec, rec.History[len(rec.History)-1].Source
	}
	return l.start.spec, l.start.loaded.Text()
}

// Plan is api.Backend's.
func (b backend) Plan(_ context.Context, r api.PlanRequest) (api.PlanAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.PlanAnswer{}, err
	}
	if err := check(r.Spec); err != nil {
		return api.PlanAnswer{}, err
	}
	want, _ := l.wanted(r.Spec)
	return api.PlanAnswer{Plan: l.leader.Plan(want), Spec: want}, nil
}

// check is the last word on a spec that came over the network.
func check(c *spec.Cluster) error {
	if c == nil {
		return nil
	}
	for _, p := range c.Validate() {
		if p.Severity == spec.SeverityError {
			return api.Errorf(http.StatusBadRequest, "the spec is not valid: %s: %s", p.Path, p.Summary)
		}
	}
	return nil
}

// Apply is api.Backend's.
func (b backend) Apply(ctx context.Context, r api.ApplyRequest) (api.ApplyAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.ApplyAnswer{}, err
	}
	if err := check(r.Spec); err != nil {
		return api.ApplyAnswer{}, err
	}
	return l.apply(ctx, r)
}

// apply plans again and accepts the spec when the plan is still the one that was
// shown and destroys nothing that it may not.
func (l *life) apply(ctx context.Context, r api.ApplyRequest) (api.ApplyAnswer, error) {
	want, source := l.wanted(r.Spec)
	if r.Source == "" {
		r.Source = source
	}
	if r.Cause == "" {
		r.Cause = reconcile.CauseApply
	}
	plan := l.leader.Plan(want)
	answer := api.ApplyAnswer{Revision: plan.Revision, Plan: plan}
	rec := l.machine.Record()
	if rec.Pause != nil {
		return answer, api.Errorf(http.StatusConflict, "the cluster is paused by %s: ramctrl resume first", rec.Pause.By)
	}
	if plan.Refused() {
		return answer, api.Errorf(http.StatusConflict, "%s", plan.Blocked[0].Reason)
	}
	if r.Base != nil && *r.Base != plan.Base {
		return answer, api.Errorf(http.StatusConflict, "the plan is stale: it was made for revision %d, in force is revision %d, or a node has changed since; plan again", r.Base.Revision, plan.Base.Revision)
	}
	if plan.Summary.Destructive && !r.AllowDestroy {
		return answer, api.Errorf(http.StatusConflict, "the plan destroys %s: repeat with --allow-destroy if that is meant", destroyed(plan))
	}
	if plan.Empty() {
		return answer, nil
	}
	cmd := reconcile.Command{At: time.Now().UTC(), By: r.By, Accept: &reconcile.Accept{
		Spec: want, Source: r.Source, Message: r.Message, Base: plan.Base.Revision, Cause: r.Cause,
		Steps: reconcile.RunSteps(plan),
	}}
	after, err := l.ledger().propose(ctx, cmd)
	if err != nil {
		return answer, err
	}
	answer.Revision = after.Revision
	if len(plan.Steps) > 0 && after.Run != nil {
		answer.Run = after.Run.ID
	}
	return answer, nil
}

func destroyed(p reconcile.Plan) string {
	for _, s := range p.Steps {
		if s.Destroys != "" {
			return s.Destroys
		}
	}
	return "something"
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

// Runs is api.Backend's, newest last.
func (b backend) Runs(context.Context) ([]reconcile.Run, error) {
	l, err := b.now()
	if err != nil {
		return nil, err
	}
	rec := l.machine.Record()
	runs := append([]reconcile.Run{}, rec.Runs...)
	if rec.Run != nil {
		runs = append(runs, *rec.Run)
	}
	return runs, nil
}

// Run is api.Backend's.
func (b backend) Run(_ context.Context, id uint64) (api.RunAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.RunAnswer{}, err
	}
	rec := l.machine.Record()
	if rec.Run != nil && rec.Run.ID == id {
		return l.liveRun(*rec.Run, time.Now()), nil
	}
	for _, r := range rec.Runs {
		if r.ID == id {
			answer := api.RunAnswer{Run: r, Elapsed: r.Finished.Sub(r.Started), StepElapsed: stepTimes(r, r.Finished)}
			if id == rec.LastRun && rec.Spec != nil {
				// It left no step, but perhaps something that no step can change.
				answer.Blocked = l.leader.Plan(rec.Spec).Blocked
			}
			return answer, nil
		}
	}
	return api.RunAnswer{}, api.Errorf(http.StatusNotFound, "there is no run %d, or it is too long ago", id)
}

func (l *life) liveRun(run reconcile.Run, now time.Time) api.RunAnswer {
	rec, obs := l.machine.Record(), l.leader.Observed()
	plan := reconcile.Diff(rec.Spec, rec, obs)
	if !l.leader.Informed() {
		plan.Blocked = nil // a new leader has not heard of the nodes yet
	}
	answer := api.RunAnswer{
		Run: run, Elapsed: now.Sub(run.Started), StepElapsed: stepTimes(run, now),
		Activities: map[string]reconcile.Activity{}, Problems: map[string]reconcile.Problem{}, Waits: map[string]string{},
		Blocked: plan.Blocked,
	}
	for name, v := range obs.Nodes {
		if v.Report.Activity != nil {
			answer.Activities[name] = *v.Report.Activity
		}
		if v.Report.Problem != nil {
			answer.Problems[name] = *v.Report.Problem
		}
	}
	for _, s := range plan.Steps {
		if s.Waits != "" {
			answer.Waits[s.ID] = s.Waits
		}
	}
	return answer
}

func stepTimes(run reconcile.Run, now time.Time) []time.Duration {
	times := make([]time.Duration, len(run.Steps))
	for i, s := range run.Steps {
		switch {
		case s.Started.IsZero():
		case s.Finished.IsZero():
			times[i] = now.Sub(s.Started)
		default:
			times[i] = s.Finished.Sub(s.Started)
		}
	}
	return times
}

// Ask is api.Backend's.
func (b backend) Ask(ctx context.Context, cause reconcile.Cause, r api.NodesRequest) (api.RunStarted, error) {
	l, err := b.now()
	if err != nil {
		return api.RunStarted{}, err
	}
	rec := l.machine.Record()
	if rec.Spec == nil {
		return api.RunStarted{}, api.Errorf(http.StatusConflict, "no spec has been applied yet: ramctrl apply")
	}
	if rec.Pause != nil {
		return api.RunStarted{}, api.Errorf(http.StatusConflict, "the cluster is paused by %s: ramctrl resume first", rec.Pause.By)
	}
	nodes, err := askedNodes(rec, cause, r.Nodes)
	if err != nil {
		return api.RunStarted{}, err
	}
	after, err := l.ledger().propose(ctx, reconcile.Command{
		At: time.Now().UTC(), By: r.By, Ask: &reconcile.Ask{Cause: cause, Nodes: nodes},
	})
	if err != nil {
		return api.RunStarted{}, err
	}
	return api.RunStarted{Run: after.LastRun}, nil
}

// askedNodes are the nodes with data that a request names, or all of them.
func askedNodes(rec *reconcile.Record, cause reconcile.Cause, names []string) ([]string, error) {
	if len(names) == 0 && cause == reconcile.CauseReinit {
		return nil, api.Errorf(http.StatusBadRequest, "reinit needs the name of a node")
	}
	if len(names) == 0 {
		for _, n := range rec.Spec.Nodes {
			if !n.Witness {
				names = append(names, n.Name)
			}
		}
		return names, nil
	}
	for _, name := range names {
		n, ok := rec.Spec.Node(name)
		switch {
		case !ok:
			return nil, api.Errorf(http.StatusNotFound, "the spec has no node %q; it has %s", name, nodeNames(rec.Spec))
		case n.Witness:
			return nil, api.Errorf(http.StatusConflict, "node %s is a witness and has no PostgreSQL", name)
		case cause == reconcile.CauseReinit && name == rec.Primary:
			return nil, api.Errorf(http.StatusConflict, "node %s is the primary and has the only copy that counts: it cannot be reinitialised", name)
		}
	}
	return names, nil
}

// Pause is api.Backend's.
func (b backend) Pause(ctx context.Context, paused bool, r api.PauseRequest) error {
	l, err := b.now()
	if err != nil {
		return err
	}
	return l.ledger().Propose(ctx, reconcile.Command{
		At: time.Now().UTC(), By: r.By, Pause: &reconcile.SetPause{Paused: paused, Reason: r.Reason},
	})
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
