package failover

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

const (
	major  = 15
	system = pg.SystemID(7001)
	names  = "synchronous_standby_names"
)

// entry is one record of WAL. No two have the same id.
type entry struct {
	timeline pg.Timeline
	id       uint64
}

// branch says that a timeline begins behind the first at records.
type branch struct {
	timeline pg.Timeline
	at       int
}

// disk is a data directory. The zero disk is an absent one.
type disk struct {
	state      pg.DirState
	generation uint64
	wal        []entry
	flushed    int
	line       []branch
	files      pg.ConfigFiles
	slots      map[string]bool
	control    string
	checkpoint pg.LSN
	label      bool
	follows    uint64
	rewinding  bool
}

func lsn(records int) pg.LSN { return pg.LSN(records) * 16 }

func (d *disk) timeline() pg.Timeline {
	if len(d.line) == 0 {
		return 0
	}
	return d.line[len(d.line)-1].timeline
}

// follows reports whether PostgreSQL lets a standby with d go on with what up has. It
// looks at numbers of timelines and positions, not at what is there.
func follows(d, up *disk) bool {
	if d.timeline() == up.timeline() {
		return len(d.wal) <= up.flushed
	}
	for i, b := range up.line[:len(up.line)-1] {
		if b.timeline == d.timeline() {
			return len(d.wal) <= up.line[i+1].at
		}
	}
	return false
}

// server is a postmaster and its processes, or what is left of them.
type server struct {
	postmaster bool // it lives
	stopped    bool // it accepts connections and answers nobody; its backends may go on
	ready      time.Duration
	running    bool
	recovery   bool
	complete   bool // a standby has read all of its WAL
	promoting  time.Duration
	begins     pg.Timeline   // the timeline that the promotion is to begin
	stopping   time.Duration // when the last process is gone; zero while it is to run
	handing    bool
	conf       map[string]string
	upstream   string // address

	// defined is the checkpointer's flag without which no commit waits; unloaded is
	// set while it has yet to read its configuration.
	defined, unloaded bool
	senders           []*sender
	waiting           []int // positions of commits that clients wait for
	receiver          *receiver
}

// sender is a walsender, with its own copy of the sync set.
type sender struct {
	standby     string
	application string
	set         pg.SyncNames
	unloaded    bool
	between     bool // it has looked at its configuration and not yet at replies
	sent        int
	flush       int
	replies     []reply
	gone        bool
}

type reply struct {
	flush int
	due   time.Duration
}

// receiver is a walreceiver.
type receiver struct {
	from   *host
	server *server
	sender *sender
}

// writable reports whether the server takes writes.
func (s *server) writable() bool {
	return s != nil && s.running && !s.recovery && !s.handing && (s.stopping == 0 || !s.postmaster)
}

func configured(f pg.ConfigFiles) map[string]string {
	values := map[string]string{
		"max_connections": "100", "max_locks_per_transaction": "64", "max_prepared_transactions": "0",
		"max_wal_senders": "10", "max_worker_processes": "8", names: "", "port": "5432",
	}
	entries, _ := pg.ParseConf(f.Managed)
	maps.Copy(values, pg.EffectiveConf(entries))
	return values
}

// boot starts PostgreSQL on the host's data directory.
func (h *host) boot(serial uint64) {
	d := &h.disk
	s := &server{postmaster: true, recovery: d.files.Standby, ready: h.w.now + tick*time.Duration(2+h.w.random.IntN(8))}
	s.load(d.files)
	s.conf[reconcile.StartedSetting] = strconv.FormatUint(serial, 10)
	s.defined = s.conf[names] != ""
	d.label, d.control = false, "in production"
	if s.recovery {
		d.control = "in archive recovery"
	}
	h.server = s
}

// load has the postmaster read the files. It signals every process, and each reads
// them when it comes to it.
func (s *server) load(f pg.ConfigFiles) {
	started := s.conf[reconcile.StartedSetting]
	s.conf = configured(f)
	s.conf[reconcile.StartedSetting] = started
	info, _ := pg.ParseConninfo(s.conf["primary_conninfo"])
	s.upstream = info["host"]
	s.unloaded = true
	for _, x := range s.senders {
		x.unloaded = true
	}
}

func (s *server) set() pg.SyncNames {
	set, err := pg.ParseSyncNames(s.conf[names])
	if err != nil {
		panic("sim: " + err.Error())
	}
	return set
}

// postgres has the processes of a host's server do something.
func (w *World) postgres(h *host) {
	s := h.server
	if s == nil {
		return
	}
	switch {
	case !s.postmaster:
		w.leftovers(h)
		return
	case s.stopping != 0 && w.now >= s.stopping:
		h.endServer()
		return
	case s.handing:
		if w.handOver(h); h.server == nil {
			return
		}
	case !s.running && w.now >= s.ready:
		s.running = true
		if !s.recovery {
			w.append(h)
		}
	case s.promoting != 0 && w.now >= s.promoting:
		w.promote(h)
	}
	if !s.running || s.stopped && w.chance(50) {
		return
	}
	if s.recovery {
		s.complete = s.complete || w.chance(30)
		w.follow(h)
	}
	w.client(h)
	w.checkpointer(h)
	for _, x := range slices.Clone(s.senders) {
		w.walsender(h, x)
	}
}

// leftovers are backends whose postmaster was killed: those inside a command go on.
func (w *World) leftovers(h *host) {
	w.client(h)
	for _, x := range slices.Clone(h.server.senders) {
		w.walsender(h, x)
	}
	if h.guard == nil && w.chance(3) {
		h.endServer()
	}
}

