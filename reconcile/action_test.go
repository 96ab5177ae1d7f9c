package reconcile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// The assignment of these tests has serial 5, system identifier 7, generation 2
// and the slots ram_b and ram_c; what a host has is told in words.
func assigned(role reconcile.Role) reconcile.Assignment {
	a := reconcile.Assignment{
		Serial: 5, Node: "a", Role: role, Term: 2, SystemID: 7, Generation: 2, Restart: 3, Launch: 5,
		Server: reconcile.Server{Version: 15}, Slots: []string{"ram_b", "ram_c"},
	}
	switch role {
	case reconcile.RoleStandby:
		a.Upstream = &reconcile.Upstream{Node: "b"}
	case "frozen":
		a.Role = reconcile.RoleStandby
	case "stopping":
		a.Role, a.Clean = reconcile.RoleStandby, true
	case "restored-primary":
		a.Role, a.Restore = reconcile.RolePrimary, &reconcile.RestoreOrder{Repository: "main", Backup: "x"}
	case "restored-standby":
		a.Role, a.Upstream, a.Restore = reconcile.RoleStandby, &reconcile.Upstream{Node: "b"}, &reconcile.RestoreOrder{Repository: "main", Backup: "x"}
	case "rewound":
		a.Role, a.Upstream, a.Rewind = reconcile.RoleStandby, &reconcile.Upstream{Node: "b"}, true
	}
	return a
}

// hostWith is a host on which all is as assigned, but for what words say.
func hostWith(t *testing.T, role reconcile.Role, words string) reconcile.Local {
	t.Helper()
	primary := role == reconcile.RolePrimary || role == reconcile.RoleRetired
	l := reconcile.Local{
		Data:    pg.DataDirectory{State: pg.DirCluster, Version: 15, SystemID: 7, Generation: 2, Standby: !primary},
		Server:  pg.Server{State: pg.ServerRunning, Guarded: true, Recovery: !primary},
		Written: 5, Loaded: 5, Started: 5, Settled: 5,
	}
	if primary {
		l.Launched = 4
	}
	for _, name := range []string{"ram_b", "ram_c"} {
		l.Server.Slots = append(l.Server.Slots, pg.Slot{Name: name, WALStatus: "reserved"})
	}
	if role == reconcile.RoleStandby {
		l.Server.Receiver = &pg.WALReceiver{Status: "streaming"}
	}
	for _, word := range strings.Fields(words) {
		change(t, &l, word)
	}
	return l
}

func change(t *testing.T, l *reconcile.Local, word string) {
	t.Helper()
	switch word {
	case "absent":
		l.Data = pg.DataDirectory{State: pg.DirAbsent}
	case "foreign":
		l.Data = pg.DataDirectory{State: pg.DirForeign}
	case "other-system":
		l.Data.SystemID = 8
	case "other-version":
		l.Data.Version = 14
	case "older-copy":
		l.Data.Generation = 1
	case "stopped", "starting", "stopping", "hung":
		l.Server = pg.Server{State: pg.ServerState(word), Guarded: word != "stopped"}
		l.Loaded, l.Started = 0, 0
	case "unguarded":
		l.Server.Guarded = false
	case "writable":
		l.Server.Recovery = false
		if l.Data.Standby { // the end of recovery removes standby.signal
			l.Data.Standby, l.Drift = false, append(l.Drift, reconcile.Drift{Name: "standby.signal"})
		}
	case "recovering":
		l.Server.Recovery, l.Data.Standby = true, true
	case "other-sync":
		l.Server.Settings = map[string]string{"synchronous_standby_names": "ANY 1 (other)"}
	case "launched":
		l.Launched = 5
	case "was-primary":
		l.Data.ControlState = "in production"
	case "rewound":
		l.Data.Follows = 2
	case "rewinding":
		l.Data.Rewinding = true
	case "unwritten":
		l.Written, l.Loaded, l.Settled = 4, 4, 4
	case "unloaded":
		l.Loaded, l.Settled = 4, 4
	case "unsettled":
		l.Settled = 4
	case "drift":
		l.Drift = []reconcile.Drift{{Name: "work_mem"}}
	case "started-before":
		l.Started = 2
	case "aside":
		l.Aside = true
	case "idle":
		l.Server.Receiver = nil
	case "no-slots":
		l.Server.Slots = nil
	case "lost-slot":
		l.Server.Slots[1].WALStatus = "lost"
	case "left-slot":
		l.Server.Slots = append(l.Server.Slots, pg.Slot{Name: "ram_gone"})
	case "strange-slot":
		l.Server.Slots = append(l.Server.Slots, pg.Slot{Name: "theirs", WALStatus: "lost"})
	default:
		t.Fatalf("no word %q", word)
	}
}

