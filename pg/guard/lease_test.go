package guard

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// wantFenced waits for the end and makes sure that it was the lease's.
func wantFenced(t *testing.T, w *world, c *Client) {
	t.Helper()
	waitDone(t, c)
	if n := w.processes(t); n != 0 {
		t.Errorf("%d processes survived", n)
	}
	exit, err := c.Exit()
	if err != nil {
		t.Fatal(err)
	}
	want := Exit{Signal: "killed", Requested: "lease"}
	if diff := cmp.Diff(want, exit, whenAndWho, cmpopts.IgnoreFields(Exit{}, "Cleared")); diff != "" {
		t.Error(diff)
	}
}

func renew(t *testing.T, c *Client, term uint64, ttl time.Duration) {
	t.Helper()
	if err := c.Renew(t.Context(), term, ttl); err != nil {
		t.Fatal(err)
	}
}

func TestServerIsKilledWhenItsLeaseRunsOut(t *testing.T) {
	for name, test := range map[string]struct {
		configure func(*Config)
		begin     func(t *testing.T, c *Client)
	}{
		"that it was started with": {
			func(cfg *Config) { cfg.Lease, cfg.Term = 1500*time.Millisecond, 1 },
			func(*testing.T, *Client) {},
		},
		"that began with a renewal": {
			func(*Config) {},
			func(t *testing.T, c *Client) { renew(t, c, 1, 300*time.Millisecond) },
		},
		"and the postmaster hangs": {
			func(*Config) {},
			func(t *testing.T, c *Client) {
				kill(t, c.Last().PID, syscall.SIGSTOP)
				renew(t, c, 1, 300*time.Millisecond)
			},
		},
		"while it is being stopped and waits for a session": {
			func(*Config) {},
			func(t *testing.T, c *Client) {
				renew(t, c, 1, 300*time.Millisecond)
				if err := c.Stop(t.Context(), Smart, 0); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.configure(&w.cfg)
			c := w.spawn(t)
			w.keepCommitting(t)
			test.begin(t, c)
			wantFenced(t, w, c)
		})
	}
}

func TestRenewedLeaseHolds(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	if got := c.Last().Lease; got != nil {
		t.Errorf("a server without a lease has %+v", got)
	}
	const ttl = 400 * time.Millisecond
	for begin := time.Now(); time.Since(begin) < 3*ttl; time.Sleep(ttl / 8) {
		renew(t, c, 7, ttl)
	}
	status, err := c.Status(t.Context())
	if err != nil || status.State != Running || status.Lease == nil {
		t.Fatalf("%+v, %v", status, err)
	}
	if got := *status.Lease; got.Term != 7 || got.Left <= 0 || got.Left > ttl {
		t.Errorf("the lease is %+v", got)
	}
	wantFenced(t, w, c)
	if got := c.Last().Lease; got == nil || got.Left != 0 {
		t.Errorf("in the end the lease is %+v", got)
	}
}

func TestRenewalsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	renew(t, c, 5, time.Minute)
	for name, test := range map[string]struct {
		term uint64
		ttl  time.Duration
		want error
	}{
		"for a lower term":      {4, 2 * time.Minute, ErrStaleTerm},
		"for no time":           {5, 0, ErrLate},
		"for less than no time": {6, -time.Second, ErrLate},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.Renew(t.Context(), test.term, test.ttl); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if got := c.Last().Lease; got.Term != 5 || got.Left > time.Minute || got.Left < 30*time.Second {
				t.Errorf("the lease is %+v", got)
			}
		})
	}
	t.Run("on the way for longer than the lease", func(t *testing.T) {
		_, err := c.call(t.Context(), request{Op: opRenew, Term: 5, TTLMS: 1000, SentNS: int64(bootTime() - 2*time.Second)})
		if !errors.Is(err, ErrLate) || errors.Is(err, ErrStaleTerm) {
			t.Errorf("%v, want ErrLate", err)
		}
	})
	t.Run("after the kill began", func(t *testing.T) {
		if err := c.KillTree(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Renew(t.Context(), 6, time.Minute); !errors.Is(err, ErrEnded) {
			t.Errorf("%v, want ErrEnded", err)
		}
		waitDone(t, c)
		if exit, _ := c.Exit(); exit.Requested != "kill" {
			t.Errorf("%+v", exit)
		}
	})
}

func TestLeaseCountsFromWhenItWasAskedFor(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	for name, test := range map[string]struct {
		sent time.Duration // relative to now; zero is not sent at all
		most time.Duration
	}{
		"a renewal that was underway for a while": {-20 * time.Second, 40 * time.Second},
		"one that does not say when":              {0, time.Minute},
		"one from the future":                     {time.Hour, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			r := request{Op: opRenew, Term: 1, TTLMS: time.Minute.Milliseconds()}
			if test.sent != 0 {
				r.SentNS = int64(bootTime() + test.sent)
			}
			status, err := c.call(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if got := status.Lease.Left; got > test.most || got < test.most-10*time.Second {
				t.Errorf("left is %s, want at most %s", got, test.most)
			}
		})
	}
}

