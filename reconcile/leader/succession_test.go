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
	"github.com/ramhq/ram/reconcile/sim"
)

// electorate is what the leader hears of a primary whose beats have stopped at some
// time, and what the others say when they are asked.
type electorate struct {
	mu      sync.Mutex
	beat    func() time.Time // of the last beat
	answers bool
	asked   []string
	barred  map[string]uint64
}

func (e *electorate) Heard(string) (time.Duration, pg.LSN) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return time.Since(e.beat()), 0
}

func (e *electorate) Ask(_ context.Context, node string, _ reconcile.Upstream) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Contains(e.asked, node) {
		e.asked = append(e.asked, node)
	}
	return e.answers, nil
}

func (e *electorate) Bar(_ context.Context, voter string, term uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.barred[voter] = term
	return nil
}

// stop ends the beats now.
func (e *electorate) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := time.Now()
	e.beat = func() time.Time { return last }
}

// leadWhole runs a leader of a cluster that is as its spec says, and gives it every
// node's report each second but those of the nodes in silent.
func leadWhole(t *testing.T, e *electorate, silent []string, test func(s *store)) {
	t.Helper()
	c, err := sim.ParseSpec("a b c")
	if err != nil {
		t.Fatal(err)
	}
	w := sim.New(1, c)
	if err := w.Accept(c); err != nil {
		t.Fatal(err)
	}
	if err := w.Settle(200); err != nil {
		t.Fatal(err)
	}
	reports := w.Observed().Nodes
	synctest.Test(t, func(t *testing.T) {
		e.beat, e.barred = time.Now, map[string]uint64{}
		s := &store{rec: w.Record, changed: make(chan struct{})}
		l := leader.New(leader.Config{
			Name: "b", Store: s, Group: group{[]string{"a", "b", "c"}}, Cluster: e, Logger: zerolog.Nop(),
			Silence: 5 * time.Second, Interval: time.Second,
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		synctest.Wait()
		stop := make(chan struct{})
		go func() {
			for {
				for name, v := range reports {
					if !slices.Contains(silent, name) {
						l.Report(v.Report)
					}
				}
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
			}
		}()
		test(s)
		close(stop)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestAPrimaryThatNobodyHearsOfIsReplaced(t *testing.T) {
	e := &electorate{}
	leadWhole(t, e, []string{"a"}, func(s *store) {
		time.Sleep(10 * time.Second)
		if rec := s.Record(); rec.Opening != nil || rec.Term != 1 {
			t.Fatalf("with its beats heard term %d is open: %+v", rec.Term, rec.Opening)
		}
		e.stop()
		time.Sleep(900 * time.Millisecond)
		if rec := s.Record(); rec.Opening != nil {
			t.Fatal("a term was opened before the time was over")
		}
		time.Sleep(300 * time.Millisecond)
		rec := s.Record()
		if rec.Opening == nil || rec.Term != 2 || rec.Opening.Deposed != "a" || rec.Primary != "" {
			t.Fatalf("term %d, primary %q, opening %+v", rec.Term, rec.Primary, rec.Opening)
		}
		for name, a := range rec.Assignments {
			if !a.Frozen() || a.Term != 2 {
				t.Errorf("node %s is not frozen: %+v", name, a)
			}
		}
		time.Sleep(time.Second)
		if len(e.asked) != 2 || slices.Contains(e.asked, "a") {
			t.Errorf("asked were %v, not the two others", e.asked)
		}
		if len(e.barred) != 3 || e.barred["b"] != 2 {
			t.Errorf("told of the term were %v", e.barred)
		}
	})
}

func TestAPrimaryWhosePostgreSQLAnswersOthersIsKept(t *testing.T) {
	e := &electorate{answers: true}
	leadWhole(t, e, []string{"a"}, func(s *store) {
		e.stop()
		time.Sleep(time.Minute)
		if rec := s.Record(); rec.Opening != nil || rec.Primary != "a" {
			t.Errorf("it was replaced: primary %q, opening %+v", rec.Primary, rec.Opening)
		}
		e.mu.Lock()
		e.answers = false
		e.mu.Unlock()
		time.Sleep(3 * time.Second)
		if rec := s.Record(); rec.Opening == nil {
			t.Error("it is kept although nobody reaches it any more")
		}
	})
}

// A leader that was busy, or has just been elected, has asked nobody yet.
func TestALeaderThatHasNotLookedForLongAsksBeforeItJudges(t *testing.T) {
	e := &electorate{answers: true}
	leadWhole(t, e, []string{"a"}, func(s *store) {
		e.mu.Lock()
		last := time.Now().Add(-time.Minute)
		e.beat = func() time.Time { return last }
		e.mu.Unlock()
		time.Sleep(time.Minute)
		if rec := s.Record(); rec.Opening != nil || rec.Primary != "a" {
			t.Errorf("it was replaced: primary %q, opening %+v", rec.Primary, rec.Opening)
		}
	})
}

func TestNoTermIsOpenedThatNobodyCouldBeGranted(t *testing.T) {
	e := &electorate{}
	leadWhole(t, e, []string{"a", "c"}, func(s *store) {
		e.stop()
		time.Sleep(time.Minute)
		if rec := s.Record(); rec.Opening != nil || rec.Primary != "a" {
			t.Errorf("with one of two standbys there a term was opened: %+v", rec.Opening)
		}
	})
}
