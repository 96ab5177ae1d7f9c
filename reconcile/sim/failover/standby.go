package failover

import (
	"slices"
	"time"

	"github.com/ramhq/ram/pg"
)

// follow is what a standby's startup process and walreceiver do.
func (w *World) follow(h *host) {
	s := h.server
	r := s.receiver
	if r != nil && (r.from.addr != s.upstream || r.from.server != r.server || !r.server.postmaster && w.chance(20)) {
		h.endReceiver()
		return
	}
	switch {
	case s.upstream == "" || s.promoting != 0:
	case r == nil:
		w.connect(h)
	case !w.talks(h.name, r.from.name):
		if w.chance(1) {
			h.endReceiver()
		}
	default:
		w.take(h, r)
	}
}

// endReceiver ends a walreceiver, which flushes what it has written before.
func (h *host) endReceiver() {
	h.disk.flushed, h.server.receiver = len(h.disk.wal), nil
}

func (w *World) connect(h *host) {
	if !w.chance(30) {
		return
	}
	for _, up := range w.hosts {
		if up == h || up.addr != h.server.upstream || up.server == nil || !w.talks(h.name, up.name) {
			continue
		}
		s := up.server
		if !s.running || !s.postmaster || s.stopped || s.stopping != 0 || s.handing || !up.disk.slots[pg.SlotName(h.name)] || !follows(&h.disk, &up.disk) {
			return
		}
		x := &sender{standby: h.name, application: pg.ApplicationName(h.name), set: s.set()}
		s.senders = append(slices.DeleteFunc(s.senders, func(o *sender) bool { return o.standby == h.name }), x)
		h.server.receiver = &receiver{from: up, server: s, sender: x}
		w.checkConnection(h, up)
	}
}

// take writes what came, flushes it, and says so.
func (w *World) take(h *host, r *receiver) {
	if h.slow && !w.chance(2) {
		return
	}
	d, up := &h.disk, &r.from.disk
	if sent := min(r.sender.sent, up.flushed); sent > len(d.wal) {
		upTo := len(d.wal) + 1 + w.random.IntN(sent-len(d.wal))
		w.checkConnection(h, r.from)
		d.wal = append(d.wal, up.wal[len(d.wal):upTo]...)
		d.line = lineOf(d, up)
	}
	if w.chance(70) {
		d.flushed = len(d.wal)
	}
	if w.chance(80) {
		r.sender.replies = append(r.sender.replies, reply{d.flushed, w.now + tick*time.Duration(w.random.IntN(3))})
	}
}

// lineOf is the history of a standby that has taken WAL from up.
func lineOf(d, up *disk) []branch {
	line := slices.Clone(up.line)
	for len(line) > 1 && line[len(line)-1].at >= len(d.wal) && line[len(line)-1].timeline != d.timeline() {
		line = line[:len(line)-1]
	}
	return line
}
