package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ramhq/ram/pg"
)

// RewindOptions says what a data directory is made to follow.
type RewindOptions struct {
	// Source is how to reach the primary: host, port and a superuser, and whatever
	// else libpq knows but for the password.
	Source   pg.Conninfo
	Password string
	// Generation marks the data directory, as it did before.
	Generation uint64
	// Term is the primaryship that the directory is made fit for. It is shown as
	// pg.DataDirectory.Follows, and a directory that was rewound for it already is
	// left alone. Zero is not kept.
	Term uint64
	// RestoreWAL has the restore_command of the directory's configuration bring WAL that
	// is no longer in the directory.
	RestoreWAL bool
	// Progress is called now and then with the bytes copied and all; it may be nil.
	Progress func(done, total pg.Bytes) `json:"-"`
}

var (
	// ErrRewindImpossible is returned when a data directory cannot be rewound, now or
	// later: only a new copy helps.
	ErrRewindImpossible = errors.New("the data directory cannot be rewound; clone it anew")
	// errRewinding is why a half-rewound directory is not touched any more.
	errRewinding = errors.New("a rewind of it was begun and not finished")
)

// Rewind makes the data directory of a stopped server one that can follow a primary
// whose history it has left, with pg_rewind. A server that crashed is recovered
// first. Afterwards the directory is marked as this node's, has the configuration
// that it had before, and is a standby's: it has standby.signal, also when
// nothing else was to be done.
//
// The error is ErrRewindImpossible when only a new copy helps, and ErrWrongSystem for
// a primary of another cluster. After any other one it may work the next time. A
// rewind that is interrupted while it copies leaves a directory that no server may
// be started on: Inspect shows it as Rewinding, until Clone replaces it.
func (i *Instance) Rewind(ctx context.Context, o RewindOptions) error {
	i.building.Lock()
	defer i.building.Unlock()
	if err := i.settle(); err != nil {
		return err
	}
	if done, err := i.checkRewindable(ctx, o); done || err != nil {
		return err
	}
	lock, err := lockDir(i.cfg.DataDir) // as a guard does: no server is started meanwhile
	if err != nil {
		return err
	}
	defer lock.Close()
	source, err := i.readRewindSource(ctx, o)
	if err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	files, err := i.ReadConfig()
	if err != nil {
		return err
	}
	if err := i.rewindTo(ctx, o, source); err != nil {
		return fmt.Errorf("rewind to %s: %w", o.Source.Redacted(), err)
	}
	return i.finishRewind(ctx, o, files)
}

// checkRewindable reports whether the directory was rewound for this term already.
func (i *Instance) checkRewindable(ctx context.Context, o RewindOptions) (done bool, err error) {
	if err := errors.Join(i.checkStopped(), i.prepareState()); err != nil {
		return false, err
	}
	there, err := i.inspect(ctx)
	switch {
	case err != nil:
		return false, err
	case there.State != pg.DirCluster:
		return false, fmt.Errorf("%w: there is none at %s", ErrRewindImpossible, i.cfg.DataDir)
	case there.Rewinding:
		return false, fmt.Errorf("%w: %w", ErrRewindImpossible, errRewinding)
	}
	return o.Term != 0 && there.Follows == o.Term && there.Standby && there.Generation == o.Generation, nil
}

// rewindTo decides what the directory needs to follow the source, and does it.
func (i *Instance) rewindTo(ctx context.Context, o RewindOptions, source rewindSource) error {
	control, err := i.readControl(ctx)
	if err != nil {
		return err
	}
	if control.SystemID != source.systemID {
		return wrongSystem("the server at "+o.Source["host"]+":"+o.Source["port"], source.systemID, control.SystemID)
	}
	timeline := max(control.Timeline, control.MinRecoveryEndTimeline)
	if timeline == source.timeline {
		return i.checkSameTimeline(control, source)
	}
	if err := i.makeRewindable(ctx, o, source, control, timeline); err != nil {
		return err
	}
	if err := i.noteRewind(o); err != nil {
		return fmt.Errorf("note the rewind: %w", err)
	}
	i.step("rewind noted")
	return i.runRewind(ctx, o)
}

