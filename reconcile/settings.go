package reconcile

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

const (
	syncNamesSetting = "synchronous_standby_names"
	portSetting      = "port"

	archiveModeSetting = "archive_mode"
	// archiveAlways has standbys keep WAL until it is known to be in the repository, so
	// that none is missing when the primary is lost before it has archived all.
	archiveAlways = "always"
)

// Settings that only the host knows or that ramd adds when it writes the file
// are not in an assignment; see Files.

// WatchedSettings are the settings whose running values agents report, beside
// the serials that a server shows.
func WatchedSettings() []string {
	return append([]string{syncNamesSetting, portSetting, SerialSetting, StartedSetting}, standbyFloor...)
}

// settingsFor is postgresql.conf of one node, apart from what its role and its
// host add.
func settingsFor(c *spec.Cluster, n spec.Node) map[string]string {
	s := map[string]string{
		// Restarts are what changing these costs, so they leave room.
		"max_wal_senders":       strconv.Itoa(roomFor(len(c.Nodes))),
		"max_replication_slots": strconv.Itoa(roomFor(len(c.Nodes))),
		"wal_level":             "replica",
		"hot_standby":           "on",
		// A former primary can be rewound without being copied.
		"wal_log_hints":       "on",
		"password_encryption": "scram-sha-256",
		// A standby that waits for WAL, or is promoted, looks again at once.
		"wal_retrieve_retry_interval": "100ms",
		// A follower, or a primary, that was cut off is let go within seconds: its
		// slot is free for its next connection.
		"wal_receiver_timeout": "10s",
		"wal_sender_timeout":   "10s",
		// Sessions of clients whose host is gone do not hold locks for hours.
		"tcp_keepalives_idle":     "10",
		"tcp_keepalives_interval": "5",
		"tcp_keepalives_count":    "3",
		"tcp_user_timeout":        "20000",
	}
	if c.Archive != nil {
		s[archiveModeSetting] = archiveAlways
		// What a quiet primary wrote is in the repository within a minute.
		s["archive_timeout"] = "60s"
	}
	// PostgreSQL takes names in any case, and the last of several lines.
	for _, parameters := range []map[string]string{c.Postgres.Parameters, n.Parameters} {
		for name, v := range parameters {
			s[strings.ToLower(name)] = v
		}
	}
	s["listen_addresses"] = n.Host
	s["port"] = strconv.Itoa(n.Ports.Postgres)
	s["cluster_name"] = c.Name
	return s
}

// roomFor is the number of slots or senders for a cluster of n nodes: two for
// each and some for people, rounded up so that it seldom changes.
func roomFor(n int) int {
	const step = 32
	return (2*n + 8 + step - 1) / step * step
}

// hbaFor are the lines of pg_hba.conf, ramd's own first.
func hbaFor(c *spec.Cluster) []string {
	lines := []string{
		"local all " + SuperuserRole + " scram-sha-256",
		"local all all scram-sha-256",
	}
	seen := map[string]bool{}
	for _, n := range byID(c.Nodes) {
		if n.Witness {
			continue
		}
		address := hbaAddress(n.Host)
		if seen[address] {
			continue
		}
		seen[address] = true
		lines = append(lines,
			fmt.Sprintf("host replication %s %s scram-sha-256", ReplicationRole, address),
			fmt.Sprintf("host all %s %s scram-sha-256", SuperuserRole, address),
		)
	}
	return append(lines, c.Postgres.HBA...)
}

// hbaAddress is a host as pg_hba.conf wants it: an address as its own network,
// and all of loopback for an address of it, since the kernel lets connections to
// any of them come from 127.0.0.1.
func hbaAddress(host string) string {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if addr.Is4() && addr.IsLoopback() {
		return "127.0.0.0/8"
	}
	return netip.PrefixFrom(addr, addr.BitLen()).String()
}

// syncNames is a sync set in PostgreSQL's notation.
func syncNames(s SyncSet) string {
	members := make([]string, len(s.Members))
	for i, name := range s.Members {
		members[i] = pg.ApplicationName(name)
	}
	return pg.SyncNames{K: s.K, Members: members}.String()
}

// needsRestart reports whether a change of the setting takes effect only when
// the server starts.
func needsRestart(name string, major int) bool {
	s, ok := pg.LookupSetting(name, major)
	return ok && s.Context == pg.ContextPostmaster
}

// sameValue compares two spellings of a setting's value.
func sameValue(name, a, b string, major int) bool {
	if a == b {
		return true
	}
	s, ok := pg.LookupSetting(name, major)
	return ok && s.Equal(a, b)
}

// changedSettings names the settings that differ, sorted.
func changedSettings(from, to map[string]string, major int) []string {
	var names []string
	for name, v := range to {
		if old, ok := from[name]; !ok || !sameValue(name, old, v, major) {
			names = append(names, name)
		}
	}
	for name := range from {
		if _, ok := to[name]; !ok {
			names = append(names, name)
		}
	}
	return sorted(names)
}
