package faults

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// outage is one way in which clients lose their primary.
type outage struct {
	name string
	// withLeader says that the Raft leader has to be on the primary's host.
	withLeader bool
	strike     func(c *Cluster, primary string)
}

// outages are what a client's outage is measured for. Each strike is on a whole
// cluster, which is mended after it.
var outages = []outage{
	{"postmaster killed", false, (*Cluster).KillPostmaster},
	{"host killed", false, (*Cluster).KillHost},
	{"host cut off", false, func(c *Cluster, primary string) { c.Net.Cut(primary) }},
	{"host with Raft leader cut off", true, func(c *Cluster, primary string) { c.Net.Cut(primary) }},
	{"switchover", false, func(c *Cluster, _ string) {
		if r := c.Ctl("switchover", "--auto-approve"); r.Code != 0 {
			c.t.Fatalf("switchover: %s\n%s", r, c.Picture())
		}
	}},
}

// BenchmarkOutage measures how long a client cannot write that does so every 5 ms and
// gives an answer 100 ms, through the DSN that ramctrl prints. Its time is the median of
// RAM_BENCH_RUNS runs (10), each checked for writes that are lost.
func BenchmarkOutage(b *testing.B) {
	runs, err := strconv.Atoi(os.Getenv("RAM_BENCH_RUNS"))
	if err != nil || runs < 1 {
		runs = 10
	}
	for _, detect := range []string{"1s", "300ms"} {
		for _, o := range outages {
			b.Run("detect "+detect+"/"+o.name, func(b *testing.B) {
				s := threeNodes
				s.Cluster = "  failover { detect = \"" + detect + "\" }"
				c := New(b, s)
				c.Form()
				var measured []time.Duration
				for b.Loop() {
					measured = measured[:0]
					for range runs {
						measured = append(measured, c.measure(o))
					}
				}
				slices.Sort(measured)
				b.ReportMetric(float64(quantile(measured, 0.5)), "ns/op")
				b.ReportMetric(float64(quantile(measured, 0.95))/1e6, "p95-ms")
				b.ReportMetric(float64(measured[len(measured)-1])/1e6, "max-ms")
			})
		}
	}
}

// measure is how long a client's outage is when the primary is struck.
func (c *Cluster) measure(o outage) time.Duration {
	c.t.Helper()
	primary := c.AwaitConverged().Primary
	w := c.StartWriter(Pace{Timeout: 100 * time.Millisecond})
	c.AwaitAcknowledged(w, 100)
	if o.withLeader && !c.PutLeaderBesidePrimary() {
		c.t.Fatalf("the Raft leader is never on the primary's host\n%s", c.Picture())
	}
	begin := time.Now()
	o.strike(c, primary)
	c.AwaitNewPrimary(primary)
	c.AwaitAcknowledged(w, 100)
	l := w.Stop()
	c.Mend()
	c.CheckLedger(c.CheckWhole().Primary, l)
	return l.LongestOutageSince(begin).Length()
}

// quantile is the smallest of sorted values that at least a share of them do not exceed.
func quantile(sorted []time.Duration, share float64) time.Duration {
	at := 0
	for float64(at+1) < share*float64(len(sorted)) {
		at++
	}
	return sorted[at]
}

func TestQuantile(t *testing.T) {
	values := []time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for share, want := range map[float64]time.Duration{0: 1, 0.5: 5, 0.95: 10, 1: 10} {
		if got := quantile(values, share); got != want {
			t.Errorf("of ten values, %v are not above %d, want %d", share, got, want)
		}
	}
}