// append writes one record and flushes it.
func (w *World) append(h *host) int {
	w.writes++
	h.disk.wal = append(h.disk.wal, entry{h.disk.timeline(), w.writes})
	h.disk.flushed = len(h.disk.wal)
	return h.disk.flushed
}

// client commits something, now and then. It does not wait when nobody is waited for.
func (w *World) client(h *host) {
	s := h.server
	if !s.writable() || !w.chance(40) {
		return
	}
	at := w.append(h)
	if s.defined {
		s.waiting = append(s.waiting, at)
		return
	}
	w.acknowledge(h, at)
}

func (w *World) checkpointer(h *host) {
	s := h.server
	if !s.unloaded || !w.chance(15) {
		return
	}
	s.unloaded, s.defined = false, s.conf[names] != ""
	if !s.defined {
		w.release(h, len(h.disk.wal))
	}
}

// release acknowledges commits up to a position.
func (w *World) release(h *host, upTo int) {
	s := h.server
	for len(s.waiting) > 0 && s.waiting[0] <= upTo {
		w.acknowledge(h, s.waiting[0])
		s.waiting = s.waiting[1:]
	}
}

// walsender is one half of a walsender's loop: it reads its configuration, and then
// takes replies and sends what is new.
func (w *World) walsender(h *host, x *sender) {
	s := h.server
	peer := w.names[x.standby]
	x.gone = peer.server == nil || peer.server.receiver == nil || peer.server.receiver.sender != x
	if x.gone && len(x.replies) == 0 && w.chance(10) {
		s.senders = slices.DeleteFunc(s.senders, func(o *sender) bool { return o == x })
		return
	}
	if !w.chance(70) {
		return
	}
	if !x.between {
		if x.unloaded {
			x.set, x.unloaded = s.set(), false
		}
		x.between = true
		return
	}
	x.between = false
	for len(x.replies) > 0 && x.replies[0].due <= w.now && w.reaches(x.standby, h.name) {
		x.flush = max(x.flush, x.replies[0].flush)
		x.replies = x.replies[1:]
	}
	w.releaseFor(h, x)
	x.sent = h.disk.flushed
}

// releaseFor releases what enough members of the walsender's own set have.
func (w *World) releaseFor(h *host, x *sender) {
	if x.set.K == 0 || !slices.Contains(x.set.Members, x.application) {
		return
	}
	var flushed []int
	for _, o := range h.server.senders {
		if slices.Contains(x.set.Members, o.application) {
			flushed = append(flushed, o.flush)
		}
	}
	if len(flushed) < x.set.K {
		return
	}
	slices.Sort(flushed)
	w.release(h, flushed[len(flushed)-x.set.K])
}

// promote ends recovery on a new timeline: the one that is asked for, by reserving
// those before it, or else the next number of those that are known here.
func (w *World) promote(h *host) {
	s, d := h.server, &h.disk
	s.promoting, s.recovery, s.receiver = 0, false, nil
	d.flushed = len(d.wal)
	next := max(d.timeline()+1, s.begins)
	if w.bend.AnyTimeline {
		next = d.timeline() + 1
	}
	d.line = append(slices.Clip(d.line), branch{next, len(d.wal)})
	d.files.Standby, d.control = false, "in production"
	w.append(h)
	w.note("%s: promoted, timeline %d from %s", h.name, d.timeline(), lsn(d.line[len(d.line)-1].at))
}

// handOver waits until the standbys have the last record.
func (w *World) handOver(h *host) {
	s, d := h.server, &h.disk
	if d.control != "shutting down" {
		d.control = "shutting down"
		d.checkpoint = lsn(len(d.wal))
		w.append(h)
		s.waiting = nil // their clients are told with a warning, or not at all
	}
	for _, x := range s.senders {
		if !x.gone && x.flush < d.flushed && !w.chance(2) {
			return
		}
	}
	d.control = "shut down"
	h.endServer()
}

// look is what a prober sees.
func (h *host) look() pg.Server {
	s, d := h.server, &h.disk
	early := h.w.bend.DeadEarly
	switch {
	case s == nil, early && (!s.postmaster || s.stopping != 0):
		return pg.Server{State: pg.ServerStopped}
	case !s.postmaster, s.stopping != 0, s.handing:
		return pg.Server{State: pg.ServerStopping, Guarded: h.guard != nil}
	case s.stopped:
		return pg.Server{State: pg.ServerHung, Guarded: h.guard != nil}
	case !s.running:
		return pg.Server{State: pg.ServerStarting, Guarded: h.guard != nil}
	}
	out := pg.Server{
		State: pg.ServerRunning, Guarded: h.guard != nil, Recovery: s.recovery, Timeline: d.timeline(), LSN: lsn(d.flushed),
		WALComplete: s.recovery && s.complete, Settings: map[string]string{},
	}
	if len(d.line) > 1 && !s.recovery {
		out.TimelineBegan = lsn(d.line[len(d.line)-1].at)
	}
	for _, name := range reconcile.WatchedSettings() {
		if v, ok := s.conf[name]; ok {
			out.Settings[name] = v
		}
	}
	for _, slot := range slices.Sorted(maps.Keys(d.slots)) {
		out.Slots = append(out.Slots, pg.Slot{Name: slot, WALStatus: "reserved"})
	}
	for _, x := range s.senders {
		out.Senders = append(out.Senders, pg.WALSender{Application: x.application, State: "streaming", SentLSN: lsn(x.sent), FlushLSN: lsn(x.flush)})
	}
	if r := s.receiver; r != nil {
		out.Receiver = &pg.WALReceiver{Status: "streaming", Host: r.from.addr, Port: 5432, Slot: pg.SlotName(h.name), Timeline: d.timeline()}
	}
	return out
}
