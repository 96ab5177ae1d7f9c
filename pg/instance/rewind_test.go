package instance

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ramhq/ram/pg"
)

// rewindOptions rewind a clone or a first node of generation 1 or 2 to a primary for
// term 7.
func rewindOptions(t *testing.T, n, to *node) RewindOptions {
	t.Helper()
	return RewindOptions{
		Source:   pg.Conninfo{"host": "127.0.0.1", "port": strconv.Itoa(to.cfg.Port), "user": Superuser},
		Password: password, Generation: inspect(t, n).Generation, Term: 7,
	}
}

// failOver freezes b and promotes it. Between, what happens to a happens: b does not
// get it.
func failOver(t *testing.T, a, b *node, diverge func()) {
	t.Helper()
	if err := b.WriteConfig(severed()); err != nil {
		t.Fatal(err)
	}
	freeze(t, b)
	diverge()
	promote(t, b)
	if err := b.CreateSlot(t.Context(), "ram_b"); err != nil {
		t.Fatal(err)
	}
	b.sql(t, "INSERT INTO public.t VALUES (100)")
}

// crash ends a server without any shutdown.
func crash(t *testing.T, n *node) {
	t.Helper()
	if err := n.KillTree(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// wantFollows starts a rewound directory and makes sure that it has what its primary
// has, and nothing else.
func wantFollows(t *testing.T, n, primary *node, generation uint64) {
	t.Helper()
	there := inspect(t, n)
	if there.Rewinding || there.Follows != 7 || there.Generation != generation || !there.Standby {
		t.Errorf("the directory is %+v", there)
	}
	mark, _, err := readMarker(n.DataDir())
	if err != nil || mark.Node != n.cfg.Name {
		t.Errorf("it is marked %+v, %v", mark, err)
	}
	n.follow(t, primary)
	n.start(t)
	waitFor(t, "streaming", func() bool { return probe(t, n).Receiver.Streaming() })
	primary.sql(t, "INSERT INTO public.t VALUES (101)")
	end := probe(t, primary).LSN
	waitFor(t, "an even standby", func() bool { return probe(t, n).ReplayLSN >= end })
	const contents = "SELECT string_agg(n::text, ',' ORDER BY n) FROM public.t"
	if got, want := n.sql(t, contents), primary.sql(t, contents); got != want || !strings.Contains(got, "100") {
		t.Errorf("it has %s, its primary %s", got, want)
	}
	if got := probe(t, n).Timeline; got != probe(t, primary).Timeline {
		t.Errorf("it is on timeline %d", got)
	}
}

func rewind(t *testing.T, n, to *node) {
	t.Helper()
	if err := n.Rewind(t.Context(), rewindOptions(t, n, to)); err != nil {
		t.Fatal(err)
	}
}

func TestFormerPrimaryIsRewound(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, a *node){
		"crashed": func(t *testing.T, a *node) {
			a.sql(t, "INSERT INTO public.t VALUES (66)")
			crash(t, a)
		},
		"crashed after a checkpoint of its own": func(t *testing.T, a *node) {
			a.sql(t, "INSERT INTO public.t VALUES (66)")
			a.sql(t, "CHECKPOINT")
			a.sql(t, "INSERT INTO public.t VALUES (67)")
			crash(t, a)
		},
		"stopped": func(t *testing.T, a *node) {
			a.sql(t, "INSERT INTO public.t VALUES (66)")
			a.stop(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			before, err := a.ReadConfig()
			if err != nil {
				t.Fatal(err)
			}
			failOver(t, a, b, func() { end(t, a) })
			rewind(t, a, b)
			before.Standby = true
			if got, err := a.ReadConfig(); err != nil || got != before {
				t.Errorf("it has another configuration than before: %v, %+v", err, got)
			}
			// Nobody has to be there for what is done already.
			o := rewindOptions(t, a, b)
			o.Source["port"] = "1"
			if err := a.Rewind(t.Context(), o); err != nil {
				t.Errorf("again: %v", err)
			}
			wantFollows(t, a, b, 1)
			noLeftovers(t, a)
		})
	}
}

func TestFormerPrimaryWhoseLastRecordIsOnTheNewOneNeedsNoRewind(t *testing.T) {
	a, b := pair(t)
	a.stop(t)
	failOver(t, a, b, func() {})
	before := inspect(t, a)
	rewind(t, a, b)
	if got := inspect(t, a); got.Checkpoint != before.Checkpoint || got.ControlState != "shut down" {
		t.Errorf("it was changed: %+v", got)
	}
	wantFollows(t, a, b, 1)
}

func TestStandbyAheadOfTheForkIsRewound(t *testing.T) {
	for name, test := range map[string]struct {
		paused bool
		end    func(t *testing.T, c *node)
		state  string
	}{
		"stopped":                            {false, func(t *testing.T, c *node) { c.stop(t) }, "shut down in recovery"},
		"stopped, received but not replayed": {true, func(t *testing.T, c *node) { c.stop(t) }, "shut down in recovery"},
		"crashed":                            {false, crash, "in archive recovery"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			if err := a.CreateSlot(t.Context(), "ram_c"); err != nil {
				t.Fatal(err)
			}
			c := newNode(t, "c")
			o := cloneOptions(t, a)
			o.Slot, o.Files, o.Generation = "ram_c", standbyFiles(a, "ram_c"), 3
			if err := c.Clone(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			c.start(t)
			waitFor(t, "streaming", func() bool { return probe(t, c).Receiver.Streaming() })
			failOver(t, a, b, func() {
				if test.paused {
					c.sql(t, "SELECT pg_wal_replay_pause()")
				}
				a.sql(t, "INSERT INTO public.t VALUES (66)")
				end := probe(t, a).LSN
				waitFor(t, "WAL at the third", func() bool {
					s := probe(t, c)
					return s.LSN >= end && (test.paused || s.ReplayLSN >= end)
				})
				test.end(t, c)
				crash(t, a)
			})
			if got := inspect(t, c).ControlState; got != test.state {
				t.Fatalf("it is left %q", got)
			}
			rewind(t, c, b)
			wantFollows(t, c, b, 3)
		})
	}
}

// Its recovery writes a checkpoint where the others have something else, and which
// pg_rewind takes for what they have.
func TestStandbyThatEndsBeforeTheForkIsNotRewound(t *testing.T) {
	a, b := pair(t)
	if err := a.CreateSlot(t.Context(), "ram_c"); err != nil {
		t.Fatal(err)
	}
	c := newNode(t, "c")
	o := cloneOptions(t, a)
	o.Slot, o.Files, o.Generation = "ram_c", standbyFiles(a, "ram_c"), 3
	if err := c.Clone(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	waitFor(t, "streaming", func() bool { return probe(t, c).Receiver.Streaming() })
	c.stop(t)
	a.sql(t, "INSERT INTO public.t SELECT generate_series(1000, 9999)")
	end := probe(t, a).LSN
	waitFor(t, "WAL at the second", func() bool { return probe(t, b).ReplayLSN >= end })
	failOver(t, a, b, func() { crash(t, a) })
	if err := c.Rewind(t.Context(), rewindOptions(t, c, b)); !errors.Is(err, ErrRewindImpossible) {
		t.Errorf("got %v", err)
	}
	if !inspect(t, c).Rewinding {
		t.Error("it may be started as it is")
	}
}

func TestStandbyOfThePrimarysTimelineIsLeftAsItIs(t *testing.T) {
	a, b := pair(t)
	a.sql(t, "INSERT INTO public.t VALUES (100)")
	b.stop(t)
	before := inspect(t, b)
	rewind(t, b, a)
	if got := inspect(t, b); got.ControlState != before.ControlState || got.Checkpoint != before.Checkpoint {
		t.Errorf("it was changed: %+v", got)
	}
	wantFollows(t, b, a, 2)
}

func TestRewindsThatAreImpossible(t *testing.T) {
	removeWAL := func(t *testing.T, n *node, keep int) {
		t.Helper()
		segments, _ := filepath.Glob(filepath.Join(n.DataDir(), "pg_wal", "????????????????????????"))
		if len(segments) <= keep {
			t.Fatalf("there are only %d segments", len(segments))
		}
		for _, path := range segments[:len(segments)-keep] {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	advance := func(t *testing.T, n *node) {
		t.Helper()
		for range 3 {
			n.sql(t, "INSERT INTO public.t VALUES (66)")
			n.sql(t, "SELECT pg_switch_wal()")
			n.sql(t, "CHECKPOINT")
		}
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, a, b *node)
		damaged bool
		says    string
	}{
		"its own WAL is gone": {func(t *testing.T, a, b *node) {
			failOver(t, a, b, func() { advance(t, a); a.stop(t) })
			removeWAL(t, a, 1)
		}, false, "pg_rewind"},
		"the primary's WAL is gone": {func(t *testing.T, a, b *node) {
			failOver(t, a, b, func() { a.sql(t, "INSERT INTO public.t VALUES (66)"); a.stop(t) })
			advance(t, b)
			removeWAL(t, b, 1)
		}, true, "the primary has no more the WAL"},
		"no page has a checksum or hint": {func(t *testing.T, a, b *node) {
			failOver(t, a, b, func() { a.sql(t, "INSERT INTO public.t VALUES (66)"); a.stop(t) })
			_, err := a.output(t.Context(), "pg_checksums", "--disable", "-D", a.DataDir())
			if err != nil {
				t.Fatal(err)
			}
		}, false, "data checksums"},
		"two were promoted to the same timeline": {func(t *testing.T, a, b *node) {
			failOver(t, a, b, func() {
				a.stop(t)
				a.write(t, severed())
				a.start(t)
				promote(t, a)
				a.sql(t, "INSERT INTO public.t VALUES (66)")
				a.stop(t)
			})
			if x, y := inspect(t, a).Timeline, probe(t, b).Timeline; x != y {
				t.Fatalf("timelines %d and %d", x, y)
			}
		}, false, "began elsewhere"},
		"a copy that never started": {func(t *testing.T, a, b *node) {
			b.stop(t)
			if err := a.Clone(t.Context(), CloneOptions{}); err == nil {
				t.Fatal("a running server was replaced")
			}
			o := cloneOptions(t, a)
			o.Generation = 3
			c := newNode(t, "c")
			o.Slot = ""
			if err := c.Clone(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			b.start(t)
			failOver(t, a, b, func() { a.stop(t) })
			*a = *c
		}, false, "no server has made consistent"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			test.prepare(t, a, b)
			err := a.Rewind(t.Context(), rewindOptions(t, a, b))
			wantError(t, err, ErrRewindImpossible, test.says)
			if got := inspect(t, a).Rewinding; got != test.damaged {
				t.Errorf("it is half rewound: %v", got)
			}
		})
	}
}

func TestRewindsThatMayWorkLater(t *testing.T) {
	a, b := pair(t)
	stranger := newNode(t, "x")
	if err := stranger.Init(t.Context(), InitOptions{Generation: 1, Files: files()}); err != nil {
		t.Fatal(err)
	}
	stranger.start(t)
	wantError(t, a.Rewind(t.Context(), rewindOptions(t, a, b)), ErrRunning, "stop it first")
	failOver(t, a, b, func() { a.sql(t, "INSERT INTO public.t VALUES (66)"); crash(t, a) })
	for name, test := range map[string]struct {
		change func(o *RewindOptions)
		is     error
		says   string
	}{
		"nobody there":    {func(o *RewindOptions) { o.Source["port"] = strconv.Itoa(freePort(t)) }, nil, "refused"},
		"wrong password":  {func(o *RewindOptions) { o.Password = "wrong" }, nil, "password authentication failed"},
		"another cluster": {func(o *RewindOptions) { o.Source["port"] = strconv.Itoa(stranger.cfg.Port) }, ErrWrongSystem, "the server at 127.0.0.1"},
		"no superuser":    {func(o *RewindOptions) { o.Source["user"], o.Password = replicator, replicating }, nil, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			o := rewindOptions(t, a, b)
			test.change(&o)
			before := inspect(t, a)
			err := a.Rewind(t.Context(), o)
			wantError(t, err, test.is, test.says)
			if got := inspect(t, a); got.Rewinding || got.Follows != 0 || got.Checkpoint != before.Checkpoint {
				t.Errorf("it was touched: %+v, %+v", got, before)
			}
		})
	}
	rewind(t, a, b)
	wantFollows(t, a, b, 1)
}

// stall is a way to a server that stops carrying after a number of bytes.
func stall(t *testing.T, to *node, after int64) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var left atomic.Int64
	left.Store(after)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(to.cfg.Port))
			if err != nil {
				client.Close()
				return
			}
			t.Cleanup(func() { client.Close(); server.Close() })
			go func() { _, _ = io.Copy(server, client); server.Close() }()
			go func() {
				block := make([]byte, 32<<10)
				for {
					n, err := server.Read(block)
					if err != nil {
						client.Close()
						return
					}
					if left.Add(-int64(n)) < 0 {
						select {} // as if the network was cut
					}
					if _, err := client.Write(block[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func pgRewind(n *node) (pid int) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		text, _ := os.ReadFile(line)
		words := strings.Split(string(text), "\x00")
		if filepath.Base(words[0]) == "pg_rewind" && strings.Contains(string(text), n.DataDir()) {
			pid, _ = strconv.Atoi(strings.Split(line, "/")[2])
			return pid
		}
	}
	return 0
}

func TestHalfRewoundDirectoryNeedsACopy(t *testing.T) {
	a, b := pair(t)
	failOver(t, a, b, func() { a.sql(t, "INSERT INTO public.t VALUES (66)"); crash(t, a) })
	o := rewindOptions(t, a, b)
	o.Source["port"] = stall(t, b, 4<<20)
	copying := make(chan struct{})
	a.step = func(name string) {
		if name == "rewinding" {
			close(copying)
		}
	}
	done := make(chan error, 1)
	go func() { done <- a.Rewind(t.Context(), o) }()
	waitClosed(t, "the first copied byte", copying)
	time.Sleep(100 * time.Millisecond)
	kill(t, pgRewind(a), syscall.SIGKILL)
	wantError(t, <-done, ErrRewindImpossible, "begun and not finished")
	a.step = func(string) {}

	if got := inspect(t, a); !got.Rewinding || got.Generation != 1 {
		t.Errorf("%+v", got)
	}
	wantError(t, a.Start(t.Context(), StartOptions{}), nil, "begun and not finished", "clone it anew")
	o.Source["port"] = strconv.Itoa(b.cfg.Port)
	wantError(t, a.Rewind(t.Context(), o), ErrRewindImpossible)
	c := cloneOptions(t, b)
	if err := a.Clone(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, a); got.Rewinding || got.Follows != 0 || got.Generation != 2 {
		t.Errorf("the copy is %+v", got)
	}
	a.start(t)
	waitFor(t, "streaming", func() bool { return probe(t, a).Receiver.Streaming() })
}

func TestRewindDuringWhichRamdIsKilled(t *testing.T) {
	for _, test := range []struct {
		at        string
		rewinding bool
	}{
		{"recovering", false}, {"rewind noted", true}, {"rewinding", true}, {"rewound", false},
	} {
		t.Run(test.at, func(t *testing.T) {
			a, b := pair(t)
			failOver(t, a, b, func() { a.sql(t, "INSERT INTO public.t VALUES (66)"); crash(t, a) })
			o := rewindOptions(t, a, b)
			cmd := ramd(t, errand{Config: a.plain(), Rewind: &o, DieAt: test.at})
			if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("it ended with %v", err)
			}
			waitFor(t, "the end of pg_rewind", func() bool { return pgRewind(a) == 0 })
			if got := inspect(t, a).Rewinding; got != test.rewinding {
				t.Errorf("it is half rewound: %v", got)
			}
			if !test.rewinding {
				rewind(t, a, b)
				wantFollows(t, a, b, 1)
			}
		})
	}
}
