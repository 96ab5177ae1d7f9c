package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// final is what the node is to be assigned when all is done, without serials.
func (d *differ) final(n spec.Node) Assignment {
	issued := d.rec.Assignments[n.Name]
	a := Assignment{
		Node: n.Name, Role: RoleStandby, Term: max(d.rec.Term, 1), SystemID: d.rec.SystemID,
		Generation: issued.Generation, Restart: issued.Restart, Serial: issued.Serial,
		Server: Server{
			Version: d.want.Postgres.Version, BinDir: d.want.Postgres.BinDir, User: d.want.Postgres.User,
			DataDir: n.DataDir, Host: n.Host, Port: n.Ports.Postgres,
		},
		Settings: settingsFor(d.want, n),
		HBA:      d.hba,
		Slots:    d.slotsOn(n),
	}
	if n.Name == d.primary.Name {
		a.Role, a.Launch, a.Timeline, a.Reclaim = RolePrimary, issued.Launch, issued.Timeline, issued.Reclaim
		a.Restore, a.Retain = issued.Restore, issued.Retain
		a.Settings[syncNamesSetting] = syncNames(d.rec.Sync.Target())
		return a
	}
	a.Settings[syncNamesSetting] = ""
	if n.Electable() {
		a.Settings[syncNamesSetting] = syncNames(fullSync(d.want, n.Name))
	}
	a.Upstream = &Upstream{
		Node: d.primary.Name, Host: d.primary.Host, Port: d.primary.Ports.Postgres, Slot: pg.SlotName(n.Name),
	}
	a.Rewind = issued.Rewind && issued.Term == a.Term || d.ahead(n.Name)
	return a
}

// slotsOn are the slots that a node keeps: one for every other data member on
// each node that can become primary. The usual case, that it is told to keep
// them already, makes no list.
func (d *differ) slotsOn(n spec.Node) []string {
	if !n.Electable() && n.Name != d.primary.Name {
		return nil
	}
	issued := d.rec.Assignments[n.Name].Slots
	i := 0
	for _, s := range d.slots {
		if s.node == n.Name {
			continue
		}
		if i >= len(issued) || issued[i] != s.slot {
			return d.slotsBut(n.Name)
		}
		i++
	}
	return issued[:i:i]
}

func (d *differ) slotsBut(node string) []string {
	names := make([]string, 0, len(d.slots))
	for _, s := range d.slots {
		if s.node != node {
			names = append(names, s.slot)
		}
	}
	return names
}

// staged is the part of final that the rules allow now. A node that gets its
// first copy of the data has no settings to keep.
func (d *differ) staged(n spec.Node, final Assignment) Assignment {
	issued := d.rec.Assignments[n.Name]
	staged := final
	if n.Name == d.primary.Name {
		if !d.first && d.standbysBehind(final) {
			staged.Settings = d.withoutRestarts(issued.Settings, final.Settings)
			staged.Server = issued.Server
		}
		return staged
	}
	staged.Settings = maps.Clone(final.Settings)
	if d.first && issued.Role == RoleStandby {
		staged.Settings = d.withoutRestarts(issued.Settings, final.Settings)
		staged.Server = issued.Server
	}
	for _, name := range standbyFloor {
		if least := d.floor(name, n.Name, issued); number(staged.Settings[name], name, d.major()) < least {
			staged.Settings[name] = strconv.FormatInt(least, 10)
		}
	}
	upstream := *final.Upstream
	upstream.Port = d.listens(issued.Upstream)
	staged.Upstream = &upstream
	return staged
}

// listens is the port on which the primary takes connections now: a standby that
// is sent to the next one too early loses its stream, and with it the primary
// its turn to restart. While the primary has not said, followers stay where they are.
func (d *differ) listens(followed *Upstream) int {
	issued := d.rec.Assignments[d.primary.Name]
	port, err := strconv.Atoi(d.obs.Nodes[d.primary.Name].Report.Server.Settings[portSetting])
	switch {
	case err == nil:
		return port
	case followed != nil && followed.Node == d.primary.Name:
		return followed.Port
	case issued.Role == RolePrimary:
		return issued.Server.Port
	}
	return d.primary.Ports.Postgres
}

