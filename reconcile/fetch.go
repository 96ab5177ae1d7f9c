package reconcile

import (
	"time"

	"github.com/ramhq/ram/pg"
)

// fetchAfter is for how long a standby has received nothing before the repository is
// asked for WAL: most interruptions are over sooner, and asking takes PostgreSQL time
// in which it does not try to connect.
const fetchAfter = time.Second

// FetchesWAL reports whether PostgreSQL may get WAL from the repository: a standby that
// has an upstream and has received nothing from it for a while. One that has made a
// promise takes WAL from nobody, and one that is to be promoted must not wait for it.
func FetchesWAL(a Assignment, l Local, apart time.Duration) bool {
	if a.Role != RoleStandby || a.Frozen() {
		return false
	}
	return l.Data.Rewinding || l.Server.State == pg.ServerRunning && !l.Server.Receiver.Streaming() && apart >= fetchAfter
}

// fetchPatience is for how long the repository may bring nothing to a standby that
// cannot stream before it is cloned anew.
const fetchPatience = time.Minute

// catchesUp reports whether a standby that cannot stream may yet get from the repository
// what it lacks.
func (d *differ) catchesUp(v NodeView) bool {
	r := v.Report
	if d.rec.Spec == nil || d.rec.Spec.Archive == nil || !v.Running() {
		return false
	}
	up := d.obs.Nodes[d.rec.Primary].Report.Server
	if up.Timeline != 0 && r.Server.Timeline > up.Timeline {
		return false
	}
	return r.Apart < fetchPatience || r.Fetched > 0 && r.Fetched < fetchPatience
}
