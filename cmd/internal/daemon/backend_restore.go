package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup"
	"github.com/ramhq/ram/reconcile"
)

// Restore is api.Backend's. What cannot be reached is said before anything is touched.
func (b backend) Restore(ctx context.Context, r api.RestoreRequest) (api.RestoreAnswer, error) {
	l, err := b.now()
	if err != nil {
		return api.RestoreAnswer{}, err
	}
	rec := l.machine.Record()
	if rec.Spec == nil {
		return api.RestoreAnswer{}, api.Errorf(http.StatusConflict, "no spec has been applied yet: ramctrl apply")
	}
	plan := l.planRestore
	if r.Abort {
		plan = l.planAbort
	}
	cmd, answer, err := plan(ctx, rec, r)
	if err != nil || r.DryRun {
		return answer, err
	}
	return answer, l.proposeRestore(ctx, r.By, cmd)
}

// planAbort is what giving a restore up comes to.
func (l *life) planAbort(_ context.Context, rec *reconcile.Record, _ api.RestoreRequest) (*reconcile.RestoreCluster, api.RestoreAnswer, error) {
	cmd, err := reconcile.AbortRestore(rec, l.leader.Observed())
	if err != nil {
		return nil, api.RestoreAnswer{}, api.Errorf(http.StatusConflict, "%s", err)
	}
	step := fmt.Sprintf("start %s again with the data of before", rec.Restoring.Former)
	return cmd, api.RestoreAnswer{Node: rec.Restoring.Former, Steps: []string{step}}, nil
}

// planRestore is what a restore of the cluster comes to.
func (l *life) planRestore(ctx context.Context, rec *reconcile.Record, r api.RestoreRequest) (cmd *reconcile.RestoreCluster, answer api.RestoreAnswer, err error) {
	repository, err := l.openRepository(ctx, r.Repository)
	if err != nil {
		return nil, answer, err
	}
	defer repository.Close()
	entry, reach, err := l.startingPoint(ctx, rec, repository, r)
	if err != nil {
		return nil, answer, err
	}
	found, err := l.depot().find(r.Repository)
	if err != nil {
		return nil, answer, err
	}
	order := reconcile.RestoreOrder{Repository: found.Name, Backup: entry.ID, Target: r.Target}
	cmd, err = reconcile.RestoreFor(rec, l.leader.Observed(), order, r.Node)
	if err != nil {
		return nil, answer, api.Errorf(http.StatusConflict, "%s", err)
	}
	return cmd, api.RestoreAnswer{
		Backup: backupInfo(found.Name, entry), Target: r.Target, Reach: reach, Node: cmd.Begin.Node,
		Steps: restoreSteps(rec, cmd.Begin), Loses: fmt.Sprintf("everything that was written after %s", r.Target),
	}, nil
}

// startingPoint is the backup from which a target is reached, and how far recovery from
// it can go.
func (l *life) startingPoint(ctx context.Context, rec *reconcile.Record, repository *backup.Repository, r api.RestoreRequest) (entry backup.Entry, reach *api.BackupReach, err error) {
	refuse := func(format string, args ...any) (backup.Entry, *api.BackupReach, error) {
		return backup.Entry{}, nil, api.Errorf(http.StatusConflict, format, args...)
	}
	entries, err := repository.Backups(ctx)
	if err != nil {
		return entry, nil, err
	}
	known := r.Target // where it is, for a named point
	if r.Target.Point != "" {
		point, ok := rec.Point(r.Target.Point)
		if !ok {
			return refuse("no restore point %q was written by ramctrl backup point: for one that was written in SQL give its LSN (--to-lsn)", r.Target.Point)
		}
		known = reconcile.RestoreTarget{LSN: point.LSN}
	}
	if b, behind := rec.LeftBehind(r.Target.Time); behind {
		return refuse("%s cannot be reached any more: the restore at %s went back to %s, and left behind what was written in between",
			r.Target, b.Restored.Format(time.RFC3339), b.Time.UTC().Format(time.RFC3339))
	}
	if entry, err = choose(entries, r.Backup, known); err != nil {
		return refuse("%s", err)
	}
	if entry.SystemID != rec.SystemID {
		return refuse("backup %s is of another PostgreSQL cluster (system identifier %s, this cluster has %s): begin a new cluster with bootstrap { restore { ... } }", entry.ID, entry.SystemID, rec.SystemID)
	}
	reach = reachOf(ctx, repository, entry)
	if written := l.written(ctx, r.Target.LSN); r.Target.LSN > max(written, reach.To) {
		return refuse("%s cannot be reached: the primary has written WAL to LSN %s, and no further", r.Target, written)
	}
	if why := beyond(known, reach, rec.Spec.Archive != nil && rec.Restoring == nil, time.Now()); why != "" {
		return refuse("%s", why)
	}
	return entry, reach, nil
}

