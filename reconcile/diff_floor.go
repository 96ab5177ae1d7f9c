package reconcile

import (
	"strconv"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

// standbyFloor are the settings of which a standby must have at least the
// primary's value, or it refuses to replay ("Hot Standby" in PostgreSQL's
// manual): raised on standbys first, lowered on the primary first.
var standbyFloor = []string{
	"max_connections",
	"max_locks_per_transaction",
	"max_prepared_transactions",
	"max_wal_senders",
	"max_worker_processes",
}

// number is a setting's value as a number; a setting that is not there has
// PostgreSQL's default, which is no reason to hold anything back.
func number(value, name string, major int) int64 {
	if value == "" {
		return defaultFloor[name]
	}
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && (value == "0" || value[0] != '0') {
		return n // the usual spelling
	}
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

// floor is the least value of a setting that a standby with the assignment may
// have: what the primary runs, what it would run if it started now, and what it
// ran in the WAL that the standby has replayed last. While the primary has not
// shown both of its own, a standby keeps at least what it has.
func (d *differ) floor(name, node string, standby Assignment) int64 {
	primary := d.rec.Assignments[d.primary.Name]
	if primary.Role != RolePrimary {
		return 0
	}
	least := max(number(primary.Settings[name], name, d.major()), d.obs.Nodes[node].Report.Data.Least.Of(name))
	running, known := d.primaryRuns(name)
	if known {
		least = max(least, running)
	}
	if known && d.obs.Nodes[d.primary.Name].Report.Written == primary.Serial || standby.Role != RoleStandby {
		return least
	}
	return max(least, number(standby.Settings[name], name, d.major()))
}

// unreplayed reports whether a standby is held back by WAL alone: the primary has
// less already, and the standby has not replayed that it does.
func (d *differ) unreplayed(n spec.Node, final Assignment) bool {
	for _, name := range standbyFloor {
		least := d.obs.Nodes[n.Name].Report.Data.Least.Of(name)
		running, known := d.primaryRuns(name)
		if n.Name != d.primary.Name && known && running < least && number(final.Settings[name], name, d.major()) < least {
			return true
		}
	}
	return false
}

// standbysBehind reports whether the primary's turn to get the settings of final
// that wait for a restart has not come: a standby has a restart before it, may
// have one that it has not reported yet, or has less than the primary would need.
func (d *differ) standbysBehind(final Assignment) bool {
	if len(d.has(d.restarted...)) > 0 {
		return true
	}
	for _, name := range d.leaving() {
		if !d.gone(name) {
			return true // what it needs is not looked after any more: it stops first
		}
	}
	needs := d.raised(final)
	for _, n := range d.nodes {
		issued := d.rec.Assignments[n.Name]
		if issued.Role != RoleStandby || n.Name == d.primary.Name {
			continue
		}
		view := d.obs.Nodes[n.Name]
		if view.Running() && view.Report.Loaded != issued.Serial {
			return true
		}
		for name, need := range needs {
			if !d.carries(view, issued, name, need) {
				return true
			}
		}
	}
	return false
}

// raised are the values of those settings of standbyFloor of which the primary is
// to have more than it was told so far.
func (d *differ) raised(final Assignment) map[string]int64 {
	needs := map[string]int64{}
	for _, name := range standbyFloor {
		need := number(final.Settings[name], name, d.major())
		if need > number(d.rec.Assignments[d.primary.Name].Settings[name], name, d.major()) {
			needs[name] = need
		}
	}
	return needs
}

// carries reports whether a standby has been seen to have at least need of a
// setting, or to have it as soon as it starts.
func (d *differ) carries(view NodeView, issued Assignment, name string, need int64) bool {
	r := view.Report
	if view.Running() {
		v, err := strconv.ParseInt(r.Server.Settings[name], 10, 64)
		return err == nil && v >= need
	}
	return view.Reachable && r.Written == issued.Serial && number(issued.Settings[name], name, d.major()) >= need
}
