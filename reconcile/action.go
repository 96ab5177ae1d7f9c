package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ramhq/ram/pg"
)

// Local is what an agent knows of its own host when it decides what to do next.
type Local struct {
	Data   pg.DataDirectory
	Server pg.Server
	Files  pg.ConfigFiles
	// Drift is FindDrift of Files.
	Drift []Drift
	// Written, Loaded, Started and Settled are as in Report.
	Written, Loaded, Started, Settled uint64
	// Launched and SyncSince are as in Report.
	Launched  uint64
	SyncSince pg.LSN
	// Aside is set while an older copy of the data is kept beside the new one.
	Aside bool
}

// ActKind is what an agent does on its host.
type ActKind string

const (
	ActNone      ActKind = ""
	ActInit      ActKind = "init"       // initdb
	ActClone     ActKind = "clone"      // copy the upstream
	ActRestore   ActKind = "restore"    // copy a backup, and recover it
	ActWrite     ActKind = "write"      // write the configuration files
	ActStart     ActKind = "start"      // start PostgreSQL
	ActStop      ActKind = "stop"       // stop PostgreSQL
	ActReload    ActKind = "reload"     // have it read its files again
	ActSlots     ActKind = "slots"      // create and drop slots
	ActSettle    ActKind = "settle"     // make the replication role right: all is settled
	ActSetAside  ActKind = "set-aside"  // put the data directory aside for good
	ActDropAside ActKind = "drop-aside" // delete copies that the new one replaced
	ActFence     ActKind = "fence"      // kill every process of the server
	ActHandOver  ActKind = "hand-over"  // checkpoint, then stop in order
	ActFreeze    ActKind = "freeze"     // disconnect from the upstream for good
	ActPromote   ActKind = "promote"    // make the standby a primary
	ActRewind    ActKind = "rewind"     // make the data fit to follow the upstream
	ActFail      ActKind = "fail"       // nothing can be done; Reason says why
)

// Act is the next thing an agent does. The zero Act is nothing to do.
type Act struct {
	Kind ActKind
	// Step is the kind of step that the act belongs to, for progress and problems.
	Step StepKind
	// Reason is why, in words for logs and, with ActFail, for the operator.
	Reason string
	// Create and Drop are slots.
	Create, Drop []string
}

// NextAct decides what an agent does next to make its assignment true. The
// caller carries it out, looks again, and asks again: nothing is remembered
// between two calls, so that any act can be killed at any instruction. It is
// only called with an assignment that a live leader has confirmed since the
// process started (S4).
func NextAct(a Assignment, l Local) Act {
	switch a.Role {
	case RoleRetired:
		return retire(a, l)
	case RolePrimary, RoleStandby:
	default:
		return Act{}
	}
	if reason := foreign(a, l); reason != "" {
		return Act{Kind: ActFail, Reason: reason}
	}
	if act := provideData(a, l); act.Kind != ActNone {
		return act
	}
	switch l.Server.State {
	case pg.ServerStarting, pg.ServerHung:
		if a.Role == RoleStandby && l.Data.State == pg.DirCluster && !l.Data.Standby {
			return Act{Kind: ActFence, Step: StepFailover, Reason: "it would run as a primary and is to be a standby"}
		}
	}
	switch l.Server.State {
	case pg.ServerStopped:
		return startServer(a, l)
	case pg.ServerRunning:
		return tendServer(a, l)
	case pg.ServerHung:
		if !l.Server.Guarded {
			return Act{Kind: ActStop, Step: StepStart, Reason: "it was not started by ramd's guard, and does not answer"}
		}
		return Act{Kind: ActFail, Step: StepStart, Reason: "PostgreSQL accepts connections and does not answer: see its log, and the host's disk"}
	default:
		return Act{}
	}
}

// foreign is why the data directory must not be touched (S6).
func foreign(a Assignment, l Local) string {
	switch {
	case l.Data.State == pg.DirForeign:
		return "the data directory is not empty and not a data directory of PostgreSQL: empty it, or choose another data_dir"
	case l.Data.State == pg.DirCluster && a.SystemID != 0 && l.Data.SystemID != a.SystemID:
		return fmt.Sprintf("the data directory belongs to another PostgreSQL cluster (system identifier %s, this cluster has %s): move it away", l.Data.SystemID, a.SystemID)
	case l.Data.State == pg.DirCluster && a.SystemID == 0 && l.Data.Generation != a.Generation:
		return fmt.Sprintf("the data directory already holds a PostgreSQL cluster (system identifier %s): move it away, or choose another data_dir", l.Data.SystemID)
	case l.Data.State == pg.DirCluster && a.Server.Version != 0 && l.Data.Version != a.Server.Version:
		return fmt.Sprintf("the data directory is of PostgreSQL %d, the spec says %d", l.Data.Version, a.Server.Version)
	}
	return ""
}

// provideData makes the data directory that the assignment wants.
func provideData(a Assignment, l Local) Act {
	if l.Data.State == pg.DirCluster && l.Data.Generation >= a.Generation {
		return Act{}
	}
	if a.Frozen() {
		return Act{}
	}
	// What a primary's server has run on is not made anew from a backup: another node has it.
	if a.Restore != nil && (a.Role == RoleStandby || l.Launched < a.Launch) {
		if l.Server.State != pg.ServerStopped {
			return Act{Kind: ActStop, Step: StepRestore, Reason: "its data are to be replaced"}
		}
		return Act{Kind: ActRestore, Step: StepRestore, Reason: "the leader wants the data of backup " + a.Restore.Backup}
	}
	if a.Role == RolePrimary {
		if a.SystemID != 0 {
			return Act{Kind: ActFail, Reason: "the data directory of the primary is gone: put it back, or make another node the primary (ramctrl failover)"}
		}
		return Act{Kind: ActInit, Step: StepInit, Reason: "the cluster has no data yet"}
	}
	if l.Server.State != pg.ServerStopped {
		return Act{Kind: ActStop, Step: StepClone, Reason: "its data is to be replaced"}
	}
	return Act{Kind: ActClone, Step: StepClone, Reason: "the leader wants a new copy"}
}