func actLine(a reconcile.Act) string {
	line := string(a.Kind)
	for _, name := range a.Create {
		line += " +" + name
	}
	for _, name := range a.Drop {
		line += " -" + name
	}
	if a.Kind == reconcile.ActFail {
		line += ": " + a.Reason
	}
	return line
}

func TestNextActIs(t *testing.T) {
	for _, rule := range []struct {
		name, role, host, act string
	}{
		{"nothing when all is as assigned", "primary", "", ""},
		{"nothing on a standby that streams", "standby", "", ""},
		{"nothing while the server starts", "standby", "starting", ""},
		{"nothing while the server stops", "primary", "stopping", ""},

		{"never initdb where the cluster has data", "primary", "absent stopped", "fail: the data directory of the primary is gone: put it back, or make another node the primary (ramctrl failover)"},
		{"a primary from a backup", "restored-primary", "absent stopped", "restore"},
		{"a primary from a backup in the place of older data, which it stops to use", "restored-primary", "older-copy", "stop"},
		{"a primary from a backup in the place of older data", "restored-primary", "older-copy stopped", "restore"},
		{"no second restore when a primary's data are lost", "restored-primary", "absent stopped launched", "fail: the data directory of the primary is gone: put it back, or make another node the primary (ramctrl failover)"},
		{"a standby from a backup", "restored-standby", "absent stopped", "restore"},
		{"a copy where a standby has none", "standby", "absent stopped", "clone"},
		{"a copy where the leader wants a newer one", "standby", "older-copy stopped", "clone"},
		{"to stop before the data is replaced", "standby", "older-copy", "stop"},
		{"never to touch what is not PostgreSQL's", "standby", "foreign stopped", "fail: the data directory is not empty and not a data directory of PostgreSQL: empty it, or choose another data_dir"},
		{"never to touch another cluster's data", "standby", "other-system stopped", "fail: the data directory belongs to another PostgreSQL cluster (system identifier 8, this cluster has 7): move it away"},
		{"never to touch another cluster's server", "primary", "other-system", "fail: the data directory belongs to another PostgreSQL cluster (system identifier 8, this cluster has 7): move it away"},
		{"never to start another major version", "primary", "other-version stopped", "fail: the data directory is of PostgreSQL 14, the spec says 15"},

		{"to write before the start", "primary", "unwritten stopped", "write"},
		{"to put drift right before the start", "standby", "drift stopped", "write"},
		{"to start what is stopped", "primary", "stopped", "start"},
		{"to tell that a server hangs", "primary", "hung", "fail: PostgreSQL accepts connections and does not answer: see its log, and the host's disk"},

		{"to stop what the guard does not watch", "primary", "unguarded", "stop"},
		{"to kill a standby that takes writes", "standby", "writable", "fence"},
		{"to kill what would take writes when it is up", "standby", "writable starting", "fence"},
		{"to kill what hangs and would take writes", "frozen", "writable hung", "fence"},
		{"to promote the standby that was chosen", "primary", "recovering", "promote"},
		{"to write before it promotes", "primary", "recovering unwritten other-sync", "write"},
		{"to load its sync set before it promotes", "primary", "recovering unloaded other-sync", "reload"},
		{"to start a chosen standby that is down", "primary", "recovering stopped", "start"},
		{"not to start again by itself a primary that has ended", "primary", "launched stopped", ""},

		{"to write a promise down before it is given", "frozen", "unwritten", "write"},
		{"to disconnect for a promise", "frozen", "unloaded", "freeze"},
		{"to load what keeps it disconnected also later", "frozen", "unloaded", "freeze"},
		{"to start a standby so that it can promise", "frozen", "stopped", "start"},
		{"no new copy while nobody is primary", "frozen", "absent stopped", ""},
		{"to promise with the copy that is there", "frozen", "older-copy", ""},
		{"to kill a primary of an earlier term", "frozen", "writable", "fence"},
		{"never to start a former primary's data without an upstream", "frozen", "was-primary stopped", ""},
		{"to have a former primary stop in order for a switchover", "stopping", "writable", "hand-over"},

		{"to rewind a former primary's data before they follow", "standby", "was-primary stopped", "rewind"},
		{"to start former primary's data that are rewound", "standby", "was-primary rewound stopped", "start"},
		{"to stop a standby that is ahead", "rewound", "", "stop"},
		{"to rewind a standby that is ahead", "rewound", "stopped", "rewind"},
		{"nothing for a standby that is rewound", "rewound", "rewound", ""},
		{"not to start what a rewind has left half done", "standby", "rewinding stopped", "fail: a rewind of its data was interrupted: it waits for a new copy"},
		{"to stop a hung server that the guard does not watch", "primary", "hung unguarded", "stop"},
		{"to write a new assignment", "standby", "unwritten", "write"},
		{"to leave drift for the leader to record while the server runs", "standby", "drift", ""},
		{"to load what is written", "standby", "unloaded", "reload"},
		{"to stop for a restart that was asked for", "primary", "started-before", "stop"},
		{"to load before it restarts", "primary", "unloaded started-before", "reload"},

		{"to create slots", "primary", "unsettled no-slots", "slots +ram_b +ram_c"},
		{"to create slots on a standby too", "standby", "unsettled no-slots", "slots +ram_b +ram_c"},
		{"to make a lost slot again", "primary", "unsettled lost-slot", "slots +ram_c -ram_c"},
		{"to drop the slot of a node that left", "primary", "unsettled left-slot", "slots -ram_gone"},
		{"to leave slots alone that are not ram's", "primary", "unsettled strange-slot", "settle"},
		{"to settle when the slots are right", "primary", "unsettled", "settle"},

		{"to keep the old copy until the new one streams", "standby", "aside idle", ""},
		{"to drop the old copy when the new one streams", "standby", "aside", "drop-aside"},

		{"to stop a retired server", "retired", "", "stop"},
		{"to put a retired node's data aside", "retired", "stopped", "set-aside"},
		{"nothing when a retired node has no data", "retired", "absent stopped", ""},
		{"never to put another cluster's data aside", "retired", "other-system stopped", ""},
		{"never to stop another cluster's server", "retired", "other-system", ""},
		{"nothing without a role", "", "stopped", ""},
	} {
		t.Run(rule.name, func(t *testing.T) {
			role := reconcile.Role(rule.role)
			got := actLine(reconcile.NextAct(assigned(role), hostWith(t, role, rule.host)))
			if got != rule.act {
				t.Errorf("%s %q: got %q, want %q", rule.role, rule.host, got, rule.act)
			}
		})
	}
}

