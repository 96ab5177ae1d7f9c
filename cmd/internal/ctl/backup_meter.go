package ctl

import (
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// meterSpan is the time over which a rate is told.
const meterSpan = 10 * time.Second

// meter measures how fast one phase of a job gets on, by the clock of the node that does
// it: answers that come late or twice do not distort it. The zero meter has seen nothing.
type meter struct {
	first   moved
	samples []moved // oldest first, within meterSpan
}

// moved is how much had been done after how long.
type moved struct {
	at   time.Duration
	done pg.Bytes
}

func (m *meter) read(r reconcile.JobReport) {
	now := moved{r.For, r.Done}
	if len(m.samples) == 0 {
		m.first = now
	} else if last := m.samples[len(m.samples)-1]; now.at <= last.at {
		return
	} else if now.done < last.done { // it counts something else now
		*m = meter{first: now}
	}
	m.samples = append(m.samples, now)
	for len(m.samples) > 2 && now.at-m.samples[1].at >= meterSpan {
		m.samples = m.samples[1:]
	}
}

// rate is in bytes per second, of late; zero while it cannot be told.
func (m *meter) rate() float64 {
	if len(m.samples) == 0 {
		return 0
	}
	return m.since(m.samples[0])
}

// mean is the rate from the beginning.
func (m *meter) mean() float64 { return m.since(m.first) }

func (m *meter) since(from moved) float64 {
	if len(m.samples) == 0 {
		return 0
	}
	last := m.samples[len(m.samples)-1]
	span := last.at - from.at
	if span < time.Second {
		return 0
	}
	return float64(last.done-from.done) / span.Seconds()
}