// written is how far the primary has written WAL. Reports are a little old, so it waits
// a moment for one that comes to least. A primary that does not run may have written
// anything.
func (l *life) written(ctx context.Context, least pg.LSN) pg.LSN {
	for range 30 {
		v := l.leader.Observed().Nodes[l.machine.Record().Primary]
		if !v.Running() || v.Report.Server.Recovery || v.Report.Server.LSN >= least {
			return max(v.Report.Server.LSN, least)
		}
		if !sleep(ctx, 100*time.Millisecond) {
			break
		}
	}
	return l.leader.Observed().Nodes[l.machine.Record().Primary].Report.Server.LSN
}

func (l *life) proposeRestore(ctx context.Context, by string, cmd *reconcile.RestoreCluster) error {
	if err := l.ledger().Propose(ctx, reconcile.Command{At: time.Now().UTC(), By: by, Restore: cmd}); err != nil {
		return err
	}
	push := l.push(context.WithoutCancel(ctx)) // the request may be over before it has arrived
	for _, a := range cmd.Assign {
		push(a.Node, a.Assignment)
	}
	return nil
}

// beyond is why a target cannot be reached with what is in the repository, and with
// what the primary still archives when it is stopped; empty when nothing speaks against it.
func beyond(t reconcile.RestoreTarget, reach *api.BackupReach, flushes bool, now time.Time) string {
	can := fmt.Sprintf("what can be restored is LSN %s to %s, about %s to %s", reach.From, reach.To,
		reach.Since.UTC().Format(time.RFC3339), reach.Until.UTC().Format(time.RFC3339))
	if reach.Gap != "" {
		can += fmt.Sprintf("; WAL file %s is missing after that", reach.Gap)
	}
	flushes = flushes && reach.Gap == ""
	switch {
	case t.Time.After(now):
		return fmt.Sprintf("%s is in the future; %s", t, can)
	case !flushes && t.Time.After(reach.Until):
		return fmt.Sprintf("%s cannot be reached: %s", t, can)
	case !flushes && t.LSN > reach.To:
		return fmt.Sprintf("%s cannot be reached: %s", t, can)
	}
	return ""
}

// restoreSteps says in order what a restore of the cluster does.
func restoreSteps(rec *reconcile.Record, r reconcile.Restoration) []string {
	steps := []string{
		fmt.Sprintf("stop PostgreSQL on %s: nobody can write from here on", rec.Primary),
		fmt.Sprintf("restore backup %s on %s and recover it to %s", r.Order.Backup, r.Node, r.Order.Target),
		fmt.Sprintf("keep the old data directory of %s beside the new one", r.Node),
		fmt.Sprintf("start %s as the primary of term %d, on a new timeline", r.Node, rec.Term+1),
	}
	for _, n := range rec.Spec.Nodes {
		if n.Name != r.Node && !n.Witness {
			steps = append(steps, fmt.Sprintf("clone %s from %s", n.Name, r.Node))
		}
	}
	return steps
}

// TakeOver is api.Backend's.
func (b backend) TakeOver(ctx context.Context, r api.TakeoverRequest) (api.TakeoverAnswer, error) {
	var answer api.TakeoverAnswer
	l, err := b.now()
	if err != nil {
		return answer, err
	}
	repository, err := l.openRepository(ctx, r.Repository)
	if err != nil {
		return answer, err
	}
	defer repository.Close()
	found, err := l.depot().find(r.Repository)
	if err != nil {
		return answer, err
	}
	own := l.depot().owner()
	owner, err := repository.Owner(ctx)
	switch {
	case errors.Is(err, backup.ErrNotFound) && r.DryRun:
		return api.TakeoverAnswer{Repository: found.Name}, nil
	case errors.Is(err, backup.ErrNotFound):
		return api.TakeoverAnswer{Repository: found.Name}, repository.Claim(ctx, own)
	case err != nil:
		return answer, api.Errorf(http.StatusServiceUnavailable, "%s", err)
	}
	answer = api.TakeoverAnswer{Repository: found.Name, Cluster: owner.Cluster, ClusterID: owner.ClusterID, Since: owner.At, Own: owner.ClusterID == own.ClusterID}
	if owner.SystemID != own.SystemID {
		return answer, api.Errorf(http.StatusConflict, "repository %s is of another PostgreSQL cluster (system identifier %s, this cluster has %s): give this cluster a URL of its own", found.Name, owner.SystemID, own.SystemID)
	}
	if r.DryRun || answer.Own {
		return answer, nil
	}
	return answer, repository.TakeOver(ctx, own)
}