func (d *differ) major() int { return d.want.Postgres.Version }

// running plans the changes to a node that has its data.
func (d *differ) running(n spec.Node) {
	view, issued := d.obs.Nodes[n.Name], d.rec.Assignments[n.Name]
	if reason := wrongData(n, view, d.rec.SystemID); reason != "" {
		d.block(n.Name, "%s", reason)
		return
	}
	if n.Name == d.primary.Name && view.Reported && view.Report.Data.State == pg.DirAbsent {
		d.block(n.Name, "the data directory of the primary %s is gone: put it back, or make another node the primary (ramctrl failover)", n.Name)
		return
	}
	if !view.Reachable {
		d.silent(n, view)
	} else if p := view.Report.Problem; p != nil {
		d.block(n.Name, "node %s: %s", n.Name, p.Text)
	}
	final := d.final(n)
	d.start(n, view, issued)
	d.configure(n, view, issued, final)
	d.restart(n, view, issued, final)
	d.follow(n, view, issued)
}

func (d *differ) silent(n spec.Node, view NodeView) {
	if view.Reported {
		d.block(n.Name, "ramd on node %s does not answer: see whether its host and ramd are up", n.Name)
		return
	}
	if view.Silent >= firstReport {
		d.block(n.Name, "ramd on node %s has not reported to this leader yet", n.Name)
	}
}

// firstReport is how long a new leader may not have heard of a node without that
// meaning anything.
const firstReport = 3 * time.Second

// wrongData is why a data directory is not to be touched (S6); empty when it is ours.
func wrongData(n spec.Node, view NodeView, id pg.SystemID) string {
	data := view.Report.Data
	switch {
	case data.State == pg.DirForeign, data.State == pg.DirCluster && id == 0:
		return occupied(n, view.Report)
	case data.State == pg.DirCluster && data.SystemID != id:
		return fmt.Sprintf("node %s holds data of another PostgreSQL cluster (system identifier %s, this cluster has %s): move it away and ramd clones the node", n.Name, data.SystemID, id)
	}
	return ""
}

func (d *differ) configure(n spec.Node, view NodeView, issued, final Assignment) {
	id := stepID(StepConfigure, n.Name)
	staged := d.staged(n, final)
	s := Step{
		ID: id, Kind: StepConfigure, Node: n.Name,
		Summary: fmt.Sprintf("write and load the configuration of %s", n.Name),
	}
	r := view.Report
	applied := r.Written >= issued.Serial && (r.Server.State != pg.ServerRunning || settled(view, issued))
	drift := d.missingSlots[n.Name]
	if r.Server.State == pg.ServerRunning {
		// Before a start the agent writes all files anyway, those of a fresh copy
		// first of all: they are another node's.
		drift = slices.Concat(r.Drift, drift)
	}
	switch {
	case !issued.same(staged) && view.Reachable && !d.leads() && moves(issued, staged):
		s.Reason = d.differences(issued, staged)
		s.Waits = fmt.Sprintf("%s to take writes", d.primary.Name)
	case !issued.same(staged):
		s.Reason = d.differences(issued, staged)
		staged.Serial = issued.Serial + 1
		s.effect = &Effect{Assign: []Assign{{Node: n.Name, Assignment: staged}}}
	case !view.Reachable && issued.same(final):
		return
	case !view.Reachable:
		s.Reason = d.differences(issued, final)
	case !applied && d.partOfAnother(n, view, issued):
		return
	case !applied && r.Serial == issued.Serial && len(r.Drift) > 0:
		d.drifted(n, r.Drift)
		s.Reason = "changed by hand: " + driftNames(r.Drift)
	case !applied:
		s.Reason = "the agent is at it"
	case len(drift) > 0:
		d.drifted(n, drift)
		s.Reason = "changed by hand: " + driftNames(drift)
		s.effect = reissue(n.Name, issued)
	case d.rec.Wishes[n.Name].Reload:
		s.Reason = "an operator asked for a reload"
		s.effect = reissue(n.Name, issued)
	case !issued.same(final):
		s.Reason = d.differences(issued, final)
		if d.unreplayed(n, final) {
			s.Waits = fmt.Sprintf("%s to replay that %s has lowered its settings", n.Name, d.primary.Name)
			d.replaying = append(d.replaying, n.Name)
		}
		d.held = append(d.held, id)
	default:
		return
	}
	if !view.Reachable {
		s.Waits = fmt.Sprintf("ramd on %s to answer", n.Name)
		s.effect = nil
	}
	d.add(s)
}

