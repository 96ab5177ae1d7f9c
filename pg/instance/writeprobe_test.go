package instance

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

func writeProbe(t *testing.T, n *node, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return n.WriteProbe(ctx)
}

func TestWriteProbe(t *testing.T) {
	a, b := pair(t)
	for name, n := range map[string]*node{"primary": a, "standby": b} {
		t.Run(name, func(t *testing.T) {
			before := probe(t, n).LSN
			if err := writeProbe(t, n, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			if n == a && probe(t, n).LSN <= before {
				t.Error("nothing reached the disk")
			}
		})
	}
	t.Run("waits for no standby", func(t *testing.T) {
		a.write(t, files("synchronous_standby_names = 'nobody'"))
		waitFor(t, "the setting", func() bool {
			return probe(t, a, "synchronous_standby_names").Settings["synchronous_standby_names"] == "nobody"
		})
		if err := writeProbe(t, a, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Run("shares nothing with a probe under way", func(t *testing.T) {
		a.prober.busy <- struct{}{}
		defer a.prober.leave()
		if err := writeProbe(t, a, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Run("a postmaster that hangs is seen, though kept sessions work", func(t *testing.T) {
		probe(t, a)
		pid := a.guarded().Last().PID
		kill(t, pid, syscall.SIGSTOP)
		defer kill(t, pid, syscall.SIGCONT)
		if got := probe(t, a).State; got != pg.ServerRunning {
			t.Errorf("over the kept session it is %s", got)
		}
		if err := writeProbe(t, a, 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
	})
	t.Run("a commit that hangs is seen, though sessions answer", func(t *testing.T) {
		// commit_delay, which has a commit wait right before it is flushed, stands for a
		// slow disk.
		a.write(t, files("commit_delay = 100000", "commit_siblings = 0", "fsync = on"))
		waitFor(t, "the setting", func() bool { return probe(t, a, "commit_delay").Settings["commit_delay"] != "0" })
		if got := probe(t, a).State; got != pg.ServerRunning {
			t.Errorf("it is %s", got)
		}
		if err := writeProbe(t, a, 80*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
		if err := writeProbe(t, a, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Run("a server that is down", func(t *testing.T) {
		b.stop(t)
		wantError(t, writeProbe(t, b, time.Second), nil, "write probe")
	})
}

func TestLeasedServer(t *testing.T) {
	n := newPrimary(t)
	wantError(t, n.Renew(t.Context(), 1, time.Minute), guard.ErrNotRunning)
	if err := n.Start(t.Context(), StartOptions{Lease: time.Minute, Term: 3}); err != nil {
		t.Fatal(err)
	}
	if got := n.guarded().Last().Lease; got == nil || got.Term != 3 || got.Left > time.Minute {
		t.Errorf("it was started with %+v", got)
	}
	wantError(t, n.Renew(t.Context(), 2, time.Minute), guard.ErrStaleTerm)
	if err := n.Renew(t.Context(), 4, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	waitClosed(t, "its end", n.Exited())
	if exit, err := n.Exit(); err != nil || exit.Requested != "lease" {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestLaunchNote(t *testing.T) {
	n := newNode(t, "a")
	if got, err := n.Launched(); got != 0 || err != nil {
		t.Errorf("before the first: %d, %v", got, err)
	}
	for _, serial := range []uint64{7, 1<<63 + 1, 3} {
		if err := n.NoteLaunch(serial); err != nil {
			t.Fatal(err)
		}
		if got, err := open(t, n.cfg).Launched(); got != serial || err != nil {
			t.Errorf("%d, %v; want %d", got, err, serial)
		}
	}
}
