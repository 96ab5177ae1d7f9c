package instance

import (
	"context"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
)

// severed is the configuration of a standby that may not connect.
func severed(settings ...string) pg.ConfigFiles {
	f := files(append(settings, "primary_conninfo = ''", "primary_slot_name = ''")...)
	f.Standby = true
	return f
}

// pair is a primary and a standby that streams. Settings are the standby's.
func pair(t *testing.T, settings ...string) (a, b *node) {
	t.Helper()
	a = startPrimary(t)
	a.sql(t, "CREATE TABLE public.t AS SELECT 1 AS n")
	b = newNode(t, "b").clone(t, a)
	b.follow(t, a, settings...)
	b.start(t)
	waitFor(t, "streaming", func() bool { return probe(t, b).Receiver.Streaming() })
	return a, b
}

// follow writes the configuration of a standby of a, and loads it where a server runs.
func (n *node) follow(t *testing.T, a *node, settings ...string) {
	t.Helper()
	f := standbyFiles(a, "ram_b")
	f.Managed += strings.Join(settings, "\n") + "\n"
	n.write(t, f)
}

func (n *node) write(t *testing.T, f pg.ConfigFiles) {
	t.Helper()
	if err := n.WriteConfig(f); err != nil {
		t.Fatal(err)
	}
	if pid, _ := n.postmaster(); pid != 0 {
		if err := n.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func freeze(t *testing.T, n *node) Frozen {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f, err := n.Freeze(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// acknowledging watches what a primary is told to be flushed by its standby.
func acknowledged(t *testing.T, a *node) pg.LSN {
	t.Helper()
	lsn, err := pg.ParseLSN(a.sql(t, `SELECT coalesce(max(flush_lsn), '0/0')::text FROM pg_stat_replication`))
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// writing keeps a primary writing until the test ends.
func writing(t *testing.T, a *node) {
	t.Helper()
	var stop atomic.Bool
	done := make(chan struct{})
	conn, err := a.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		defer conn.Close(context.Background())
		for !stop.Load() {
			if _, err := conn.Exec(context.Background(), "INSERT INTO public.t VALUES (2)"); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { stop.Store(true); <-done })
}

// blockReplay makes a record on the primary wait for a query on the standby. The
// standby needs max_standby_streaming_delay = -1.
func blockReplay(t *testing.T, a, b *node) {
	t.Helper()
	conn, err := b.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	for _, statement := range []string{
		"SET application_name = 'a client'", "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM public.t",
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	a.sql(t, "DROP TABLE public.t")
	a.sql(t, "CREATE TABLE public.t AS SELECT 1 AS n")
	waitFor(t, "a blocked replay", func() bool { return reading(t, b).blocked() })
}

func reading(t *testing.T, n *node) (r walReading) {
	t.Helper()
	err := n.withSession(t.Context(), func(conn *pgx.Conn) (err error) {
		r, err = readWALReading(t.Context(), conn)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFrozenStandbyAcknowledgesNothingMore(t *testing.T) {
	patient := "max_standby_streaming_delay = -1"
	for name, prepare := range map[string]func(t *testing.T, a, b *node){
		"streaming": func(*testing.T, *node, *node) {},
		"paused replay": func(t *testing.T, _, b *node) {
			b.sql(t, "SELECT pg_wal_replay_pause()")
			waitFor(t, "the pause", func() bool { return probe(t, b).ReplayPaused })
		},
		"blocked replay": blockReplay,
		"blocked replay, the receiver gone already": func(t *testing.T, a, b *node) {
			blockReplay(t, a, b)
			if err := b.WriteConfig(severed(patient)); err != nil {
				t.Fatal(err)
			}
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			kill(t, reading(t, b).receiver, syscall.SIGTERM)
			waitFor(t, "no receiver", func() bool { return reading(t, b).receiver == 0 })
		},
		"paused replay, the receiver gone already": func(t *testing.T, a, b *node) {
			b.sql(t, "SELECT pg_wal_replay_pause()")
			if err := b.WriteConfig(severed(patient)); err != nil {
				t.Fatal(err)
			}
			if err := b.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			if pid := reading(t, b).receiver; pid != 0 {
				kill(t, pid, syscall.SIGTERM)
			}
			waitFor(t, "no receiver", func() bool { return reading(t, b).receiver == 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, patient)
			prepare(t, a, b)
			paused := probe(t, b).ReplayPaused
			writing(t, a)
			if err := b.WriteConfig(severed(patient)); err != nil {
				t.Fatal(err)
			}
			first := freeze(t, b)
			if !first.Complete || first.Timeline != 1 || first.LSN == 0 {
				t.Errorf("%+v", first)
			}
			if got := acknowledged(t, a); got > first.LSN {
				t.Errorf("%s was acknowledged, it says %s", got, first.LSN)
			}
			time.Sleep(1500 * time.Millisecond) // longer than a receiver needs to come back
			if pid := reading(t, b).receiver; pid != 0 {
				t.Errorf("a walreceiver is there: %d", pid)
			}
			if again := freeze(t, b); again != first {
				t.Errorf("it was %+v and is %+v", first, again)
			}
			server := probe(t, b)
			if server.LSN != first.LSN || !server.WALComplete || server.ReplayPaused != paused {
				t.Errorf("the probe says %+v", server)
			}
			if primary := probe(t, a); primary.LSN <= first.LSN {
				t.Error("nothing was written meanwhile, so this test shows nothing")
			}
		})
	}
}

func TestFrozenStandbyFollowsAgainWhenTold(t *testing.T) {
	a, b := pair(t)
	if err := b.WriteConfig(severed()); err != nil {
		t.Fatal(err)
	}
	freeze(t, b)
	b.follow(t, a)
	waitFor(t, "streaming", func() bool { return probe(t, b).Receiver.Streaming() })
	writing(t, a)
	if err := b.WriteConfig(severed()); err != nil {
		t.Fatal(err)
	}
	first := freeze(t, b)
	time.Sleep(300 * time.Millisecond)
	if again := freeze(t, b); again != first {
		t.Errorf("it was %+v and is %+v", first, again)
	}
}

func TestStandbyThatWasRestartedKnowsItsEndOnceItHasReadAll(t *testing.T) {
	a, b := pair(t)
	b.sql(t, "SELECT pg_wal_replay_pause()")
	a.sql(t, "INSERT INTO public.t SELECT generate_series(1, 1000)")
	end := probe(t, a).LSN
	waitFor(t, "all WAL at the standby", func() bool { return probe(t, b).LSN >= end })
	want := probe(t, b).LSN
	kill(t, probe(t, b).PID, syscall.SIGKILL)
	waitClosed(t, "its end", b.Exited())
	b.write(t, severed())
	b.start(t)
	got := freeze(t, b)
	for !got.Complete {
		got = freeze(t, b)
	}
	if diff := cmp.Diff(Frozen{LSN: want, Timeline: 1, Complete: true}, got); diff != "" {
		t.Error(diff)
	}
	if server := probe(t, b); server.LSN != want || !server.WALComplete {
		t.Errorf("the probe says %+v", server)
	}
}

func TestWhatCannotBeFrozen(t *testing.T) {
	a, b := pair(t)
	_, err := a.Freeze(t.Context())
	wantError(t, err, ErrNotStandby)
	_, err = b.Freeze(t.Context())
	wantError(t, err, ErrConnects)
}
