package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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
		a.Role = RolePrimary
		a.Settings[syncNamesSetting] = syncNames(d.rec.Sync.Target())
		return a
	}
	a.Settings[syncNamesSetting] = ""
	a.Upstream = &Upstream{
		Node: d.primary.Name, Host: d.primary.Host, Port: d.primary.Ports.Postgres, Slot: pg.SlotName(n.Name),
	}
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

// restarts names the settings that differ and take effect only when the server
// starts, sorted. Writing down what is PostgreSQL's default anyway costs nothing,
// where the default is known.
func (d *differ) restarts(from, to map[string]string) []string {
	return slices.DeleteFunc(changedSettings(from, to, d.major()), func(name string) bool {
		_, known := defaultFloor[name]
		return !needsRestart(name, d.major()) ||
			known && number(from[name], name, d.major()) == number(to[name], name, d.major())
	})
}

// withoutRestarts is to, with those settings as in from that would cost a restart.
func (d *differ) withoutRestarts(from, to map[string]string) map[string]string {
	held := maps.Clone(to)
	for _, name := range d.restarts(from, to) {
		if v, ok := from[name]; ok {
			held[name] = v
		} else {
			delete(held, name)
		}
	}
	return held
}

// running plans the changes to a node that has its data.
func (d *differ) running(n spec.Node) {
	view, issued := d.obs.Nodes[n.Name], d.rec.Assignments[n.Name]
	if reason := wrongData(n, view, d.rec.SystemID); reason != "" {
		d.block(n.Name, "%s", reason)
		return
	}
	if n.Name == d.primary.Name && view.Reported && view.Report.Data.State == pg.DirAbsent {
		d.block(n.Name, "the data directory of the primary %s is gone: put it back; promoting a standby instead comes with failover, which this version does not have", n.Name)
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
	d.block(n.Name, "ramd on node %s has not reported to this leader yet", n.Name)
}

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

// partOfAnother reports whether what the agent still has to do for its assignment
// belongs to a step that the plan shows anyway.
func (d *differ) partOfAnother(n spec.Node, view NodeView, issued Assignment) bool {
	return d.ids[stepID(StepStart, n.Name)] || d.restarting(n, view, issued) ||
		n.Name == d.primary.Name && d.rec.Sync.Next != nil
}

// restarting reports whether the assignment in force asked for a restart that is
// not over: the server is back only when it serves its clients or streams.
func (d *differ) restarting(n spec.Node, view NodeView, issued Assignment) bool {
	if issued.Restart == 0 || issued.Restart != issued.Serial || !view.Reachable {
		return false
	}
	back := settled(view, issued) && view.Report.Started >= issued.Restart
	if n.Name != d.primary.Name && d.underway(stepID(StepRestart, n.Name)) {
		// Later on, a stream that ends is no longer part of the restart.
		back = back && view.StreamingFrom(issued.Upstream)
	}
	return !back && view.Report.Data.State == pg.DirCluster
}

// underway reports whether the run that is under way has begun the step and not
// seen its end.
func (d *differ) underway(id string) bool {
	if d.rec.Run == nil {
		return false
	}
	i := d.rec.Run.step(id)
	return i >= 0 && d.rec.Run.Steps[i].State == StepRunning
}

func reissue(node string, a Assignment) *Effect {
	a.Serial++
	return &Effect{Assign: []Assign{{Node: node, Assignment: a}}}
}

// differences says in words what an assignment changes.
func (d *differ) differences(from, to Assignment) string {
	var parts []string
	if names := changedSettings(from.Settings, to.Settings, d.major()); len(names) > 0 {
		parts = append(parts, strings.Join(names, ", "))
	}
	if !equalLists(from.HBA, to.HBA) {
		parts = append(parts, "pg_hba.conf")
	}
	if !equalLists(from.Slots, to.Slots) {
		parts = append(parts, slotChanges(from.Slots, to.Slots))
	}
	if from.Upstream != nil && to.Upstream != nil && *from.Upstream != *to.Upstream {
		parts = append(parts, "upstream "+to.Upstream.Node)
	}
	if len(parts) == 0 {
		return "the assignment changed"
	}
	return strings.Join(parts, "; ")
}

func slotChanges(from, to []string) string {
	var parts []string
	for _, name := range to {
		if _, found := slices.BinarySearch(from, name); !found {
			parts = append(parts, "create slot "+name)
		}
	}
	for _, name := range from {
		if _, found := slices.BinarySearch(to, name); !found {
			parts = append(parts, "drop slot "+name)
		}
	}
	return strings.Join(parts, ", ")
}

// slotDrift are the slots that should be there and are not, or are of no more use.
func slotDrift(issued Assignment, r Report) []Drift {
	if r.Server.State != pg.ServerRunning || r.Settled < issued.Serial || keepsAll(issued.Slots, r.Server.Slots) {
		return nil
	}
	have := make(map[string]pg.Slot, len(r.Server.Slots))
	for _, s := range r.Server.Slots {
		have[s.Name] = s
	}
	var drift []Drift
	for _, name := range issued.Slots {
		if s, ok := have[name]; !ok {
			drift = append(drift, Drift{Where: "slot", Name: name, Have: "dropped", Want: "present"})
		} else if s.WALStatus == "lost" {
			drift = append(drift, Drift{Where: "slot", Name: name, Have: "lost", Want: "present"})
		}
	}
	return drift
}

// keepsAll is the usual case, told without building an index: the slots are
// there, in order, and good.
func keepsAll(want []string, have []pg.Slot) bool {
	return slices.EqualFunc(want, have, func(name string, s pg.Slot) bool {
		return s.Name == name && s.WALStatus != "lost"
	})
}

func driftNames(drift []Drift) string {
	names := make([]string, len(drift))
	for i, x := range drift {
		names[i] = fmt.Sprintf("%s (%s)", x.Name, x.Where)
	}
	return strings.Join(names, ", ")
}

func (d *differ) drifted(n spec.Node, drift []Drift) {
	c := Change{Action: ActionUpdate, Object: "node " + n.Name, Drift: true}
	for _, x := range drift {
		c.Attributes = append(c.Attributes, Attribute{
			Action: ActionUpdate, Name: fmt.Sprintf("%s (%s)", x.Name, x.Where), Old: x.Have, New: x.Want,
		})
	}
	d.plan.Changes = append(d.plan.Changes, c)
}

// start reports a server that should run and does not, or has just been started
// and is not settled; its agent is at it.
func (d *differ) start(n spec.Node, view NodeView, issued Assignment) {
	r := view.Report
	state := r.Server.State
	fresh := r.Serial > 0 && r.Started == issued.Serial && !settled(view, issued)
	if d.restarting(n, view, issued) || !view.Reachable || state == pg.ServerRunning && !fresh || r.Data.State != pg.DirCluster {
		return
	}
	d.add(Step{
		ID: stepID(StepStart, n.Name), Kind: StepStart, Node: n.Name,
		Summary: fmt.Sprintf("start PostgreSQL on %s", n.Name),
		Reason:  fmt.Sprintf("it is %s", state),
	})
}

func (d *differ) restart(n spec.Node, view NodeView, issued, final Assignment) {
	restarting := d.restarting(n, view, issued)
	if view.Reachable && view.Report.Server.State != pg.ServerRunning && !restarting {
		return
	}
	r := view.Report
	s := Step{
		ID: stepID(StepRestart, n.Name), Kind: StepRestart, Node: n.Name,
		Summary:    fmt.Sprintf("restart PostgreSQL on %s", n.Name),
		Interrupts: d.interrupts(n),
	}
	configure := stepID(StepConfigure, n.Name)
	held := slices.Contains(d.held, configure)
	if !held {
		s.After = d.has(configure)
	}
	restarts := d.restarts(issued.Settings, final.Settings)
	pending := pendingRestart(issued, r)
	switch {
	case !view.Reported && len(restarts) == 0:
		return // nothing is known of it
	case restarting, issued.Restart > r.Started:
		s.Reason = "the agent is at it"
	case r.Loaded >= issued.Serial && otherPort(issued, r):
		// The port is on the server's command line, which no reload changes.
		s.Reason = "port"
		s.effect = askRestart(n.Name, issued)
	case len(pending) > 0 && r.Started < issued.Serial:
		s.Reason = strings.Join(pending, ", ")
		s.effect = askRestart(n.Name, issued)
	case len(restarts) > 0 && held && n.Name != d.primary.Name:
		// One more restart, which comes after the primary's.
		s.Reason = strings.Join(restarts, ", ")
		s.After = d.has(configure)
		d.add(s)
		return
	case len(restarts) > 0:
		s.Reason = strings.Join(restarts, ", ")
		s.After = d.has(configure)
	case len(pending) > 0:
		d.block(n.Name, "settings of node %s still wait for a restart after one: %s", n.Name, strings.Join(pending, ", "))
		return
	case d.rec.Wishes[n.Name].Restart:
		s.Reason = "an operator asked for it"
		s.effect = askRestart(n.Name, issued)
	default:
		return
	}
	d.takeTurn(n, &s)
	d.afterLoading(n, &s)
	d.add(s)
	if n.Name != d.primary.Name {
		d.restarted = append(d.restarted, s.ID)
	}
}

// pendingRestart names the settings that wait for a restart, as far as they are
// known: what was changed by hand goes back without one, and a server that has yet
// to load its configuration speaks of an older one.
func pendingRestart(issued Assignment, r Report) []string {
	if r.Loaded < issued.Serial {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.Server.PendingRestart), func(name string) bool {
		return slices.ContainsFunc(r.Drift, func(x Drift) bool { return x.Name == name })
	})
}

