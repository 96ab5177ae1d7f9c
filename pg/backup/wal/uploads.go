package wal

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"time"
)

const (
	// scanEvery is how often a Holder looks by itself for files to archive: PostgreSQL's
	// archiver sleeps for a minute after three failures.
	scanEvery = 5 * time.Second
	// scanPause is the least time between two looks when PostgreSQL asks.
	scanPause = 100 * time.Millisecond
	// After a failure the next file that nobody asked for waits for firstPause, and twice as
	// long after each further one, up to lastPause.
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// uploads is the state of Run: only its goroutine uses it.
type uploads struct {
	*Archiver
	running  map[string]*upload
	waiting  []ask // for a free worker
	finished chan finished
	// ready are files to upload without being asked, oldest first.
	ready    []string
	scanned  time.Time
	rescan   bool // since PostgreSQL has asked
	notUntil time.Time
	pause    time.Duration
	// ahead are durable files that PostgreSQL has not asked for yet; told are those of which
	// it knows, and which it has not marked as done yet.
	ahead, told map[string]bool
}

// upload is one under way, and who waits for it.
type upload struct{ askers []chan error }

type finished struct {
	file string
	err  error
}

// Run uploads what Push is asked for and, as long as the node is Holder, whatever else
// waits in archive_status, until ctx ends. It returns nil when no upload is under way any
// more. It must be called once.
func (a *Archiver) Run(ctx context.Context) error {
	u := &uploads{
		Archiver: a, running: map[string]*upload{}, finished: make(chan finished),
		ahead: map[string]bool{}, told: map[string]bool{},
	}
	defer a.repository.close()
	defer u.drain()
	defer close(a.ended)
	tick := time.NewTicker(scanPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-a.asks:
			u.asked(q)
		case f := <-u.finished:
			u.over(f)
		case <-tick.C:
		}
		u.fill(ctx)
	}
}

// drain waits for the uploads under way, which end with Run's context.
func (u *uploads) drain() {
	for range len(u.running) {
		<-u.finished
	}
}

func (u *uploads) asked(q ask) {
	u.rescan = true
	if u.ahead[q.file] {
		u.lower(q.file)
		u.told[q.file] = true
		q.reply <- nil
		return
	}
	if job := u.running[q.file]; job != nil {
		job.askers = append(job.askers, q.reply)
		return
	}
	u.waiting = append(u.waiting, q)
}

func (u *uploads) over(f finished) {
	job := u.running[f.file]
	delete(u.running, f.file)
	for _, reply := range job.askers {
		reply <- f.err
	}
	u.noteUploaded(f.file, f.err)
	switch {
	case f.err != nil:
		u.pause = min(max(firstPause, 2*u.pause), lastPause)
		u.notUntil = time.Now().Add(u.pause)
		u.ready, u.rescan = nil, true // the file is due again, before those that come after it
	case len(job.askers) > 0:
		u.pause, u.notUntil = 0, time.Time{}
		u.told[f.file] = true
	default:
		u.pause, u.notUntil = 0, time.Time{}
		u.raise(f.file)
	}
}

// fill gives free workers something to do: what PostgreSQL has asked for comes first.
func (u *uploads) fill(ctx context.Context) {
	for len(u.waiting) > 0 && len(u.running) < u.cfg.Workers {
		q := u.waiting[0]
		u.waiting = u.waiting[1:]
		if job := u.running[q.file]; job != nil {
			job.askers = append(job.askers, q.reply)
			continue
		}
		u.begin(ctx, q.file, q.reply)
	}
	now := time.Now()
	if len(u.running) >= u.cfg.Workers || now.Before(u.notUntil) || u.cfg.Standing() != Holder {
		return
	}
	if len(u.ready) == 0 && u.due(now) {
		u.scan(now)
	}
	for len(u.ready) > 0 && len(u.running) < u.cfg.Workers {
		file := u.ready[0]
		u.ready = u.ready[1:]
		if u.running[file] == nil && !u.ahead[file] && !u.told[file] {
			u.begin(ctx, file)
		}
	}
}

func (u *uploads) due(now time.Time) bool {
	since := now.Sub(u.scanned)
	return since >= scanEvery || u.rescan && since >= scanPause
}

// scan lists what waits, and forgets what PostgreSQL has marked as done.
func (u *uploads) scan(now time.Time) {
	u.scanned, u.rescan = now, false
	ready, err := readyFiles(u.cfg.Dir())
	if err != nil {
		return // between two data directories there is none; State says what it sees
	}
	u.ready = ready
	waits := make(map[string]bool, len(ready))
	for _, file := range ready {
		waits[file] = true
	}
	for file := range u.ahead {
		if !waits[file] {
			u.lower(file)
		}
	}
	maps.DeleteFunc(u.told, func(file string, _ bool) bool { return !waits[file] })
}

// raise marks a file as durable before PostgreSQL asks.
func (u *uploads) raise(file string) {
	u.ahead[file] = true
	if u.cfg.Ahead == "" {
		return
	}
	f, err := os.OpenFile(filepath.Join(u.cfg.Ahead, file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return // PostgreSQL then asks ramd, which knows
	}
	f.Close()
}

// lower takes the mark away.
func (u *uploads) lower(file string) {
	delete(u.ahead, file)
	if u.cfg.Ahead != "" {
		_ = os.Remove(filepath.Join(u.cfg.Ahead, file))
	}
}

func (u *uploads) begin(ctx context.Context, file string, askers ...chan error) {
	u.running[file] = &upload{askers: askers}
	// A lone file has all workers for its compression, of several each has its own.
	workers := max(1, u.cfg.Workers/(len(u.running)+len(u.waiting)+len(u.ready)))
	go func() {
		ctx, cancel := context.WithTimeout(ctx, uploadLimit)
		defer cancel()
		u.finished <- finished{file, u.store(ctx, file, workers)}
	}()
}
