package spec

import (
	"fmt"
	"strconv"
)

// unsafeValue is a value of a parameter under which the cluster cannot keep what
// it promises.
type unsafeValue struct {
	parameter string
	// values are refused; they are spelled as SHOW prints them.
	values []string
	// only, unless nil, limits the rule to some specs.
	only   func(c *Cluster) bool
	reason string
	// instead is what to write.
	instead string
}

var unsafeValues = []unsafeValue{
	{"fsync", []string{"off"}, nil, "a crash of the host could lose acknowledged writes and leave a damaged copy to be promoted", "remove it"},
	{"full_page_writes", []string{"off"}, nil, "a crash of the host could leave torn pages, and pg_rewind needs it", "remove it"},
	{"data_sync_retry", []string{"on"}, nil, "PostgreSQL would go on after a failed flush whose data is already lost", "remove it"},
	{"zero_damaged_pages", []string{"on"}, nil, "damaged pages would be wiped instead of reported", "remove it; set it in one session if you must salvage data"},
	{"ignore_checksum_failure", []string{"on"}, nil, "damaged pages would be read as if they were good", "remove it; set it in one session if you must salvage data"},
	{"ignore_invalid_pages", []string{"on"}, nil, "recovery would go on over missing data", "remove it"},
	{"wal_level", []string{"minimal"}, nil, "standbys need at least replica", `write "replica" or "logical"`},
	{"password_encryption", []string{"md5"}, nil, "the nodes sign in to each other with SCRAM", "remove it"},
	{
		"synchronous_commit",
		[]string{"off", "local", "remote_write"},
		func(c *Cluster) bool { return c.Replication.Mode == ModeQuorum && c.Replication.SyncStandbys > 0 },
		"in quorum mode a commit is acknowledged only when the standbys have flushed it",
		`write "on" or "remote_apply"; single sessions can still lower it at their own risk`,
	},
}

// leastValue is a parameter that has to be at least so large for the members.
type leastValue struct {
	parameter string
	least     func(standbys int) int
	reason    string
}

var leastValues = []leastValue{
	// pg_basebackup uses a second connection for WAL while it copies, and one is
	// kept for the operator.
	{"max_wal_senders", func(standbys int) int { return standbys + 3 }, "one for every standby, two for a node that is being cloned and one to spare"},
	{"max_replication_slots", func(standbys int) int { return standbys + 1 }, "one for every standby and one for a node that is being cloned"},
}

// sameEverywhere are the parameters that a standby must have at least as large
// as its primary or else stops; as any node may be primary, they are equal.
var sameEverywhere = []string{
	"max_connections", "max_worker_processes", "max_wal_senders",
	"max_prepared_transactions", "max_locks_per_transaction", "wal_level",
}

// validateSafety checks a value that is valid to PostgreSQL; normal is how SHOW
// would print it.
func (c *Cluster) validateSafety(p *problems, at, name, normal string) {
	for _, rule := range unsafeValues {
		if rule.parameter != name || rule.only != nil && !rule.only(c) {
			continue
		}
		for _, value := range rule.values {
			if value == normal {
				p.errorf(at, rule.instead, "%s = %s breaks the safety rules: %s", name, normal, rule.reason)
			}
		}
	}
	for _, rule := range leastValues {
		if rule.parameter != name {
			continue
		}
		least := rule.least(c.PossibleStandbys())
		if value, err := strconv.Atoi(normal); err == nil && value < least {
			p.errorf(at, fmt.Sprintf("write %d or more, or leave it out", least),
				"%s = %d is too small for this cluster: it needs %s", name, value, rule.reason)
		}
	}
}
