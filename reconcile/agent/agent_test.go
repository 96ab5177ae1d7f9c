package agent_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/agent"
)

// host is a local PostgreSQL whose acts succeed, unless told otherwise.
type host struct {
	exited chan struct{}

	mu    sync.Mutex
	local reconcile.Local
	acts  []reconcile.ActKind
	// fails is what an act of that kind returns; blocks makes it last until its
	// context ends.
	fails  map[reconcile.ActKind]error
	blocks map[reconcile.ActKind]bool
	// refuses has the voters confirm nothing.
	refuses bool
}

func newHost() *host {
	return &host{
		local: reconcile.Local{Data: pg.DataDirectory{State: pg.DirAbsent}, Server: pg.Server{State: pg.ServerStopped}},
		fails: map[reconcile.ActKind]error{}, blocks: map[reconcile.ActKind]bool{},
	}
}

func (h *host) Exited() <-chan struct{} { return h.exited }

func (h *host) Look(context.Context, reconcile.Assignment) (reconcile.Local, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.local, nil
}

func (h *host) Do(ctx context.Context, a reconcile.Assignment, act reconcile.Act, progress func(done, total pg.Bytes)) error {
	h.mu.Lock()
	h.acts = append(h.acts, act.Kind)
	err, blocks := h.fails[act.Kind], h.blocks[act.Kind]
	h.mu.Unlock()
	if blocks {
		progress(pg.MB, 2*pg.MB)
		<-ctx.Done()
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &h.local
	switch act.Kind {
	case reconcile.ActInit, reconcile.ActClone:
		l.Data = pg.DataDirectory{State: pg.DirCluster, Version: 15, SystemID: 7, Generation: a.Generation, Standby: a.Role == reconcile.RoleStandby}
	case reconcile.ActWrite:
		l.Written = a.Serial
	case reconcile.ActStart:
		l.Server = pg.Server{State: pg.ServerRunning, Guarded: true, Recovery: a.Role == reconcile.RoleStandby, Receiver: &pg.WALReceiver{Status: "streaming"}}
		l.Loaded, l.Started = a.Serial, a.Serial
	case reconcile.ActStop:
		l.Server = pg.Server{State: pg.ServerStopped}
	case reconcile.ActReload:
		l.Loaded = a.Serial
	case reconcile.ActSettle:
		l.Settled = a.Serial
	}
	return nil
}

func (h *host) Renew(context.Context, uint64, time.Duration) error { return nil }
func (h *host) Check(context.Context) error                        { return nil }

// voters are three of whom the first always confirms, and the others unless told not to.
type voters struct{ *host }

func (voters) Names() []string { return []string{"a", "b", "c"} }
func (v voters) Beat(_ context.Context, voter string, b reconcile.Beat) (reconcile.Confirmation, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return reconcile.Confirmation{Term: b.Term, Voter: voter == "a" || !v.refuses}, nil
}

func limits() agent.Limits { return agent.Limits{Detect: time.Second, Lease: 5 * time.Second} }

func (h *host) did() []reconcile.ActKind {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.acts)
}

// leader answers reports with what it is told to.
type leader struct {
	mu      sync.Mutex
	answer  agent.Answer
	silent  bool
	reports []reconcile.Report
}

func (l *leader) Report(_ context.Context, r reconcile.Report) (agent.Answer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent {
		return agent.Answer{}, errors.New("no leader")
	}
	l.reports = append(l.reports, r)
	return l.answer, nil
}

func (l *leader) assign(a agent.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer, l.silent = a, false
}

func (l *leader) last() reconcile.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reports[len(l.reports)-1]
}

func standby(serial uint64) reconcile.Assignment {
	return reconcile.Assignment{
		Serial: serial, Node: "b", Role: reconcile.RoleStandby, Term: 1, SystemID: 7, Generation: 1,
		Upstream: &reconcile.Upstream{Node: "a", Host: "10.0.0.1", Port: 5432, Slot: "ram_b"},
		Server:   reconcile.Server{Version: 15},
	}
}