// makeRewindable recovers a directory that was not shut down as a primary's. The
// checkpoint that this writes is nobody else's, and pg_rewind sees it only beyond the
// point where the primary left the timeline: a standby that had not received so much is
// lost by it. So the rewind is noted first, and what is found to be lost stays noted.
func (i *Instance) makeRewindable(ctx context.Context, o RewindOptions, source rewindSource, control pg.ControlData, timeline pg.Timeline) error {
	if control.State == "shut down" {
		return nil
	}
	standby := control.State == "shut down in recovery" || control.State == "in archive recovery"
	if standby {
		if err := i.noteRewind(o); err != nil {
			return fmt.Errorf("note the rewind: %w", err)
		}
	}
	if err := i.recoverAlone(ctx, control); err != nil {
		return err
	}
	after, err := i.readControl(ctx)
	if err != nil {
		return err
	}
	left, err := leftAt(source.history, timeline)
	if err == nil && left != 0 && after.Checkpoint < left {
		err = fmt.Errorf("%w: its WAL ends at %s, before %s where the primary left timeline %d", ErrRewindImpossible, after.Checkpoint, left, timeline)
	}
	return err
}

// noteRewind notes that a rewind begins. What the directory was fit for ends here, so
// that the marker with this term tells that the rewind is finished.
func (i *Instance) noteRewind(o RewindOptions) error {
	mark, _, err := readMarker(i.cfg.DataDir)
	if err != nil {
		return err
	}
	if mark.Follows != 0 {
		mark.Follows = 0
		if err := i.writeMarker(i.cfg.DataDir, mark); err != nil {
			return err
		}
	}
	return i.keepNote(rewindNoteFile, rewindNote{Before: mark.Generation, After: o.Generation, Term: o.Term})
}

// checkSameTimeline decides about a directory that is on the primary's timeline by
// number, where pg_rewind sees nothing to do. A standby on it has followed this
// primary. A former primary has written WAL of its own: two servers have been given
// the same number, as happens when a promotion is cut short and another follows.
func (i *Instance) checkSameTimeline(control pg.ControlData, source rewindSource) error {
	own, _, err := readFile(historyFile(i.cfg.DataDir, source.timeline))
	if err != nil {
		return err
	}
	if string(own) != source.history && (len(own) > 0 || control.Timeline == source.timeline) {
		return fmt.Errorf("%w: its timeline %d began elsewhere than the primary's", ErrRewindImpossible, source.timeline)
	}
	switch control.State {
	case "shut down in recovery", "in archive recovery":
		return nil
	}
	return fmt.Errorf("%w: it has WAL of its own on the primary's timeline %d", ErrRewindImpossible, source.timeline)
}

// runRewind runs pg_rewind. The note goes away when it has changed nothing.
func (i *Instance) runRewind(ctx context.Context, o RewindOptions) error {
	line, err := pg.PassfileEntry{Password: o.Password}.Line()
	if err != nil {
		return err
	}
	passfile := filepath.Join(i.SocketDir(), "rewind-password")
	if err := i.user.writeFile(passfile, []byte(line)); err != nil {
		return err
	}
	defer os.Remove(passfile)
	args := []string{"-D", i.cfg.DataDir, "--source-server=" + o.conninfo().String(), "--progress", "--no-ensure-shutdown"}
	if o.RestoreWAL {
		files, err := i.ReadConfig()
		if err != nil {
			return err
		}
		// pg_rewind refuses to begin where there is no restore_command.
		if strings.Contains(files.Managed, "\nrestore_command") {
			args = append(args, "--restore-target-wal")
		}
	}
	begun := false
	err = i.run(ctx, child{
		program: "pg_rewind", env: []string{"PGPASSFILE=" + passfile}, args: args,
		line: func(text string) bool {
			copied := reportProgress(text, o.Progress)
			if !begun && (copied || strings.Contains(text, "need to copy")) {
				begun = true // it says so right before its first change
				i.step("rewinding")
			}
			return !copied && isComplaint(text)
		},
	})
	switch {
	case err != nil && begun:
		return fmt.Errorf("%w: %w: %w", ErrRewindImpossible, errRewinding, err)
	case err != nil:
		if cannotRewind.MatchString(err.Error()) {
			err = fmt.Errorf("%w: %w", ErrRewindImpossible, err)
		}
		return errors.Join(err, i.dropNote(rewindNoteFile))
	case begun:
		return i.checkRecovers(ctx)
	}
	return nil
}

