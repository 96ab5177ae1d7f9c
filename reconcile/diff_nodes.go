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
// each node that can become primary.
func (d *differ) slotsOn(n spec.Node) []string {
	if !n.Electable() && n.Name != d.primary.Name {
		return nil
	}
	names := make([]string, 0, len(d.slots))
	for _, s := range d.slots {
		if s.node != n.Name {
			names = append(names, s.slot)
		}
	}
	return names
}

// staged is the part of final that the rules allow now.
func (d *differ) staged(n spec.Node, final Assignment) Assignment {
	issued := d.rec.Assignments[n.Name]
	staged := final
	if n.Name == d.primary.Name {
		if !d.first && d.standbysBehind() {
			staged.Settings = d.withoutRestarts(issued.Settings, final.Settings)
			staged.Server = issued.Server
		}
		return staged
	}
	staged.Settings = maps.Clone(final.Settings)
	if d.first {
		staged.Settings = d.withoutRestarts(issued.Settings, final.Settings)
		staged.Server = issued.Server
	}
	for _, name := range standbyFloor {
		if running, ok := d.primaryRuns(name); ok && number(staged.Settings[name], name, d.major()) < running {
			staged.Settings[name] = strconv.FormatInt(running, 10)
		}
	}
	if p := d.rec.Assignments[d.primary.Name]; p.Role == RolePrimary {
		upstream := *final.Upstream
		upstream.Port = p.Server.Port
		staged.Upstream = &upstream
	}
	return staged
}

func (d *differ) major() int { return d.want.Postgres.Version }

// withoutRestarts is to, with those settings as in from that would cost a restart.
func (d *differ) withoutRestarts(from, to map[string]string) map[string]string {
	held := maps.Clone(to)
	for _, name := range changedSettings(from, to, d.major()) {
		if !needsRestart(name, d.major()) {
			continue
		}
		if v, ok := from[name]; ok {
			held[name] = v
		} else {
			delete(held, name)
		}
	}
	return held
}

// number is a setting's value as a number; a setting that is not there has
// PostgreSQL's default, which is no reason to hold anything back.
func number(value, name string, major int) int64 {
	if s, ok := pg.LookupSetting(name, major); ok {
		value = s.Normalize(value)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return defaultFloor[name]
	}
	return n
}

// defaultFloor are PostgreSQL's defaults for standbyFloor, the same in 13 to 18.
var defaultFloor = map[string]int64{
	"max_connections":           100,
	"max_locks_per_transaction": 64,
	"max_prepared_transactions": 0,
	"max_wal_senders":           10,
	"max_worker_processes":      8,
}

// primaryRuns is the value that the primary was last seen to run.
func (d *differ) primaryRuns(name string) (int64, bool) {
	v, ok := d.obs.Nodes[d.primary.Name].Report.Server.Settings[name]
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil
}

// floors compares what the primary runs with what it is to run.
func (d *differ) floors() (raises, lowers bool) {
	settings := settingsFor(d.want, d.primary)
	for _, name := range standbyFloor {
		running, ok := d.primaryRuns(name)
		if !ok {
			continue
		}
		v := number(settings[name], name, d.major())
		raises = raises || v > running
		lowers = lowers || v < running
	}
	return raises, lowers
}

// primaryFirst reports whether the primary is restarted before the standbys:
// when settings that a standby must match are only lowered.
func (d *differ) primaryFirst() bool {
	raises, lowers := d.floors()
	return lowers && !raises
}

// standbysBehind reports whether a standby still has a restart before it, so
// that the primary's turn has not come.
func (d *differ) standbysBehind() bool { return len(d.has(d.restarted...)) > 0 }

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
	// An agent that has just started holds no assignment yet, and what its server
	// has loaded is as good as settled.
	settled := r.Settled >= issued.Serial || r.Serial == 0
	applied := r.Written >= issued.Serial && (r.Server.State != pg.ServerRunning || r.Loaded >= issued.Serial && settled)
	drift := slices.Concat(r.Drift, slotDrift(issued, r))
	switch {
	case !issued.same(staged):
		s.Reason = d.differences(issued, staged)
		staged.Serial = issued.Serial + 1
		s.effect = &Effect{Assign: []Assign{{Node: n.Name, Assignment: staged}}}
	case !issued.same(final):
		s.Reason = d.differences(issued, final)
		s.After = d.restartsBefore(n)
	case !view.Reachable:
		return
	case !applied && d.ids[stepID(StepStart, n.Name)], !applied && d.rec.Sync.Next != nil && n.Name == d.primary.Name:
		return // part of that step
	case !applied:
		s.Reason = "the agent is at it"
	case len(drift) > 0:
		d.drifted(n, drift)
		s.Reason = "changed by hand: " + driftNames(drift)
		s.effect = reissue(n.Name, issued)
	case d.rec.Wishes[n.Name].Reload:
		s.Reason = "an operator asked for a reload"
		s.effect = reissue(n.Name, issued)
	default:
		return
	}
	if !view.Reachable {
		s.Waits = fmt.Sprintf("ramd on %s to answer", n.Name)
		s.effect = nil
	}
	d.add(s)
}

