package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/renameio/v2"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/specfile"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec/hclspec"
)

const (
	// settleTime is how long a file must be left alone before it is read: editors
	// write in several steps.
	settleTime = 200 * time.Millisecond
	// settleMost is how long a directory in which something else goes on may keep
	// the file from being read.
	settleMost = 2 * time.Second
	// lookAgain is how often a watched file is read although nothing was
	// signalled: some file systems signal nothing.
	lookAgain = 10 * time.Second
	// catchUp is how soon the file is read when another revision comes into force.
	// Copies on other hosts are seldom all brought up to date in the same second.
	catchUp = 3 * time.Second
)

// watchFile makes the spec file the source of truth: what is read from it is
// proposed to the leader as an edit of what it held before.
func (l *life) watchFile(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the spec: %w", err)
	}
	defer w.Close()
	f := fileWatch{life: l, before: loadWatched(l.dataDir)}
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		changed := l.machine.Changed()
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("the file watch has ended")
			}
			retry.Reset(f.settle(time.Now()))
			continue
		case <-changed:
			if revision := l.machine.Record().Revision; revision != f.revision {
				f.revision = revision
				retry.Reset(catchUp)
			}
			continue
		case err := <-w.Errors:
			l.log.Warn().Err(err).Msg("file watch")
			continue
		case <-ticker.C:
		case <-retry.C:
		}
		f.disturbed = time.Time{}
		if again := f.look(ctx); again > 0 {
			retry.Reset(again)
		}
		f.follow(w)
	}
}

// fileWatch is what the watch of one file remembers.
type fileWatch struct {
	*life
	before reconcile.Agreement
	said   string // what was logged last, so that it is logged once
	held   string // digest that waits for an operator
	dirs   []string
	// revision is the one in force that was seen last.
	revision uint64
	// disturbed is when the first change was signalled that has not been looked at;
	// zero when there is none.
	disturbed time.Time
}

// settle is how long to wait after a change before the file is read.
func (f *fileWatch) settle(now time.Time) time.Duration {
	if f.disturbed.IsZero() {
		f.disturbed = now
	}
	return min(settleTime, max(0, f.disturbed.Add(settleMost).Sub(now)))
}

// follow watches the directories of all files that the spec was read from, and of
// what their links lead to. Directories, since a replaced file is another one.
func (f *fileWatch) follow(w *fsnotify.Watcher) {
	for _, dir := range f.dirs {
		if !slices.Contains(w.WatchList(), dir) {
			// A directory that is not there is looked for again with the next tick.
			_ = w.Add(dir)
		}
	}
	for _, dir := range w.WatchList() {
		if !slices.Contains(f.dirs, dir) {
			_ = w.Remove(dir)
		}
	}
}

// watchDirs are the directories in which a change may change the spec.
func watchDirs(path string, loaded specfile.Loaded) []string {
	dirs := slices.Clone(loaded.Dirs)
	for _, file := range append(slices.Clone(loaded.Files), path) {
		dirs = append(dirs, linkDirs(file)...)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// linkDirs are the directories of a file and of each link on the way to it.
func linkDirs(path string) []string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	dirs := []string{filepath.Dir(abs)}
	// git-sync and Kubernetes swap a link to a directory on the way to the file.
	for dir := filepath.Dir(abs); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			dirs = append(dirs, filepath.Dir(dir))
		}
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil && real != abs {
		dirs = append(dirs, filepath.Dir(real))
	}
	if target, err := os.Readlink(abs); err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(abs), target)
		}
		if target != abs {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	return dirs
}

// look reads the file and tells the leader. It returns how soon to look again
// when something passing was in the way; zero for no sooner than usual.
func (f *fileWatch) look(ctx context.Context) time.Duration {
	if !f.store.IsMember() || !f.machine.Record().Formed() {
		return time.Second
	}
	loaded, diagnostics, err := f.opts.load()
	f.dirs = watchDirs(f.opts.SpecPath, loaded)
	switch {
	case err != nil:
		f.say("%s cannot be read, nothing changes: %s", f.opts.SpecPath, err)
		return 0
	case diagnostics.HasErrors():
		f.say("%s is not valid, nothing changes: %s", f.opts.SpecPath, firstError(diagnostics))
		return 0
	}
	now := loaded.Spec.Digest()
	rec := f.machine.Record()
	switch reconcile.WatchFile(rec, f.before, now) {
	case reconcile.WatchedSame:
		if w := rec.Waiting; w != nil && w.By == f.by() {
			return f.propose(ctx, loaded, now) // which is to withdraw
		}
		f.agree(now)
		return 0
	case reconcile.WatchedStale:
		f.say("%s on node %s is a stale copy: it holds an older revision than %d, which is in force; bring it up to date", f.opts.SpecPath, f.start.node.Name, rec.Revision)
		return 0
	case reconcile.WatchedUnknown:
		f.say("%s on node %s was not changed from revision %d, which is in force: bring it up to date, or ramctrl apply it", f.opts.SpecPath, f.start.node.Name, rec.Revision)
		return 0
	}
	if now == f.held && rec.Waiting != nil {
		return 0 // said once; copies that differ would take each other's place for ever
	}
	return f.propose(ctx, loaded, now)
}

func (f *fileWatch) by() string { return "watch on " + f.start.node.Name }

