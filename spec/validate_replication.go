package spec

import (
	"fmt"
	"slices"
)

func (c *Cluster) validateReplication(p *problems) {
	r := c.Replication
	modes := []Mode{ModeQuorum, ModeAsync}
	if !slices.Contains(modes, r.Mode) {
		p.errorf("replication.mode", `write "quorum" to lose no acknowledged write, or "async" to be faster and lose up to max_lag`,
			"%q is not a replication mode", r.Mode)
	}
	if !slices.Contains([]WhenShort{WhenShortWait, WhenShortDegrade}, r.WhenShort) {
		p.errorf("replication.when_short", `write "wait" to block commits until a standby is back, or "degrade" to go on without`,
			"%q is not what can be done when standbys are short", r.WhenShort)
	}
	if r.MaxLag < 0 {
		p.errorf("replication.max_lag", `write "0" to forbid loss`, "max_lag is negative")
	}
	c.validateSyncStandbys(p)
}

func (c *Cluster) validateSyncStandbys(p *problems) {
	const at = "replication.sync_standbys"
	k, possible := c.Replication.SyncStandbys, c.SyncCandidates()
	switch {
	case k < 0:
		p.errorf(at, "write 1, or leave it out", "sync_standbys %d is negative", k)
	case k > possible && len(c.Nodes) > 0:
		p.errorf(at, "lower it, or add nodes that hold data and can become primary; witnesses and nodes of priority 0 do not count",
			"sync_standbys is %d, but while one node is primary there %s", k, standbys(possible))
	case c.Replication.Mode == ModeQuorum && k == 0 && possible > 0:
		// With one data node there is nobody to lose a write to, so 0 is right there.
		p.errorf(at, `write 1 or more, or mode = "async" where acknowledged writes may be lost`,
			"quorum mode with sync_standbys 0 would acknowledge writes that only the primary has")
	case c.Replication.Mode == ModeAsync && k > 0:
		p.warnf(at, `remove it, or write mode = "quorum"`, "sync_standbys has no effect in async mode")
	}
}

func standbys(n int) string {
	switch n {
	case 0:
		return "is no standby"
	case 1:
		return "is 1 standby"
	}
	return fmt.Sprintf("are %d standbys", n)
}