func TestTheFirstPrimaryIsInitialisedOnce(t *testing.T) {
	a := assigned(reconcile.RolePrimary)
	a.SystemID, a.Generation = 0, 1
	for _, rule := range []struct{ host, act string }{
		{"absent stopped", "init"},
		{"stopped", "start"},
		{"foreign stopped", "fail"},
	} {
		l := hostWith(t, a.Role, rule.host)
		if l.Data.State == pg.DirCluster {
			l.Data.Generation = 1
		}
		if got := reconcile.NextAct(a, l); string(got.Kind) != rule.act {
			t.Errorf("%s: got %q, want %q", rule.host, got.Kind, rule.act)
		}
	}
	l := hostWith(t, a.Role, "stopped")
	l.Data.Generation = 0
	if got := reconcile.NextAct(a, l); got.Kind != reconcile.ActFail || !strings.Contains(got.Reason, "already holds") {
		t.Errorf("a data directory that nobody made for this cluster: got %q (%s)", got.Kind, got.Reason)
	}
}

// Whatever a host looks like, its agent comes to rest: no act leads back to a
// state from which it was the next act.
func TestActsComeToAnEnd(t *testing.T) {
	words := []string{
		"", "absent", "older-copy", "stopped", "unguarded", "writable", "unwritten", "unloaded", "unsettled",
		"drift", "started-before", "aside", "idle", "no-slots", "lost-slot", "left-slot", "launched", "was-primary",
	}
	for _, role := range []reconcile.Role{reconcile.RolePrimary, reconcile.RoleStandby, reconcile.RoleRetired, "frozen", "stopping", "rewound"} {
		for i, one := range words {
			for _, two := range words[i:] {
				host := one + " " + two
				if strings.Contains(host, "stopped") && strings.Contains(host, "slot") || host == "no-slots lost-slot" {
					continue // a stopped server has no slots to lose
				}
				restEventually(t, role, host)
			}
		}
	}
}

