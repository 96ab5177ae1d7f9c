package agent

import (
	"errors"
	"strings"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// trouble is an act that fails, or a state in which nothing can be done. A nil
// trouble is none.
type trouble struct {
	act      reconcile.ActKind
	step     reconcile.StepKind
	text     string
	attempts int
	retryAt  time.Time
	// impossible is set when no other try is worth making.
	impossible bool
}

const (
	firstRetry   = 500 * time.Millisecond
	longestRetry = 30 * time.Second
)

func (t *trouble) report(now time.Time) *reconcile.Problem {
	if t == nil {
		return nil
	}
	return &reconcile.Problem{Step: t.step, Text: t.text, Attempts: t.attempts, RetryIn: max(0, t.retryAt.Sub(now)), Impossible: t.impossible}
}

// fail notes that an act failed. The next try waits twice as long as the last.
func (a *Agent) fail(act reconcile.Act, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &trouble{act: act.Kind, step: act.Step, text: strings.Join(strings.Fields(err.Error()), " ")}
	if a.problem != nil && a.problem.act == act.Kind {
		t.attempts = a.problem.attempts
	}
	t.retryAt = time.Now().Add(min(firstRetry<<min(t.attempts, 10), longestRetry))
	t.attempts++
	t.impossible = errors.Is(err, ErrImpossible)
	news := a.problem == nil || a.problem.text != t.text
	a.problem = t
	if news {
		signal(a.report)
	}
}

// solved forgets the trouble with an act that went well.
func (a *Agent) solved(act reconcile.Act) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.problem != nil && (a.problem.act == act.Kind || a.problem.act == reconcile.ActFail) {
		a.problem = nil
	}
}

// succeed forgets all trouble: there is nothing left to do.
func (a *Agent) succeed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.problem != nil {
		a.problem = nil
		signal(a.report)
	}
}

// waits reports whether the act has failed lately and its next try is not due.
func (a *Agent) waits(act reconcile.Act) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.problem != nil && a.problem.act == act.Kind && time.Now().Before(a.problem.retryAt)
}