func (d *differ) restartsBefore(n spec.Node) []string {
	if n.Name == d.primary.Name {
		return d.has(d.restarted...)
	}
	return d.has(stepID(StepRestart, d.primary.Name))
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
	if !slices.Equal(from.HBA, to.HBA) {
		parts = append(parts, "pg_hba.conf")
	}
	if !slices.Equal(from.Slots, to.Slots) {
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
	if !view.Reachable || state == pg.ServerRunning && !fresh || r.Data.State != pg.DirCluster {
		return
	}
	d.add(Step{
		ID: stepID(StepStart, n.Name), Kind: StepStart, Node: n.Name,
		Summary: fmt.Sprintf("start PostgreSQL on %s", n.Name),
		Reason:  fmt.Sprintf("it is %s", state),
	})
}

func (d *differ) restart(n spec.Node, view NodeView, issued, final Assignment) {
	if view.Reachable && view.Report.Server.State != pg.ServerRunning {
		return
	}
	r := view.Report
	s := Step{
		ID: stepID(StepRestart, n.Name), Kind: StepRestart, Node: n.Name,
		Summary:    fmt.Sprintf("restart PostgreSQL on %s", n.Name),
		Interrupts: d.interrupts(n),
		After:      d.has(stepID(StepConfigure, n.Name)),
	}
	restarts := slices.DeleteFunc(changedSettings(issued.Settings, final.Settings, d.major()), func(name string) bool {
		return !needsRestart(name, d.major())
	})
	switch {
	case issued.Restart > r.Started:
		s.Reason = "the agent is at it"
	case len(restarts) > 0:
		s.Reason = strings.Join(restarts, ", ")
	case r.Loaded >= issued.Serial && otherPort(issued, r):
		// The port is on the server's command line, which no reload changes.
		s.Reason = "port"
		s.effect = askRestart(n.Name, issued)
	case len(r.Server.PendingRestart) > 0 && r.Loaded >= issued.Serial && r.Started >= issued.Serial:
		d.block(n.Name, "settings of node %s still wait for a restart after one: %s", n.Name, strings.Join(r.Server.PendingRestart, ", "))
		return
	case len(r.Server.PendingRestart) > 0:
		s.Reason = strings.Join(r.Server.PendingRestart, ", ")
		s.effect = askRestart(n.Name, issued)
	case d.rec.Wishes[n.Name].Restart:
		s.Reason = "an operator asked for it"
		s.effect = askRestart(n.Name, issued)
	default:
		return
	}
	s.After = append(s.After, d.turn(n)...)
	if other := d.unhealthy(n); other != "" && s.effect != nil {
		s.Waits = fmt.Sprintf("node %s to be healthy: two servers are not taken down at a time", other)
		s.effect = nil
	}
	d.add(s)
	if n.Name != d.primary.Name {
		d.restarted = append(d.restarted, s.ID)
	}
}

func otherPort(issued Assignment, r Report) bool {
	port, known := r.Server.Settings["port"]
	return known && port != strconv.Itoa(issued.Server.Port)
}

func askRestart(node string, a Assignment) *Effect {
	a.Serial++
	a.Restart = a.Serial
	return &Effect{Assign: []Assign{{Node: node, Assignment: a}}}
}

// turn is what restarts before n: standbys one after the other, then the
// primary, or the primary first.
func (d *differ) turn(n spec.Node) []string {
	if n.Name == d.primary.Name {
		return d.has(d.restarted...)
	}
	if len(d.restarted) > 0 {
		return d.has(d.restarted[len(d.restarted)-1])
	}
	return d.has(stepID(StepRestart, d.primary.Name))
}

// unhealthy names another data node that is assigned and does not serve; empty when all do.
func (d *differ) unhealthy(than spec.Node) string {
	for _, n := range d.nodes {
		a, assigned := d.rec.Assignments[n.Name]
		if n.Witness || n.Name == than.Name || !assigned {
			continue
		}
		view := d.obs.Nodes[n.Name]
		if !view.Running() || n.Name != d.primary.Name && !view.StreamingFrom(a.Upstream) {
			return n.Name
		}
	}
	return ""
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
	d.add(Step{
		ID: stepID(StepFollow, n.Name), Kind: StepFollow, Node: n.Name,
		Summary: fmt.Sprintf("node %s streams from %s", n.Name, d.primary.Name),
		Reason:  "it receives no WAL",
	})
}
