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
// their configuration, or have yet to replay what lets them: only then do they show
// whether they restart too, and the order is to be the one that the plan has told.
func (d *differ) afterLoading(n spec.Node, s *Step) {
	if s.effect == nil || n.Name == d.primary.Name {
		return
	}
	for _, other := range d.nodes {
		if other.Name == n.Name {
			return
		}
		view := d.obs.Nodes[other.Name]
		loading := view.Report.Loaded < d.rec.Assignments[other.Name].Serial || slices.Contains(d.replaying, other.Name)
		if view.Running() && view.Report.Problem == nil && loading {
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
