package leader_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/leader"
	"github.com/ramhq/ram/spec"
)

// store is a record that a majority of one replicates at once.
type store struct {
	mu       sync.Mutex
	rec      *reconcile.Record
	changed  chan struct{}
	advances int
}

func (s *store) Record() *reconcile.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec
}

func (s *store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *store) Propose(_ context.Context, cmd reconcile.Command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := reconcile.Transition(s.rec, cmd)
	if err != nil {
		return err
	}
	if cmd.Advance != nil {
		s.advances++
	}
	s.rec = next
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// group is a Raft group in which everybody votes already.
type group struct{ names []string }

func (g group) Members() []reconcile.RaftMember {
	var list []reconcile.RaftMember
	for _, name := range g.names {
		list = append(list, reconcile.RaftMember{Name: name, Incarnation: "1", Voter: true})
	}
	return list
}
func (group) SetVoter(context.Context, string, bool) error { return nil }
func (group) Transfer(context.Context, string) error       { return nil }
func (group) Remove(context.Context, string) error         { return nil }

// world is a leader over the nodes a and b with an accepted spec.
type world struct {
	*testing.T
	store  *store
	leader *leader.Leader
	mu     sync.Mutex
	pushed []string
}

func lead(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, store: &store{rec: &reconcile.Record{}, changed: make(chan struct{})}}
		c := spec.NewCluster("test")
		c.Postgres.Version = 15
		var members []reconcile.Member
		for i, name := range []string{"a", "b"} {
			n := spec.NewNode(name, i+1)
			n.Host = "10.0.0." + name
			c.Nodes = append(c.Nodes, n)
			members = append(members, reconcile.Member{Name: name, Incarnation: "1", Host: n.Host, APIPort: n.Ports.API, RaftPort: n.Ports.Raft})
		}
		c.Settle()
		w.propose(reconcile.Command{Form: &reconcile.Form{Cluster: "test", Members: members}})
		w.propose(reconcile.Command{Accept: &reconcile.Accept{Spec: c, Cause: reconcile.CauseApply}})
		w.leader = leader.New(leader.Config{
			Name: "a", Store: w.store, Group: group{[]string{"a", "b"}}, Logger: zerolog.Nop(),
			Silence: 5 * time.Second, Interval: time.Second,
			Push: func(node string, _ reconcile.Assignment) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.pushed = append(w.pushed, node)
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.leader.Run(ctx) }()
		synctest.Wait()
		test(w)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if w.leader.Report(empty("a")) {
			t.Error("it takes reports when it no longer leads")
		}
	})
}

func (w *world) propose(cmd reconcile.Command) {
	w.Helper()
	if err := w.store.Propose(w.Context(), cmd); err != nil {
		w.Fatal(err)
	}
}

func (w *world) report(r reconcile.Report) {
	w.Helper()
	if !w.leader.Report(r) {
		w.Error("the leader takes no reports")
	}
	synctest.Wait()
}

func (w *world) advances() int {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	return w.store.advances
}

// empty is the report of a node without data.
func empty(node string) reconcile.Report {
	return reconcile.Report{
		Node: node, Incarnation: "1",
		Data: pg.DataDirectory{State: pg.DirAbsent}, Server: pg.Server{State: pg.ServerStopped},
	}
}

func TestNothingIsDecidedUntilEveryMemberWasHeardOrHadTheTime(t *testing.T) {
	lead(t, func(w *world) {
		w.report(empty("a"))
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if w.leader.Informed() || w.advances() != 0 {
			t.Error("it decided without having heard of b")
		}
		w.report(empty("b"))
		if rec := w.store.Record(); rec.Primary != "a" || rec.Run == nil || rec.Assignments["a"].Role != reconcile.RolePrimary {
			t.Errorf("with both heard of there is no primary: %q, run %+v", rec.Primary, rec.Run)
		}
		if !slices.Equal(w.pushed, []string{"a"}) {
			t.Errorf("assignments went to %v", w.pushed)
		}
	})
	lead(t, func(w *world) {
		for range 7 {
			w.report(empty("a"))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if w.store.Record().Primary != "a" {
			t.Error("a silent member holds everything up for ever")
		}
	})
}

func TestAReportOfAnotherIncarnationDoesNotCount(t *testing.T) {
	lead(t, func(w *world) {
		stranger := empty("b")
		stranger.Incarnation = "2"
		w.report(empty("a"))
		w.report(stranger)
		if w.leader.Informed() || w.leader.Observed().Nodes["b"].Reported {
			t.Error("it believes a node that is no member")
		}
	})
}

func TestAPausedClusterDecidesNothing(t *testing.T) {
	lead(t, func(w *world) {
		w.propose(reconcile.Command{Pause: &reconcile.SetPause{Paused: true}})
		w.report(empty("a"))
		w.report(empty("b"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if rec := w.store.Record(); w.advances() != 0 || rec.Primary != "" || rec.Run != nil {
			t.Errorf("while paused: %d advances, primary %q, run %+v", w.advances(), rec.Primary, rec.Run)
		}
		w.propose(reconcile.Command{Pause: &reconcile.SetPause{}})
		w.report(empty("a"))
		w.report(empty("b"))
		if w.store.Record().Primary != "a" {
			t.Error("resumed, it does not go on")
		}
	})
}

func TestAStepThatDoesNotStickIsRepeatedLessAndLessOften(t *testing.T) {
	lead(t, func(w *world) {
		w.report(empty("a"))
		w.report(empty("b"))
		// Node a makes its data, and says at every look that its file was edited.
		for range 600 {
			a := w.store.Record().Assignments["a"]
			r := empty("a")
			r.Serial, r.Settled, r.Written, r.Loaded, r.Started = a.Serial, a.Serial, a.Serial, a.Serial, a.Serial
			r.Data = pg.DataDirectory{State: pg.DirCluster, Version: 15, SystemID: 7, Generation: a.Generation}
			r.Server = pg.Server{State: pg.ServerRunning, Guarded: true, Timeline: 1, LSN: 1}
			for _, name := range a.Slots {
				r.Server.Slots = append(r.Server.Slots, pg.Slot{Name: name})
			}
			r.Drift = []reconcile.Drift{{Where: "file", Name: "pg_hba.conf", Have: "edited"}}
			w.report(r)
			time.Sleep(time.Second)
		}
		if serial := w.store.Record().Assignments["a"].Serial; serial < 5 || serial > 25 {
			t.Errorf("in ten minutes node a was given %d assignments", serial)
		}
	})
}

func TestANodeThatFallsSilentAndComesBackIsAnEvent(t *testing.T) {
	lead(t, func(w *world) {
		w.report(empty("a"))
		w.report(empty("b"))
		for range 8 {
			time.Sleep(time.Second)
			w.report(empty("a"))
		}
		if v := w.leader.Observed().Nodes["b"]; !v.Reported || v.Reachable {
			t.Errorf("after eight seconds of silence: %+v", v)
		}
		w.report(empty("b"))
		var messages []string
		for _, e := range w.store.Record().Events {
			if e.Kind == reconcile.EventNode {
				messages = append(messages, e.Message)
			}
		}
		if !slices.Equal(messages, []string{"node b does not answer", "node b answers again"}) {
			t.Errorf("events: %q", messages)
		}
	})
}
