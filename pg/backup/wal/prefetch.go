package wal

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// spoolLimit bounds what is fetched ahead, in bytes of segments.
const spoolLimit = 128 << 20

// sequence notices that segments are asked for one after the other.
type sequence struct {
	size int64 // of segments; zero before the first was fetched
	last Name
	at   time.Time
}

// follows notes a request, and reports whether it is for the segment after the last one.
func (s *sequence) follows(n Name, now time.Time) bool {
	last := s.last
	s.last, s.at = n, now
	return s.size > 0 && last.Kind == Segment && last.Timeline == n.Timeline && n.number(s.size) == last.number(s.size)+1
}

// next are the names of the segments after the last one, within the window.
func (s *sequence) next(window int) []string {
	window = min(window, max(1, int(spoolLimit/s.size)))
	names := make([]string, window)
	for i := range names {
		names[i] = segmentName(s.last.Timeline, s.last.number(s.size)+1+uint64(i), s.size)
	}
	return names
}

// plan is what to have in the spool: the segment that is being asked for, and those after.
type plan struct{ now, next []string }

// observe makes a plan when a segment continues a sequence.
func (f *Fetcher) observe(n Name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.sequence.follows(n, time.Now()) {
		return
	}
	p := plan{
		now:  []string{segmentName(n.Timeline, n.number(f.sequence.size), f.sequence.size)},
		next: f.sequence.next(f.cfg.Window),
	}
	select {
	case <-f.plans: // an older one
	default:
	}
	f.plans <- p // never waits: only holders of the mutex send
}

// ahead is the state of Run: only its goroutine uses it.
type ahead struct {
	*Fetcher
	queue    []string
	running  int
	finished chan error
}

// Run fetches ahead until ctx ends, and then empties the spool. It returns nil when
// nothing is being fetched ahead any more. It must be called once.
func (f *Fetcher) Run(ctx context.Context) error {
	a := &ahead{Fetcher: f, finished: make(chan error)}
	defer f.repository.close()
	defer f.discard(nil)
	defer a.drain()
	tick := time.NewTicker(idleAfter / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-f.plans:
			f.discard(slices.Concat(p.now, p.next))
			a.queue = p.next
		case err := <-a.finished:
			a.running--
			if err != nil { // the end of WAL, or a repository that is down: do not insist
				a.queue = nil
			}
		case <-tick.C:
			if f.idle() {
				a.queue = nil
				f.discard(nil)
			}
		}
		a.fill(ctx)
	}
}

func (a *ahead) drain() {
	for range a.running {
		<-a.finished
	}
}

// fill gives free workers something to fetch.
func (a *ahead) fill(ctx context.Context) {
	for len(a.queue) > 0 && a.running < a.cfg.Workers {
		name := a.queue[0]
		a.queue = a.queue[1:]
		it := &item{done: make(chan struct{})}
		a.mu.Lock()
		_, known := a.items[name]
		if !known {
			a.items[name] = it
		}
		a.mu.Unlock()
		if known {
			continue
		}
		a.running++
		go func() { a.finished <- a.fetchAhead(ctx, name, it) }()
	}
}

func (f *Fetcher) fetchAhead(ctx context.Context, name string, it *item) error {
	defer close(it.done)
	it.err = f.spool(ctx, name)
	if it.err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.items[name] == it {
			delete(f.items, name)
		}
	}
	return it.err
}

// spool puts a segment into the spool, whole or not at all.
func (f *Fetcher) spool(ctx context.Context, name string) (err error) {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(f.cfg.Spool, name+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	if err := f.get(ctx, name, n, file); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(f.cfg.Spool, name))
}

func (f *Fetcher) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.sequence.at) > idleAfter
}

// discard removes from the spool what is there and is not to be kept. What is still being
// fetched stays, and goes with the next plan.
func (f *Fetcher) discard(keep []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, it := range f.items {
		if slices.Contains(keep, name) {
			continue
		}
		select {
		case <-it.done:
			delete(f.items, name)
			_ = os.Remove(filepath.Join(f.cfg.Spool, name))
		default:
		}
	}
}
