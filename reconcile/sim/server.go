package sim

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// major is the PostgreSQL version of every simulated server.
const major = 15

// defaults are PostgreSQL's values of the settings that reports are about.
func defaults() map[string]string {
	return map[string]string{
		"max_connections":           "100",
		"max_locks_per_transaction": "64",
		"max_prepared_transactions": "0",
		"max_wal_senders":           "10",
		"max_worker_processes":      "8",
		"synchronous_standby_names": "",
		"port":                      "5432",
	}
}

// floor are the settings of which a standby needs at least the primary's value.
func floor() []string {
	return []string{
		"max_connections", "max_locks_per_transaction", "max_prepared_transactions",
		"max_wal_senders", "max_worker_processes",
	}
}

// disk is a data directory. The zero disk is an absent one.
type disk struct {
	state      pg.DirState
	system     pg.SystemID
	generation uint64
	timeline   pg.Timeline
	lsn        pg.LSN
	// oldest is the first position that WAL is still there for.
	oldest pg.LSN
	files  pg.ConfigFiles
	slots  map[string]pg.Slot
	// began is where the timeline left the one before; control, checkpoint, label
	// and follows are as in pg.DataDirectory.
	began, checkpoint pg.LSN
	control           string
	label             bool
	follows           uint64
	// role is set when the replication role is in the catalogue.
	role bool
}

func (d disk) copied() disk {
	d.slots = maps.Clone(d.slots)
	return d
}

// server is a running postmaster.
type server struct {
	settings map[string]string
	hba      string
	pending  []string
	recovery bool
	receiver *pg.WALReceiver
	term     uint64 // of the assignment that it was started for
	senders  []pg.WALSender
}

// configured are the values that a disk's files ask for.
func configured(f pg.ConfigFiles) map[string]string {
	values := defaults()
	for _, text := range []string{f.Managed, f.Auto} {
		entries, _ := pg.ParseConf(text) // the lines that can be read count, as in PostgreSQL
		maps.Copy(values, pg.EffectiveConf(entries))
	}
	return values
}

// startServer starts PostgreSQL on the disk with the port and the serial on its
// command line, as ramd does.
func startServer(d disk, a reconcile.Assignment) *server {
	s := &server{settings: configured(d.files), hba: d.files.HBA, recovery: d.files.Standby, term: a.Term}
	s.settings["port"] = strconv.Itoa(a.Server.Port)
	s.settings[reconcile.StartedSetting] = strconv.FormatUint(a.Serial, 10)
	return s
}

// reload has the server read its files again: what needs a restart stays pending.
func (s *server) reload(f pg.ConfigFiles) {
	want := configured(f)
	want["port"] = s.settings["port"] // the command line wins
	want[reconcile.StartedSetting] = s.settings[reconcile.StartedSetting]
	s.hba, s.pending = f.HBA, nil
	names := slices.Collect(maps.Keys(want))
	for name := range s.settings {
		if _, both := want[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		v, there := want[name]
		if s.settings[name] == v {
			continue
		}
		if known, ok := pg.LookupSetting(name, major); ok && known.Context.NeedsRestart() {
			s.pending = append(s.pending, name)
			continue
		}
		s.settings[name] = v
		if !there {
			delete(s.settings, name)
		}
	}
}

func (s *server) number(name string) int {
	n, err := strconv.Atoi(s.settings[name])
	if err != nil {
		panic("sim: " + name + " is not a number: " + s.settings[name])
	}
	return n
}

func (s *server) serial(name string) uint64 {
	n, _ := strconv.ParseUint(s.settings[name], 10, 64) // absent means zero
	return n
}

// lets reports whether pg_hba.conf as loaded lets the replication role in from addr.
func (s *server) lets(addr string) bool {
	return strings.Contains(s.hba, "host replication "+reconcile.ReplicationRole+" "+addr+"/32 ")
}

// flow moves WAL: the primary writes, and every standby that can connect receives
// all of it.
func (w *World) flow() {
	for _, h := range w.all() {
		if h.server != nil && !h.server.recovery {
			h.disk.lsn += 100
		}
	}
	for _, h := range w.all() {
		if h.server == nil {
			continue
		}
		h.server.senders, h.server.receiver = nil, w.receive(h)
	}
	for _, h := range w.all() {
		if h.server == nil || !h.server.receiver.Streaming() {
			continue
		}
		up := w.at(h.server.receiver.Host).server
		up.senders = append(up.senders, pg.WALSender{
			Application: pg.ApplicationName(h.name), State: "streaming", SentLSN: h.disk.lsn, FlushLSN: h.disk.lsn, ReplayLSN: h.disk.lsn,
		})
	}
}

// receive is the walreceiver that h has now; nil when it cannot connect.
func (w *World) receive(h *host) *pg.WALReceiver {
	if !h.server.recovery {
		return nil
	}
	info, err := pg.ParseConninfo(h.server.settings["primary_conninfo"])
	if err != nil || info["host"] == "" {
		return nil
	}
	up := w.at(info["host"])
	if up == nil || up == h || up.server == nil || up.server.settings["port"] != info["port"] || !up.server.lets(h.addr) {
		return nil
	}
	slot := h.server.settings["primary_slot_name"]
	kept, there := up.disk.slots[slot]
	if !there || kept.WALStatus == "lost" || h.disk.lsn < up.disk.oldest ||
		h.disk.system != up.disk.system || !follows(h.disk, up.disk) {
		return nil
	}
	h.disk.lsn, h.disk.timeline, h.disk.began = up.disk.lsn, up.disk.timeline, up.disk.began
	kept.RestartLSN = up.disk.lsn
	up.disk.slots[slot] = kept
	port, _ := strconv.Atoi(info["port"]) // it is the port that up listens on
	return &pg.WALReceiver{Status: "streaming", Host: info["host"], Port: port, Slot: slot, Timeline: up.disk.timeline}
}

// follows reports whether a standby on d can go on with what up has: it is on the
// same timeline, or at no later point than where up's began.
func follows(d, up disk) bool {
	return d.timeline == up.timeline && d.lsn <= up.lsn || d.timeline < up.timeline && d.lsn <= up.began
}

// recycle removes the WAL that no slot keeps, as a checkpoint does.
func (h *host) recycle() {
	keep := h.disk.lsn
	for _, s := range h.disk.slots {
		if s.WALStatus != "lost" && s.RestartLSN != 0 {
			keep = min(keep, s.RestartLSN)
		}
	}
	h.disk.oldest = max(h.disk.oldest, keep)
}

// look is what a prober sees of the server.
func (h *host) look() pg.Server {
	s := h.server
	if s == nil {
		return pg.Server{State: pg.ServerStopped}
	}
	out := pg.Server{
		State: pg.ServerRunning, Guarded: true, Recovery: s.recovery, Timeline: h.disk.timeline,
		LSN: h.disk.lsn, OldestWAL: h.disk.oldest, Receiver: s.receiver, Senders: s.senders,
		WALComplete: s.recovery, TimelineBegan: h.disk.began,
		PendingRestart: slices.Clone(s.pending), Settings: map[string]string{}, Size: 1 << 20,
	}
	for _, name := range reconcile.WatchedSettings() {
		if v, ok := s.settings[name]; ok {
			out.Settings[name] = v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.disk.slots)) {
		out.Slots = append(out.Slots, h.disk.slots[name])
	}
	return out
}