// isComplaint tells errors with their details from what pg_rewind says on its way.
func isComplaint(text string) bool {
	rest, tagged := strings.CutPrefix(text, "pg_rewind: ")
	if !tagged {
		return true
	}
	for _, kind := range []string{"error:", "fatal:", "detail:", "hint:", "warning:"} {
		if strings.HasPrefix(rest, kind) {
			return true
		}
	}
	return false
}

// cannotRewind matches what pg_rewind says when it will say so again: of all versions
// from 13 on.
var cannotRewind = regexp.MustCompile(`could not find common ancestor|could not find previous WAL record|` +
	`could not read WAL record|could not open file ".*pg_wal/|data checksums|clusters are from different systems|` +
	`clusters are not compatible`)

// startsAt is where recovery begins, as backup_label says it.
var startsAt = regexp.MustCompile(`START WAL LOCATION: (\S+) `)

// checkRecovers makes sure that the WAL through which the rewound server becomes
// consistent is there: pg_rewind copies what the primary has, and does not ask
// whether that is enough.
func (i *Instance) checkRecovers(ctx context.Context) error {
	label, _, err := readFile(filepath.Join(i.cfg.DataDir, "backup_label"))
	if err != nil {
		return err
	}
	control, err := i.readControl(ctx)
	if err != nil {
		return err
	}
	match := startsAt.FindSubmatch(label)
	if match == nil {
		return fmt.Errorf("%w: pg_rewind left no backup_label that says where recovery begins", ErrRewindImpossible)
	}
	begin, err := pg.ParseLSN(string(match[1]))
	if err != nil {
		return err
	}
	have, err := i.walSegments()
	if err != nil {
		return err
	}
	size := pg.LSN(control.SegmentSize)
	for at := begin - begin%size; at < control.MinRecoveryEnd; at += size {
		if name := fmt.Sprintf("%08X%08X", uint64(at)>>32, uint64(at)&(1<<32-1)/uint64(size)); !have[name] {
			return fmt.Errorf("%w: the primary has no more the WAL from %s on, with which it would recover", ErrRewindImpossible, at)
		}
	}
	return nil
}

// walSegments are the names of the segments in pg_wal without their timelines.
func (i *Instance) walSegments() (map[string]bool, error) {
	entries, err := os.ReadDir(filepath.Join(i.cfg.DataDir, "pg_wal"))
	if err != nil {
		return nil, err
	}
	const timeline, whole = 8, 24
	have := map[string]bool{}
	for _, entry := range entries {
		if name := entry.Name(); len(name) == whole {
			have[name[timeline:]] = true
		}
	}
	return have, nil
}

// finishRewind makes the directory this node's again: pg_rewind has copied the
// primary's files. The note goes last.
func (i *Instance) finishRewind(ctx context.Context, o RewindOptions, files pg.ConfigFiles) error {
	files.Standby = true
	if err := i.writeConfig(i.cfg.DataDir, files); err != nil {
		return err
	}
	text, err := i.controlData(ctx, i.cfg.DataDir)
	if err != nil {
		return err
	}
	control, err := pg.ParseControlData(text)
	if err != nil {
		return err
	}
	m := marker{
		Cluster: i.cfg.Cluster, Node: i.cfg.Name, Generation: o.Generation,
		Follows: o.Term, FollowsState: control.State, FollowsCheckpoint: control.Checkpoint,
	}
	if err := i.writeMarker(i.cfg.DataDir, m); err != nil {
		return err
	}
	i.step("rewound")
	if err := i.dropNote(rewindNoteFile); err != nil {
		return err
	}
	i.logger.Info().Uint64("term", o.Term).Msg("data directory rewound")
	return nil
}

const rewindNoteFile = "rewinding.json"

// rewindNote says that a rewind was begun. Before and After are the generations that
// the directory had and gets, Term is what it is made fit for.
type rewindNote struct {
	Before uint64 `json:"before"`
	After  uint64 `json:"after"`
	Term   uint64 `json:"term"`
}

// rewinding reports whether a directory in place was left half rewound. A note that
// is of another directory does not count, nor one that only was not removed.
func (i *Instance) rewinding(mark marker) (note rewindNote, is bool, err error) {
	is, err = i.readNote(rewindNoteFile, &note)
	if err != nil {
		return note, true, err
	}
	own := mark.Cluster == i.cfg.Cluster && mark.Node == i.cfg.Name
	replaced := own && mark.Generation != note.Before && mark.Generation != note.After
	finished := own && note.Term != 0 && mark.Follows == note.Term
	return note, is && !replaced && !finished, nil
}