// afterLoading has a standby's restart wait for nodes before it that are loading
// their configuration: only then do they show whether they restart too, and the
// order is to be the one that the plan has told.
func (d *differ) afterLoading(n spec.Node, s *Step) {
	if s.effect == nil || n.Name == d.primary.Name {
		return
	}
	for _, other := range d.nodes {
		if other.Name == n.Name {
			return
		}
		view := d.obs.Nodes[other.Name]
		if view.Running() && view.Report.Problem == nil && view.Report.Loaded < d.rec.Assignments[other.Name].Serial {
			s.After = append(s.After, d.has(stepID(StepConfigure, other.Name))...)
		}
	}
}

func otherPort(issued Assignment, r Report) bool {
	port, known := r.Server.Settings[portSetting]
	return known && port != strconv.Itoa(issued.Server.Port)
}

func askRestart(node string, a Assignment) *Effect {
	a.Serial++
	a.Restart = a.Serial
	return &Effect{Assign: []Assign{{Node: node, Assignment: a}}}
}

// interrupts says what clients that write notice of a restart of n.
func (d *differ) interrupts(n spec.Node) string {
	if n.Name == d.primary.Name {
		return "clients of the primary are disconnected, writes stop until it is back"
	}
	set := d.rec.Sync.Target()
	left := len(set.Members)
	if slices.Contains(set.Members, n.Name) {
		left--
	}
	if set.K > 0 && left < set.K {
		return fmt.Sprintf("commits wait until %s is back", n.Name)
	}
	return ""
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