// propose hands an edit of the version in force to the leader.
func (f *fileWatch) propose(ctx context.Context, loaded specfile.Loaded, digest string) time.Duration {
	in := watched{Node: f.start.node.Name, Before: f.before, Apply: api.ApplyRequest{
		Spec: loaded.Spec, Source: loaded.Text(), Cause: reconcile.CauseWatch, By: f.by(),
	}}
	var answer string
	err := f.tellLeader(ctx, in, &answer)
	switch {
	case errors.Is(err, errNoLeader), hasStatus(err, http.StatusServiceUnavailable):
		return time.Second
	case hasStatus(err, http.StatusConflict):
		f.say("%s: %s", f.opts.SpecPath, err)
		return 0
	case err != nil:
		f.say("%s could not be proposed, trying again: %s", f.opts.SpecPath, err)
		return time.Second
	case answer != "":
		f.held = digest
		f.agent.SetWatch(answer)
		return 0
	}
	f.agree(digest)
	return 0
}

func (f *fileWatch) tellLeader(ctx context.Context, in watched, answer *string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if f.Leads() {
		*answer, err = f.takeWatched(ctx, in)
		return asStatus(err)
	}
	addr, ok := f.leaderAddress()
	if !ok {
		return errNoLeader
	}
	return f.peers.call(ctx, addr, http.MethodPost, pathWatch, in, answer)
}

// asStatus gives an error of this node the form that it has over the network.
func asStatus(err error) error {
	var e *api.Error
	if errors.As(err, &e) {
		return &statusError{e.Status, e.Message}
	}
	return err
}

// takeWatched is the leader's side: the edit is applied when it destroys nothing,
// otherwise kept for an operator. The answer says what it waits for.
func (l *life) takeWatched(ctx context.Context, in watched) (string, error) {
	if !l.Leads() {
		return "", errStarting
	}
	if err := check(in.Apply.Spec); err != nil {
		return "", err
	}
	rec := l.machine.Record()
	digest := in.Apply.Spec.Digest()
	switch reconcile.WatchFile(rec, in.Before, digest) {
	case reconcile.WatchedPropose:
		return l.applyWatched(ctx, in)
	case reconcile.WatchedSame:
		return "", l.withdraw(ctx, in.Apply.By)
	}
	return "", api.Errorf(http.StatusConflict, "the copy on node %s was not changed from revision %d, which is in force", in.Node, rec.Revision)
}

// withdraw forgets what a host's file wanted: it is as before again.
func (l *life) withdraw(ctx context.Context, by string) error {
	if w := l.machine.Record().Waiting; w == nil || w.By != by {
		return nil
	}
	return l.ledger().Propose(ctx, reconcile.Command{At: time.Now().UTC(), By: by, Hold: &reconcile.Hold{}})
}

func (l *life) applyWatched(ctx context.Context, in watched) (string, error) {
	rec, digest := l.machine.Record(), in.Apply.Spec.Digest()
	plan := l.leader.Plan(in.Apply.Spec)
	if plan.Summary.Destructive && !plan.Refused() {
		reason := fmt.Sprintf("%s: it destroys %s", in.Apply.By, destroyed(plan))
		if rec.Waiting == nil || rec.Waiting.Spec.Digest() != digest {
			proposal := reconcile.Proposal{Spec: in.Apply.Spec, Source: in.Apply.Source, By: in.Apply.By, At: time.Now().UTC(), Reason: reason}
			cmd := reconcile.Command{At: time.Now().UTC(), By: in.Apply.By, Hold: &reconcile.Hold{Proposal: &proposal}}
			if err := l.ledger().Propose(ctx, cmd); err != nil {
				return "", err
			}
		}
		return "waits for ramctrl apply --allow-destroy: " + reason, nil
	}
	_, err := l.apply(ctx, in.Apply)
	if errors.Is(err, reconcile.ErrStale) {
		// Another host's copy came first: this one is looked at again.
		return "", api.Errorf(http.StatusServiceUnavailable, "%s", err)
	}
	return "", err
}

// agree notes that the file holds the version in force.
func (f *fileWatch) agree(digest string) {
	f.agent.SetWatch("")
	f.said, f.held = "", ""
	now := reconcile.Agreement{Digest: digest, Revision: f.machine.Record().Revision}
	if f.before == now {
		return
	}
	f.before = now
	if err := saveWatched(f.dataDir, now); err != nil {
		f.log.Warn().Err(err).Msg("could not keep what the watched file held")
	}
}

// say reports what keeps the file from being applied: in status, as an event, and
// once in the log.
func (f *fileWatch) say(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	f.agent.SetWatch(message)
	if message == f.said {
		return
	}
	f.said = message
	f.log.Warn().Msg(message)
}

func firstError(ds hclspec.Diagnostics) string {
	for _, d := range ds {
		if d.Severity == "error" {
			text := fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, d.Summary)
			if n := ds.Errors(); n > 1 {
				text += fmt.Sprintf(" (and %d more: ramctrl validate)", n-1)
			}
			return text
		}
	}
	return ""
}

func watchedPath(dataDir string) string { return filepath.Join(dataDir, "watched.json") }

// loadWatched is when the file last agreed with the cluster, as far as that is known.
func loadWatched(dataDir string) reconcile.Agreement {
	var before reconcile.Agreement
	b, err := os.ReadFile(watchedPath(dataDir))
	if err != nil || json.Unmarshal(b, &before) != nil || !strings.HasPrefix(before.Digest, "sha256:") {
		return reconcile.Agreement{}
	}
	return before
}

func saveWatched(dataDir string, before reconcile.Agreement) error {
	b, err := json.Marshal(before)
	if err != nil {
		return err
	}
	return renameio.WriteFile(watchedPath(dataDir), b, 0o600)
}