// leads reports whether the primary was seen to take writes.
func (d *differ) leads() bool {
	view := d.obs.Nodes[d.primary.Name]
	return view.Running() && !view.Report.Server.Recovery
}

// moves reports whether a standby is sent to another upstream, or back to one.
func moves(from, to Assignment) bool {
	return to.Upstream != nil && (from.Upstream == nil || from.Upstream.Node != to.Upstream.Node)
}

// ahead reports whether a standby has WAL past the point where the primary's
// timeline began: it is not the primary's, and has to be taken back.
func (d *differ) ahead(node string) bool {
	view, issued := d.obs.Nodes[node], d.rec.Assignments[node]
	up, s := d.obs.Nodes[d.primary.Name].Report.Server, view.Report.Server
	if !d.leads() || !view.Running() || !s.Recovery || s.Timeline == 0 || s.Timeline >= up.Timeline || s.Receiver.Streaming() {
		return false
	}
	// Where an earlier timeline of several ended is not known here: a rewind finds out.
	unknown := s.Timeline+1 < up.Timeline && settled(view, issued) && view.Report.Serial == issued.Serial && !d.catchesUp(view)
	return s.LSN > up.TimelineBegan || unknown
}

// partOfAnother reports whether what the agent still has to do for its assignment
// belongs to a step that the plan shows anyway.
func (d *differ) partOfAnother(n spec.Node, view NodeView, issued Assignment) bool {
	return d.ids[stepID(StepStart, n.Name)] || d.restarting(n, view, issued) ||
		n.Name == d.primary.Name && d.rec.Sync.Next != nil
}

func reissue(node string, a Assignment) *Effect {
	a.Serial++
	return &Effect{Assign: []Assign{{Node: node, Assignment: a}}}
}

// start reports a server that should run and does not, or has just been started
// and is not settled; its agent is at it.
func (d *differ) start(n spec.Node, view NodeView, issued Assignment) {
	r := view.Report
	state := r.Server.State
	fresh := r.Serial > 0 && r.Started == issued.Serial && !settled(view, issued)
	byHand := issued.Role == RoleStandby && state == pg.ServerRunning && !r.Server.Recovery
	if d.restarting(n, view, issued) || !view.Reachable || state == pg.ServerRunning && !fresh && !byHand || r.Data.State != pg.DirCluster {
		return
	}
	if byHand || issued.Role == RoleStandby && issued.Upstream != nil && state == pg.ServerStopped && unfit(issued, r.Data) {
		d.add(Step{
			ID: stepID(StepRewind, n.Name), Kind: StepRewind, Node: n.Name, From: d.primary.Name,
			Summary: fmt.Sprintf("rewind %s to follow %s", n.Name, d.primary.Name),
			Reason:  fmt.Sprintf("its server has run as a primary: its data may have what %s has not", d.primary.Name),
		})
		return
	}
	d.add(Step{
		ID: stepID(StepStart, n.Name), Kind: StepStart, Node: n.Name,
		Summary: fmt.Sprintf("start PostgreSQL on %s", n.Name),
		Reason:  fmt.Sprintf("it is %s", state),
	})
}

// follow reports a standby that runs and does not stream.
func (d *differ) follow(n spec.Node, view NodeView, issued Assignment) {
	if n.Name == d.primary.Name || !view.Running() || view.StreamingFrom(issued.Upstream) {
		return
	}
	if !d.obs.Nodes[d.primary.Name].Running() || len(d.has(stepID(StepStart, n.Name), stepID(StepRestart, n.Name))) > 0 {
		return // it cannot yet
	}
	d.add(Step{
		ID: stepID(StepFollow, n.Name), Kind: StepFollow, Node: n.Name,
		Summary: fmt.Sprintf("node %s streams from %s", n.Name, d.primary.Name),
		Reason:  "it receives no WAL",
	})
}
