package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Voters are those who confirm a lease.
type Voters interface {
	// Names are the voters' names, this node's own included when it is one.
	Names() []string
	// Beat asks one of them.
	Beat(ctx context.Context, voter string, b reconcile.Beat) (reconcile.Confirmation, error)
}

// Limits are the times of the spec in force.
type Limits struct {
	// Detect is the silence after which a primary is suspected, Lease how long it may
	// go on unconfirmed.
	Detect, Lease time.Duration
}

// beatsPerDetect is how often a primary is heard within the time after which it is
// suspected: one lost beat is not a failure.
const beatsPerDetect = 4

// beatsUnderWay bounds the rounds that wait for slow voters.
const beatsUnderWay = 4

// beating keeps the voters' knowledge of this primary, and with it its lease, fresh.
func (a *Agent) beating(ctx context.Context) error {
	var rounds sync.WaitGroup
	defer rounds.Wait()
	slots := make(chan struct{}, beatsUnderWay)
	for {
		interval := a.beatInterval()
		a.now()
		if a.isPrimary() {
			select {
			case slots <- struct{}{}:
				rounds.Go(func() {
					defer func() { <-slots }()
					a.renew(ctx)
				})
			default: // the voters are slow to answer, and are asked already
			}
		}
		if !pause(ctx, interval) {
			return nil
		}
	}
}

func (a *Agent) beatInterval() time.Duration {
	return max(a.cfg.Limits().Detect/beatsPerDetect, 10*time.Millisecond)
}

// now is the time lived. Beats that stay away for three times their interval show that
// the process did not run.
func (a *Agent) now() time.Duration { return a.lived.at(time.Now(), 3*a.beatInterval()) }

func (a *Agent) isPrimary() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.confirmed && a.assignment.Role == reconcile.RolePrimary
}

// renew does one round of beats and passes the lease that it confirms to the guard.
func (a *Agent) renew(ctx context.Context) {
	a.mu.Lock()
	term, running := a.assignment.Term, a.local.Server.PID != 0 && !a.local.Server.Recovery
	hung := a.hung()
	a.mu.Unlock()
	left, err := a.confirm(ctx, term)
	if err != nil || !running || hung > a.cfg.Limits().Lease {
		return
	}
	if err := a.cfg.Host.Renew(ctx, term, left); err != nil && ctx.Err() == nil {
		a.cfg.Logger.Debug().Err(err).Uint64("term", term).Msg("lease not renewed")
	}
}

var errUnconfirmed = errors.New("neither the leader nor a majority of the voters confirms its primaryship")

// confirm asks the voters to confirm a term and returns what is left of the lease,
// which counts from before they were asked (S5).
func (a *Agent) confirm(ctx context.Context, term uint64) (time.Duration, error) {
	limits := a.cfg.Limits()
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, max(limits.Detect, 250*time.Millisecond))
	beat := reconcile.Beat{Node: a.cfg.Name, Incarnation: a.cfg.Incarnation, Term: term, LSN: a.position()}
	voters := a.cfg.Voters.Names()
	heard := make(chan reconcile.Confirmation, len(voters))
	var calls sync.WaitGroup
	for _, voter := range voters {
		calls.Go(func() {
			c, err := a.cfg.Voters.Beat(ctx, voter, beat)
			if err != nil {
				c = reconcile.Confirmation{}
			}
			heard <- c
		})
	}
	a.beats.Go(func() { // a majority is enough for us, and all are to hear of it
		defer cancel()
		calls.Wait()
	})
	var answers []reconcile.Confirmation
	var confirmed bool
	var age time.Duration
	for range voters {
		answers = append(answers, <-heard)
		if confirmed, age = reconcile.Confirmed(answers, len(voters)); confirmed {
			break
		}
	}
	left := limits.Lease - time.Since(asked) - age
	if !confirmed || left <= 0 {
		return 0, errUnconfirmed
	}
	return left, nil
}

func (a *Agent) position() pg.LSN {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.local.Server.LSN
}

// checking finds a primary that accepts connections and answers nobody, or cannot
// write: a fresh session and a write now and then, off the loop that acts.
func (a *Agent) checking(ctx context.Context) error {
	for {
		if a.serving() {
			trial, cancel := context.WithTimeout(ctx, max(a.cfg.Limits().Lease, time.Second))
			err := a.cfg.Host.Check(trial)
			cancel()
			if err != nil && ctx.Err() == nil {
				a.cfg.Logger.Warn().Err(err).Msg("PostgreSQL does not answer a fresh session, or cannot write")
			}
			a.checked(err == nil)
		} else {
			a.checked(true)
		}
		if !pause(ctx, a.checkInterval()) {
			return nil
		}
	}
}

// checkInterval is such that a server that hangs has failed two checks, which each may
// take a lease, soon after the lease is over.
func (a *Agent) checkInterval() time.Duration { return max(a.cfg.Limits().Lease/2, time.Second) }

// serving reports whether a primary is here that should answer.
func (a *Agent) serving() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.local.Server
	return a.confirmed && a.assignment.Role == reconcile.RolePrimary && !s.Recovery && (s.State == pg.ServerRunning || s.State == pg.ServerHung)
}

func (a *Agent) checked(good bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if good {
		a.answered, a.everAnswered = a.now(), true
		return
	}
	signal(a.report)
}

// apart is how long a standby's server has run without receiving WAL. It is called
// with mu held.
func (a *Agent) apart(now time.Time) time.Duration {
	if s := a.local.Server; !a.looked || s.State != pg.ServerRunning || !s.Recovery || s.Receiver.Streaming() {
		return 0
	}
	return now.Sub(a.streamed)
}

// hung is how long no fresh session has had an answer. It is called with mu held.
func (a *Agent) hung() time.Duration {
	s := a.local.Server.State
	if !a.everAnswered || a.assignment.Role != reconcile.RolePrimary || s != pg.ServerRunning && s != pg.ServerHung {
		return 0
	}
	if silent := a.now() - a.answered; silent > a.checkInterval()+time.Second {
		return silent
	}
	return 0
}
