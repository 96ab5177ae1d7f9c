package leader

import (
	"maps"
	"time"
)

// patience keeps a step that does not stick from being carried out again and
// again: the first few times are free, then each waits twice as long.
type patience struct {
	issued map[string]attempts
}

type attempts struct {
	count int
	last  time.Time
}

const (
	freeAttempts = 3
	firstDelay   = time.Second
	longestDelay = time.Minute
	// forgetAfter is how long a step must have been quiet for its attempts to be
	// forgotten.
	forgetAfter = 5 * time.Minute
)

func newPatience() *patience { return &patience{issued: map[string]attempts{}} }

// wait is how long the step has to wait at now; zero means that it may go.
func (p *patience) wait(step string, now time.Time) time.Duration {
	a, ok := p.issued[step]
	if !ok || now.Sub(a.last) > forgetAfter {
		delete(p.issued, step)
		return 0
	}
	if a.count < freeAttempts {
		return 0
	}
	delay := min(firstDelay<<min(a.count-freeAttempts, 10), longestDelay)
	return max(0, delay-now.Sub(a.last))
}

func (p *patience) issue(step string, now time.Time) {
	maps.DeleteFunc(p.issued, func(_ string, a attempts) bool { return now.Sub(a.last) > forgetAfter })
	a := p.issued[step]
	p.issued[step] = attempts{a.count + 1, now}
}
