package reconcile

import (
	"fmt"
	"strings"
	"time"

	"github.com/ramhq/ram/spec"
)

// OpeningStatus is a term without a primary, as it stands.
type OpeningStatus struct {
	Cause   OpenReason `json:"cause"`
	Deposed string     `json:"deposed"`
	Target  string     `json:"target,omitempty"`
	Reason  string     `json:"reason"`
	By      string     `json:"by,omitempty"`
	Since   time.Time  `json:"since"`
	// OpenMS is for how many milliseconds the leader has known of it.
	OpenMS     int64 `json:"open_ms"`
	AcceptLoss bool  `json:"accept_data_loss,omitempty"`
	// Stopping is set while the old primary shuts down in order.
	Stopping bool `json:"stopping,omitempty"`
	// Promised are the nodes that have disconnected from the old primary, of those
	// that hold data besides it.
	Promised []string `json:"promised"`
	Of       int      `json:"of"`
	// Waits is what it waits for; empty while it does not, or nobody can tell.
	Waits string `json:"waits,omitempty"`
}

func openingStatus(rec *Record, obs Observed, raft RaftStatus) *OpeningStatus {
	o := rec.Opening
	if o == nil {
		return nil
	}
	s := &OpeningStatus{
		Cause: o.Cause, Deposed: o.Deposed, Target: o.Target, Reason: o.Reason, By: o.By, Since: o.At,
		OpenMS: obs.Pulse.Open.Milliseconds(), AcceptLoss: o.AcceptLoss, Stopping: o.Stopping, Promised: []string{},
	}
	for _, c := range FailoverInputOf(rec, obs).Nodes {
		s.Of++
		if c.Promised {
			s.Promised = append(s.Promised, c.Node)
		}
	}
	switch {
	case rec.Pause != nil:
		s.Waits = "ramctrl resume"
	case raft.HasQuorum:
		s.Waits = strings.TrimPrefix(Succeed(rec, obs).Waits, "waits for ")
	}
	return s
}

// statusWarnings are what an operator has to know although nothing may be wrong.
func statusWarnings(rec *Record, obs Observed, raft RaftStatus) []string {
	var list []string
	if p := rec.Pause; p != nil {
		text := "paused by " + p.By
		if p.Reason != "" {
			text += " (" + p.Reason + ")"
		}
		list = append(list, text+": nothing is put right and no failover happens until ramctrl resume")
	}
	if rec.Spec == nil || rec.Primary == "" {
		return list
	}
	if w := Succeed(rec, obs).Waits; w != "" && raft.HasQuorum {
		list = append(list, "THE PRIMARY IS IN TROUBLE and no other is chosen: "+w)
	}
	if off := guaranteeOff(rec); off != "" {
		list = append(list, off)
	}
	if wait := writesWait(rec, obs); wait != "" && raft.HasQuorum {
		list = append(list, wait)
	}
	return list
}

// guaranteeOff says that commits do not wait for as many standbys as they should.
func guaranteeOff(rec *Record) string {
	r, k := rec.Spec.Replication, rec.Sync.Current.K
	switch {
	case r.Mode != spec.ModeQuorum || k >= r.SyncStandbys:
		return ""
	case k > 0:
		return fmt.Sprintf("THE GUARANTEE IS REDUCED: commits wait for %d standbys, and the spec asks for %d", k, r.SyncStandbys)
	case r.WhenShort == spec.WhenShortDegrade:
		return "THE GUARANTEE IS OFF: commits wait for no standby (when_short is degrade), so that the loss of the primary may lose acknowledged writes; it is back on when enough standbys have caught up"
	}
	return "THE GUARANTEE IS NOT ON YET: commits wait for no standby, so that acknowledged writes are on the primary alone until enough standbys have caught up"
}

// writesWait says that commits wait for standbys that are not there.
func writesWait(rec *Record, obs Observed) string {
	set := rec.Sync.Target()
	if set.K == 0 || !obs.Nodes[rec.Primary].Running() {
		return ""
	}
	there := 0
	for _, member := range set.Members {
		if obs.Nodes[member].StreamingFrom(rec.Assignments[member].Upstream) {
			there++
		}
	}
	if there >= set.K {
		return ""
	}
	return fmt.Sprintf("WRITES WAIT: commits wait for %d of %s, and %d of them receive", set.K, strings.Join(set.Members, ", "), there)
}
