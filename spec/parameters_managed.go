package spec

import "strings"

// Managed says why a parameter of postgresql.conf is ramd's own and what an
// operator does instead.
type Managed struct {
	Reason  string
	Instead string
}

// managedParameters are the ones that ramd writes itself, in lower case. A name that ends
// in * stands for all that begin so.
var managedParameters = map[string]Managed{
	"listen_addresses":        {"it follows from the node's host", "set host in the node's block"},
	"port":                    {"it follows from the node's ports", "write ports { postgres = ... } in the node's block"},
	"unix_socket_directories": {"ramd reaches PostgreSQL through a socket of its own", "remove it; clients connect by TCP or by ramctrl psql"},
	"cluster_name":            {"it is the name of the cluster", "remove it"},

	"data_directory":    {"it follows from the node's block", "write data_dir in the node's block"},
	"config_file":       {"ramd keeps the configuration in the data directory", "remove it"},
	"hba_file":          {"ramd writes pg_hba.conf in the data directory", "list lines in hba = [...]"},
	"ident_file":        {"ramd keeps pg_ident.conf in the data directory", "remove it"},
	"external_pid_file": {"the guard looks after the postmaster", "remove it"},

	"primary_conninfo":          {"it changes with every change of primary", "remove it"},
	"primary_slot_name":         {"every member has a slot that ramd creates", "remove it"},
	"synchronous_standby_names": {"it is the set of nodes that promotion relies on", "write sync_standbys in the replication block"},
	"hot_standby":               {"ramd asks standbys how far they are, so it is always on", "remove it"},
	"wal_log_hints":             {"pg_rewind needs it, so it is always on", "remove it"},
	"promote_trigger_file":      {"promotion is ramd's decision", "remove it"},

	"archive_mode":            {"it follows from the archive block", "write an archive block"},
	"archive_command":         {"it follows from the archive block", "write an archive block"},
	"archive_library":         {"it follows from the archive block", "write an archive block"},
	"restore_command":         {"it follows from the archive block", "write an archive block"},
	"archive_cleanup_command": {"WAL in the repository is kept as long as a backup needs it", "write keep { } in a backup block"},
	"recovery_end_command":    {"promotion must not wait for a command", "remove it"},
	"recovery_target*":        {"a standby follows to the end of WAL", "write bootstrap { restore { target_time = ... } }"},

	"ram.*": {"names that begin with ram. are ramd's notes to itself", "choose another name"},

	"include":           {"ramd owns all configuration files, so that nothing hides from the plan", "write the parameters in the spec; file() and several spec files can share them"},
	"include_dir":       {"ramd owns all configuration files, so that nothing hides from the plan", "write the parameters in the spec; file() and several spec files can share them"},
	"include_if_exists": {"ramd owns all configuration files, so that nothing hides from the plan", "write the parameters in the spec; file() and several spec files can share them"},
}

// ManagedParameter tells whether ramd writes a parameter itself, so that a spec
// must not. The name is taken in any case.
func ManagedParameter(name string) (Managed, bool) {
	lower := strings.ToLower(name)
	if m, ok := managedParameters[lower]; ok {
		return m, true
	}
	for _, family := range []string{"recovery_target", "ram."} {
		if strings.HasPrefix(lower, family) {
			return managedParameters[family+"*"], true
		}
	}
	return Managed{}, false
}