// run runs an agent in virtual time for the length of test.
func run(t *testing.T, h *host, l *leader, test func(a *agent.Agent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h.exited = make(chan struct{}, 1) // of the bubble, or time stands still
		a := agent.New(agent.Config{
			Name: "b", Incarnation: "1", Host: h, Voters: voters{h}, Limits: limits, Upward: l, Logger: zerolog.Nop(), Interval: time.Second,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		test(a)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestNothingIsDoneUntilALeaderHasGivenAnAssignment(t *testing.T) {
	h, l := newHost(), &leader{silent: true}
	run(t, h, l, func(*agent.Agent) {
		later(time.Minute)
		if did := h.did(); did != nil {
			t.Errorf("without a leader it did %v", did)
		}
		l.assign(agent.Answer{})
		later(time.Minute)
		if did := h.did(); did != nil {
			t.Errorf("without an assignment it did %v", did)
		}
	})
}

func TestWhatComesUnaskedIsNotBelievedBeforeALeaderHasAnswered(t *testing.T) {
	h, l := newHost(), &leader{silent: true}
	run(t, h, l, func(a *agent.Agent) {
		later(time.Second)
		a.Assign(agent.Answer{Assignment: standby(1)}) // of a leader that may lead no more
		later(time.Minute)
		if did := h.did(); did != nil {
			t.Errorf("on what came unasked it did %v", did)
		}
		l.assign(agent.Answer{Assignment: standby(2)})
		later(5 * time.Second)
		a.Assign(agent.Answer{Assignment: standby(3)})
		later(5 * time.Second)
		if r := l.last(); r.Serial != 3 || r.Settled != 3 {
			t.Errorf("what a confirmed agent is sent is not made true: %+v", r)
		}
	})
}

// primaryAt is an assignment to be the primary of a term.
func primaryAt(serial uint64) reconcile.Assignment {
	a := standby(serial)
	a.Role, a.Upstream, a.Launch = reconcile.RolePrimary, nil, serial
	return a
}

func TestAPrimaryIsStartedOnlyWithAConfirmedLease(t *testing.T) {
	h, l := newHost(), &leader{answer: agent.Answer{Assignment: primaryAt(1)}}
	h.local.Data = pg.DataDirectory{State: pg.DirCluster, Version: 15, SystemID: 7, Generation: 1, ControlState: "shut down"}
	h.refuses = true
	run(t, h, l, func(*agent.Agent) {
		later(time.Minute)
		if did := h.did(); slices.Contains(did, reconcile.ActStart) {
			t.Errorf("without a lease it did %v", did)
		}
		h.mu.Lock()
		h.refuses = false
		h.mu.Unlock()
		later(time.Minute)
		if did := h.did(); !slices.Contains(did, reconcile.ActStart) {
			t.Errorf("with a lease it did %v", did)
		}
	})
}

func TestAnAssignmentIsMadeTrueOneActAfterTheOther(t *testing.T) {
	h, l := newHost(), &leader{answer: agent.Answer{Assignment: standby(1)}}
	run(t, h, l, func(*agent.Agent) {
		later(5 * time.Second)
		want := []reconcile.ActKind{reconcile.ActClone, reconcile.ActWrite, reconcile.ActStart, reconcile.ActSettle}
		if diff := cmp.Diff(want, h.did()); diff != "" {
			t.Error(diff)
		}
		if r := l.last(); r.Serial != 1 || r.Settled != 1 || r.Problem != nil || r.Activity != nil {
			t.Errorf("the last report is %+v", r)
		}
	})
}

func TestAPausedClusterIsLookedAtAndLeftAlone(t *testing.T) {
	h, l := newHost(), &leader{answer: agent.Answer{Assignment: standby(1), Hold: true}}
	run(t, h, l, func(*agent.Agent) {
		later(time.Minute)
		if did := h.did(); did != nil {
			t.Errorf("while paused it did %v", did)
		}
		if r := l.last(); r.Serial != 1 {
			t.Errorf("it reports serial %d", r.Serial)
		}
	})
}

func TestWhatFailsIsTriedAgainLessAndLessOften(t *testing.T) {
	h, l := newHost(), &leader{answer: agent.Answer{Assignment: standby(1)}}
	h.fails[reconcile.ActClone] = errors.New("the source\n\tis not there")
	run(t, h, l, func(*agent.Agent) {
		later(10 * time.Minute)
		if n := len(h.did()); n < 10 || n > 30 {
			t.Errorf("it tried %d times in ten minutes", n)
		}
		p := l.last().Problem
		if p == nil || p.Text != "the source is not there" || p.Step != reconcile.StepClone || p.Attempts < 10 {
			t.Errorf("it reports %+v", p)
		}
	})
}

func TestANewAssignmentIsTriedAtOnce(t *testing.T) {
	h, l := newHost(), &leader{answer: agent.Answer{Assignment: standby(1)}}
	h.fails[reconcile.ActClone] = errors.New("no")
	run(t, h, l, func(a *agent.Agent) {
		later(10 * time.Minute)
		before := len(h.did())
		h.mu.Lock()
		delete(h.fails, reconcile.ActClone)
		h.mu.Unlock()
		l.assign(agent.Answer{Assignment: standby(2)})
		a.Assign(agent.Answer{Assignment: standby(2)})
		later(time.Millisecond)
		if len(h.did()) == before || a.Last().Problem != nil {
			t.Errorf("it waits on: %+v", a.Last().Problem)
		}
	})
}

func TestALongActEndsWhenTheAssignmentNoLongerWantsIt(t *testing.T) {
	retired := standby(2)
	retired.Role, retired.Upstream = reconcile.RoleRetired, nil
	for _, rule := range []struct {
		name   string
		answer agent.Answer
	}{
		{"the node leaves", agent.Answer{Assignment: retired}},
		{"the cluster is paused", agent.Answer{Assignment: standby(1), Hold: true}},
	} {
		t.Run(rule.name, func(t *testing.T) {
			h, l := newHost(), &leader{answer: agent.Answer{Assignment: standby(1)}}
			h.blocks[reconcile.ActClone] = true
			run(t, h, l, func(a *agent.Agent) {
				later(5 * time.Second)
				if r := l.last(); r.Activity == nil || r.Activity.Step != reconcile.StepClone || r.Activity.Done != pg.MB {
					t.Fatalf("while it clones it reports %+v", r.Activity)
				}
				l.assign(rule.answer)
				later(5 * time.Second)
				if r := a.Last(); r.Activity != nil || r.Problem != nil {
					t.Errorf("it goes on: %+v %+v", r.Activity, r.Problem)
				}
				if n := len(h.did()); n != 1 {
					t.Errorf("it did %v", h.did())
				}
			})
		})
	}
}

func TestAnOlderAssignmentThatComesLateIsIgnored(t *testing.T) {
	h, l := newHost(), &leader{answer: agent.Answer{Assignment: standby(2)}}
	run(t, h, l, func(a *agent.Agent) {
		later(5 * time.Second)
		before := len(h.did())
		a.Assign(agent.Answer{Assignment: standby(1)})
		synctest.Wait()
		if a.Last().Serial != 2 || len(h.did()) != before {
			t.Errorf("it went back to serial %d", a.Last().Serial)
		}
	})
}

func TestAServerThatEndsIsReportedAndStartedAtOnce(t *testing.T) {
	h, l := newHost(), &leader{answer: agent.Answer{Assignment: standby(1)}}
	run(t, h, l, func(*agent.Agent) {
		later(5 * time.Second)
		before := len(h.did())
		h.mu.Lock()
		h.local.Server = pg.Server{State: pg.ServerStopped}
		h.mu.Unlock()
		h.exited <- struct{}{}
		later(200 * time.Millisecond)
		if did := h.did()[before:]; len(did) == 0 || did[0] != reconcile.ActStart {
			t.Errorf("it did %v", did)
		}
		if !slices.ContainsFunc(l.reports, func(r reconcile.Report) bool {
			return r.Serial == 1 && r.Server.State == pg.ServerStopped && r.Settled == 1
		}) {
			t.Error("the leader was not told that it had stopped")
		}
	})
}

func TestReportsGoOnWhileNoLeaderTakesThem(t *testing.T) {
	h, l := newHost(), &leader{silent: true}
	run(t, h, l, func(*agent.Agent) {
		later(time.Minute)
		l.assign(agent.Answer{Assignment: standby(1)})
		later(2 * time.Second)
		if len(h.did()) == 0 {
			t.Error("a leader came and was not heard")
		}
	})
}
