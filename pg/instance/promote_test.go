package instance

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/ramhq/ram/pg"
)

func promote(t *testing.T, n *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := n.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	n.sql(t, "CREATE TABLE public.written ()")
	n.sql(t, "DROP TABLE public.written")
}

func TestPromotedStandbyTakesWritesAndHasAllThatItReceived(t *testing.T) {
	for name, test := range map[string]struct {
		settings []string
		prepare  func(t *testing.T, a, b *node)
		frozen   bool
	}{
		"plain":  {nil, func(*testing.T, *node, *node) {}, false},
		"frozen": {nil, func(*testing.T, *node, *node) {}, true},
		"its primary has just died": {[]string{"wal_retrieve_retry_interval = '5s'"}, func(t *testing.T, a, b *node) {
			kill(t, probe(t, a).PID, syscall.SIGKILL)
			waitFor(t, "the end of streaming", func() bool { return reading(t, b).receiver == 0 })
		}, false},
		"frozen, its primary has just died": {[]string{"wal_retrieve_retry_interval = '5s'"}, func(t *testing.T, a, b *node) {
			kill(t, probe(t, a).PID, syscall.SIGKILL)
			waitFor(t, "the end of streaming", func() bool { return reading(t, b).receiver == 0 })
		}, true},
		"paused replay": {nil, func(t *testing.T, a, b *node) {
			b.sql(t, "SELECT pg_wal_replay_pause()")
			waitFor(t, "the pause", func() bool { return reading(t, b).event == "RecoveryPause" })
			a.sql(t, "INSERT INTO public.t SELECT generate_series(1, 1000)")
			end := probe(t, a).LSN
			waitFor(t, "all WAL at the standby", func() bool { return probe(t, b).LSN >= end })
		}, true},
		"blocked replay":             {[]string{"max_standby_streaming_delay = -1"}, blockReplay, true},
		"blocked replay, not frozen": {[]string{"max_standby_streaming_delay = -1"}, blockReplay, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, test.settings...)
			test.prepare(t, a, b)
			received := probe(t, b).LSN
			if test.frozen {
				if err := b.WriteConfig(severed(test.settings...)); err != nil {
					t.Fatal(err)
				}
				if got := freeze(t, b); got.LSN < received || !got.Complete {
					t.Errorf("frozen at %+v, received %s", got, received)
				}
			}
			promote(t, b)
			server := probe(t, b)
			if server.Recovery || server.Timeline != 2 || server.TimelineBegan < received || server.TimelineBegan > server.LSN {
				t.Errorf("%+v, received %s", server, received)
			}
			if inspect(t, b).Standby {
				t.Error("standby.signal is there")
			}
			t.Run("again is once", func(t *testing.T) {
				promote(t, b)
				if got := probe(t, b).Timeline; got != 2 {
					t.Errorf("timeline %d", got)
				}
			})
		})
	}
}

func TestPromotionThatWasCutShortIsRepeated(t *testing.T) {
	for _, after := range []time.Duration{0, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			_, b := pair(t)
			if err := b.WriteConfig(severed()); err != nil {
				t.Fatal(err)
			}
			frozen := freeze(t, b)
			pid := probe(t, b).PID
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- b.Promote(ctx) }()
			time.Sleep(after)
			kill(t, pid, syscall.SIGKILL)
			<-done // either way
			waitClosed(t, "its end", b.Exited())
			b.start(t)
			promote(t, b)
			server := probe(t, b)
			if server.Recovery || server.Timeline != 2 || server.TimelineBegan < frozen.LSN {
				t.Errorf("%+v, frozen at %+v", server, frozen)
			}
		})
	}
}

func TestStandbyWhosePromotionWasReservedAndNotDoneStartsAgain(t *testing.T) {
	_, b := pair(t)
	if err := b.ReserveTimelines(4); err != nil {
		t.Fatal(err)
	}
	crash(t, b)
	b.start(t)
	waitFor(t, "streaming", func() bool { return probe(t, b).Receiver.Streaming() })
	if err := b.ReserveTimelines(4); err != nil {
		t.Fatal(err)
	}
	promote(t, b)
	if got := probe(t, b).Timeline; got != 4 {
		t.Errorf("timeline %d", got)
	}
}

func TestPromotionOfAServerThatDoesNotRun(t *testing.T) {
	n := newPrimary(t)
	wantError(t, n.Promote(t.Context()), nil, "promote")
}

func TestHistoryOfATimeline(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		want  pg.LSN
		fails bool
	}{
		"one":          {"1\t0/3000148\tno recovery target specified\n", 0x3000148, false},
		"the last one": {"1\t0/3000148\tx\n\n2\t1/A\tno recovery target specified\n", 0x10000000A, false},
		"comments":     {"# 9\t0/9\n1\t0/5\tx\n", 5, false},
		"empty":        {"", 0, false},
		"cut off":      {"1\n", 0, true},
		"no timeline":  {"x\t0/5\n", 0, true},
		"no position":  {"1\tthere\n", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := lastSwitch(test.text)
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}
