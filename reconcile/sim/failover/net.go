package failover

import (
	"slices"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// message is one on its way between ramds.
type message struct {
	from, to string
	due      time.Duration

	report  *reconcile.Report
	answer  *answer
	beat    *beat
	bar     *bar
	inquiry *inquiry
	// asked is when, by the clock of the one that asked, the question was sent.
	asked time.Duration
}

// answer is what a leader tells an agent.
type answer struct {
	assignment reconcile.Assignment
	// verified is set when a majority confirmed, after the report had come, that
	// the one that answers leads.
	verified bool
	hold     bool
}

// beat asks a voter to confirm a lease; confirmed is set in the voter's answer.
type beat struct {
	node      string
	term      uint64
	confirmed bool
	// alone is set when the voter is the leader, verified, so that no other is needed.
	alone bool
}

// bar has a voter refuse the leases of terms below; confirmed is set in the answer.
type bar struct {
	term      uint64
	confirmed bool
}

// inquiry asks a node whether the primary's PostgreSQL answers it.
type inquiry struct {
	primary string
	answers bool
	reply   bool
}

// reaches reports whether packets get from one host to another.
func (w *World) reaches(from, to string) bool {
	return from == to || !w.cut[[2]string{from, to}] && w.names[from].runs() && w.names[to].runs()
}

// talks reports whether packets get there and back.
func (w *World) talks(a, b string) bool { return w.reaches(a, b) && w.reaches(b, a) }

// send puts a message on its way, or loses it, or doubles it.
func (w *World) send(m message) {
	if m.from != m.to && (!w.reaches(m.from, m.to) || w.random.IntN(100) < w.loss) {
		return
	}
	m.due = w.now
	if m.from != m.to {
		m.due += tick * time.Duration(w.random.IntN(2))
		if w.loss > 0 && w.chance(10) {
			m.due += tick * time.Duration(w.random.IntN(100))
		}
	}
	w.mail = append(w.mail, m)
	if w.loss > 0 && m.from != m.to && w.chance(5) {
		m.due += tick * time.Duration(w.random.IntN(100))
		w.mail = append(w.mail, m)
	}
}

// deliver hands over what is due, in random order.
func (w *World) deliver() {
	var due []message
	w.mail = slices.DeleteFunc(w.mail, func(m message) bool {
		if m.due <= w.now {
			due = append(due, m)
			return true
		}
		return false
	})
	w.random.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for _, m := range due {
		to := w.names[m.to]
		switch {
		case !to.up:
		case !to.runs() || to.ramd != nil && to.ramd.stopped:
			m.due = w.now + tick // the kernel keeps it
			w.mail = append(w.mail, m)
		case to.ramd != nil:
			w.receive(to, m)
			w.check()
		}
	}
}

func (w *World) receive(h *host, m message) {
	switch {
	case m.report != nil:
		h.hearReport(m)
	case m.answer != nil:
		h.hearAnswer(m)
	case m.beat != nil && m.beat.confirmed:
		h.hearConfirmation(m)
	case m.beat != nil:
		h.hearBeat(m)
	case m.bar != nil:
		h.hearBar(m)
	case m.inquiry != nil:
		h.hearInquiry(m)
	}
}