func startServer(a Assignment, l Local) Act {
	switch {
	case l.Data.State != pg.DirCluster:
		return Act{}
	case a.Role == RolePrimary && !a.mayLaunch(l.Launched) && a.SystemID != 0:
		// It has run for this assignment and ended: what is next, the leader says (S4).
		return Act{}
	case a.Role == RoleStandby && l.Data.Rewinding:
		return Act{Kind: ActFail, Step: StepRewind, Reason: "a rewind of its data was interrupted: it waits for a new copy"}
	case a.Role == RoleStandby && unfit(a, l.Data) && a.Upstream == nil:
		return Act{} // there is nobody yet whom it could follow
	case a.Role == RoleStandby && unfit(a, l.Data):
		return Act{Kind: ActRewind, Step: StepRewind, Reason: "its data may have what " + a.Upstream.Node + " has not"}
	case l.Written != a.Serial || len(l.Drift) > 0 || a.Role == RoleStandby && !l.Data.Standby:
		return Act{Kind: ActWrite, Step: StepConfigure, Reason: "the server is about to start"}
	}
	return Act{Kind: ActStart, Step: StepStart, Reason: "it is to run"}
}

// unfit reports whether a stopped directory must not be started as a standby: a
// server that has run as a primary on it may have written what nobody else has, as
// has one that received more than the new primary. One that is reclaimed begins with that.
func unfit(a Assignment, d pg.DataDirectory) bool {
	return (d.WasPrimary() || a.Rewind) && d.Follows != a.Term && !a.reclaims()
}

func tendServer(a Assignment, l Local) Act {
	switch {
	case a.Role == RoleStandby && !l.Server.Recovery && a.Clean:
		return Act{Kind: ActHandOver, Step: StepFailover, Reason: "another node takes over"}
	case a.Role == RoleStandby && !l.Server.Recovery:
		return Act{Kind: ActFence, Step: StepFailover, Reason: "it runs as a primary and is to be a standby"}
	case !l.Server.Guarded:
		return Act{Kind: ActStop, Step: StepStart, Reason: "it was not started by ramd's guard"}
	case a.Rewind && l.Data.Follows != a.Term:
		return Act{Kind: ActStop, Step: StepRewind, Reason: "it has received what " + a.Upstream.Node + " has not"}
	case promotable(a, l) && l.Server.Settings[syncNamesSetting] == a.Settings[syncNamesSetting]:
		// It has what its first write needs; the files can wait, its clients cannot.
		return Act{Kind: ActPromote, Step: StepFailover, Reason: "it is the primary now"}
	case l.Written != a.Serial:
		return Act{Kind: ActWrite, Step: StepConfigure, Reason: "a new assignment"}
	case a.Frozen() && l.Settled < a.Serial:
		return Act{Kind: ActFreeze, Step: StepFailover, Reason: "a new primary is chosen"}
	case l.Loaded != a.Serial:
		return Act{Kind: ActReload, Step: StepConfigure, Reason: "a new configuration"}
	case promotable(a, l):
		return Act{Kind: ActPromote, Step: StepFailover, Reason: "it is the primary now"}
	case l.Started < a.Restart:
		return Act{Kind: ActStop, Step: StepRestart, Reason: "a restart was asked for"}
	case l.Settled < a.Serial:
		return settle(a, l)
	case l.Aside && (a.Role == RolePrimary || l.Server.Receiver.Streaming()):
		return Act{Kind: ActDropAside, Step: StepClone, Reason: "the new copy streams"}
	}
	return Act{}
}

func promotable(a Assignment, l Local) bool {
	return a.Role == RolePrimary && l.Server.Recovery && l.Data.Standby
}

// slotPrefix begins the names of slots that are ramd's; others are left alone.
const slotPrefix = "ram_"

// settle sees to what lives inside the server: the replication role on the
// primary, slots everywhere.
func settle(a Assignment, l Local) Act {
	act := Act{Kind: ActSlots, Step: StepConfigure, Reason: "slots as assigned"}
	have := map[string]pg.Slot{}
	for _, s := range l.Server.Slots {
		have[s.Name] = s
		if _, wanted := slices.BinarySearch(a.Slots, s.Name); strings.HasPrefix(s.Name, slotPrefix) && (!wanted || s.WALStatus == "lost") {
			act.Drop = append(act.Drop, s.Name)
		}
	}
	for _, name := range a.Slots {
		if s, ok := have[name]; !ok || s.WALStatus == "lost" {
			act.Create = append(act.Create, name)
		}
	}
	if len(act.Create)+len(act.Drop) > 0 {
		return act
	}
	return Act{Kind: ActSettle, Step: StepConfigure}
}

func retire(a Assignment, l Local) Act {
	if l.Data.State == pg.DirForeign || l.Data.State == pg.DirCluster && l.Data.SystemID != a.SystemID {
		return Act{} // not this cluster's, so not to be touched
	}
	if l.Server.State != pg.ServerStopped {
		return Act{Kind: ActStop, Step: StepRetire, Reason: "the node leaves the cluster"}
	}
	if l.Data.State == pg.DirCluster {
		return Act{Kind: ActSetAside, Step: StepRetire, Reason: "the node leaves the cluster"}
	}
	return Act{}
}