func TestGuardThatWasStoppedFencesBeforeItListens(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	w.keepCommitting(t)
	conn, err := net.Dial("unix", w.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	renew(t, c, 1, time.Second)
	guardPID := c.Last().GuardPID
	kill(t, guardPID, syscall.SIGSTOP)
	time.Sleep(1200 * time.Millisecond)
	if w.processes(t) == 0 {
		t.Fatal("the server is gone already, so this test shows nothing")
	}
	answered := make(chan error, 1)
	go func() { answered <- c.Renew(t.Context(), 1, time.Minute) }()
	// An old ramd's renewal says nothing of when it was sent.
	fmt.Fprintln(conn, `{"v":1,"id":1,"op":"renew","term":2,"ttl_ms":60000}`)
	time.Sleep(50 * time.Millisecond) // both are in the socket
	kill(t, guardPID, syscall.SIGCONT)
	if err := <-answered; !errors.Is(err, ErrEnded) {
		t.Errorf("the renewal that waited: %v, want ErrEnded", err)
	}
	wantFenced(t, w, c)
}

func TestServerIsNotStartedUnderALeaseThatIsOver(t *testing.T) {
	w := newWorld(t)
	w.cfg.Lease, w.cfg.Term = time.Nanosecond, 1
	refused(t, w, "the lease ran out before")
	if n := w.processes(t); n != 0 {
		t.Errorf("%d processes run", n)
	}
}

func TestWatchdogIsFedWhileTheLeaseHolds(t *testing.T) {
	// A pipe stands for the device: each write of it can be seen.
	pipe := func(t *testing.T, w *world) *os.File {
		t.Helper()
		path := filepath.Join(w.dir, "watchdog")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		w.cfg.Watchdog = path
		return f
	}
	written := func(t *testing.T, f *os.File) string {
		t.Helper()
		_ = f.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		all := make([]byte, 1000)
		n, err := f.Read(all)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return string(all[:n])
	}
	t.Run("not without a lease", func(t *testing.T) {
		w := newWorld(t)
		f := pipe(t, w)
		c := w.spawn(t)
		if err := c.Stop(t.Context(), Fast, 0); err != nil {
			t.Fatal(err)
		}
		waitDone(t, c)
		if got := written(t, f); got != "" {
			t.Errorf("wrote %q", got)
		}
	})
	t.Run("until the server has ended", func(t *testing.T) {
		w := newWorld(t)
		f := pipe(t, w)
		c := w.spawn(t)
		renew(t, c, 1, time.Minute)
		all := ""
		waitFor(t, "three writes", func() bool { all += written(t, f); return len(all) >= 3 })
		if err := c.Stop(t.Context(), Fast, 0); err != nil {
			t.Fatal(err)
		}
		waitDone(t, c)
		all += written(t, f)
		if strings.Trim(all, ".") != "V" || !strings.HasSuffix(all, "V") {
			t.Errorf("wrote %q, want dots and one V at the end", all)
		}
	})
	t.Run("not while the guard is stopped", func(t *testing.T) {
		w := newWorld(t)
		f := pipe(t, w)
		w.cfg.Lease, w.cfg.Term = time.Minute, 1
		c := w.spawn(t)
		kill(t, c.Last().GuardPID, syscall.SIGSTOP)
		before := written(t, f)
		time.Sleep(3 * feedEvery)
		if got := written(t, f); before == "" || got != "" {
			t.Errorf("wrote %q and then %q", before, got)
		}
		kill(t, c.Last().GuardPID, syscall.SIGCONT)
	})
	t.Run("one that is missing is warned of", func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Watchdog = filepath.Join(w.dir, "none")
		w.cfg.Lease, w.cfg.Term = time.Minute, 1
		c := w.spawn(t)
		renew(t, c, 1, time.Minute)
		text, err := os.ReadFile(w.cfg.GuardLog)
		if err != nil || strings.Count(string(text), "the kernel watchdog cannot be used") != 1 {
			t.Errorf("%v, the log is:\n%s", err, text)
		}
	})
}

func TestOlderGuardIsToldFromARefusal(t *testing.T) {
	w := newWorld(t)
	c := w.spawn(t)
	_, err := c.call(t.Context(), request{Op: "what a later ramd wants"})
	if !errors.Is(err, ErrUnknownOp) || errors.Is(err, ErrEnded) {
		t.Errorf("%v, want ErrUnknownOp", err)
	}
}
