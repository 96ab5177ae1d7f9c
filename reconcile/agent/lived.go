package agent

import (
	"sync"
	"time"
)

// lived is the time in which this process ran. It stands still while the process is
// stopped, or its host is frozen: what was not heard meanwhile was not missed by others.
// The zero value has not begun.
type lived struct {
	mu   sync.Mutex // guards what follows
	last time.Time
	ran  time.Duration
}

// at is the time lived up to now. It is asked for at least as often as pause, unless
// the process does not run.
func (l *lived) at(now time.Time, pause time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if gap := now.Sub(l.last); !l.last.IsZero() && gap > 0 && gap <= pause {
		l.ran += gap
	}
	if now.After(l.last) {
		l.last = now
	}
	return l.ran
}