func restEventually(t *testing.T, role reconcile.Role, host string) {
	t.Helper()
	a, l := assigned(role), hostWith(t, role, host)
	var acts []string
	for range 20 {
		act := reconcile.NextAct(a, l)
		acts = append(acts, string(act.Kind))
		if act.Kind == reconcile.ActNone || act.Kind == reconcile.ActFail {
			return
		}
		l = after(a, l, act)
	}
	t.Errorf("%s %q: %s", role, host, fmt.Sprint(acts))
}

// after is the host when the act is done.
func after(a reconcile.Assignment, l reconcile.Local, act reconcile.Act) reconcile.Local {
	switch act.Kind {
	case reconcile.ActClone:
		l.Data = pg.DataDirectory{State: pg.DirCluster, Version: 15, SystemID: a.SystemID, Generation: a.Generation}
		l.Written, l.Aside = 1, true
	case reconcile.ActWrite:
		l.Written, l.Drift = a.Serial, nil
		l.Data.Standby = l.Data.Standby || a.Role == reconcile.RoleStandby
	case reconcile.ActStart:
		l.Server = pg.Server{State: pg.ServerRunning, Guarded: true, Recovery: l.Data.Standby}
		l.Loaded, l.Started = l.Written, a.Serial
		if a.Role == reconcile.RolePrimary {
			l.Launched = a.Serial
		}
	case reconcile.ActFreeze:
		l.Server.Receiver, l.Settled = nil, a.Serial
	case reconcile.ActPromote:
		l.Server.Recovery, l.Data.Standby, l.Launched = false, false, a.Serial
	case reconcile.ActRewind:
		l.Data.Follows, l.Data.ControlState, l.Written = a.Term, "in archive recovery", 1
	case reconcile.ActStop, reconcile.ActFence, reconcile.ActHandOver:
		if a.Role == reconcile.RoleStandby && !l.Server.Recovery {
			l.Data.ControlState = "in production"
		}
		l.Server, l.Loaded, l.Started = pg.Server{State: pg.ServerStopped}, 0, 0
	case reconcile.ActReload:
		l.Loaded = l.Written
	case reconcile.ActSlots:
		l.Server.Slots = nil
		for _, name := range a.Slots {
			l.Server.Slots = append(l.Server.Slots, pg.Slot{Name: name})
		}
	case reconcile.ActSettle:
		l.Settled = a.Serial
	case reconcile.ActSetAside:
		l.Data = pg.DataDirectory{State: pg.DirAbsent}
	case reconcile.ActDropAside:
		l.Aside = false
	}
	return l
}
