package ctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

type restoreFlags struct {
	runFlags
	targetFlags
	backup, repository, node string
	abort                    bool
}

func (a *app) backupRestoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Take the whole running cluster back to a point in time",
		Long: `Take the whole cluster back to a point in time: writes stop, one node is restored from
a backup and recovers to the target, it becomes the primary on a new timeline, and the
other nodes are copied from it. The data directories of before are kept aside. All that
was written after the target is gone from the cluster.

The target is the end of all WAL in the repository, or what one of the --to flags says.
A time is read by this machine's clock unless it says its zone. The backup is the newest
from which the target can be reached, unless --backup names one.

What would happen is shown first, with what is lost, and a target that cannot be reached
is refused with the range that can. Then the cluster's name has to be typed; without a
terminal to ask at, nothing is changed unless --auto-approve is given.

Ctrl-C only stops the showing. --abort gives up a restore that is under way, as long as
the restored data are not in place, and goes on with the data of before.

A new cluster is made from a backup with bootstrap { restore { ... } } in its spec, and
one node with ramctrl reinit NODE --from backup.`,
		Example: `  ramctrl backup restore --to-time "2026-11-22 14:05:00"
  ramctrl backup restore --to-time 2026-11-22T13:05:00Z --node b
  ramctrl backup restore --to-point before-migration
  ramctrl backup restore --backup 20261122T030000Z-daily --to-backup-end
  ramctrl backup restore --abort`,
		Args: cobra.NoArgs,
	}
	f.runFlags.add(cmd)
	f.addApprove(cmd)
	f.targetFlags.add(cmd)
	cmd.Flags().StringVar(&f.backup, "backup", "", "begin with the backup that has this `ID` (default: the newest that serves)")
	cmd.Flags().StringVar(&f.node, "node", "", "the `NODE` that is restored and becomes the primary (default: the primary)")
	cmd.Flags().BoolVar(&f.abort, "abort", false, "give up the restore that is under way")
	a.addRepository(cmd, &f.repository)
	a.completeFlag(cmd, "node", a.dataNodeNames)
	a.completeFlagBy(cmd, "backup", a.backupIDsOrLatest)
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		if f.abort {
			if f.targetFlags.any() || f.backup != "" || f.node != "" || f.repository != "" {
				return usagef("--abort takes no target, backup, node or repository: it gives up the restore that is under way")
			}
			return a.abortRestore(ctx, f)
		}
		target, err := f.target(a.sys.Zone)
		if err != nil {
			return err
		}
		if f.backup != "" {
			if err := checkID(f.backup, true); err != nil {
				return err
			}
		}
		return a.restore(ctx, f, api.RestoreRequest{
			Repository: f.repository, Backup: f.backup, Target: target, Node: f.node, By: a.sys.User,
		})
	})
	return cmd
}

// restore shows what would happen, asks, begins it and follows it.
func (a *app) restore(ctx context.Context, f restoreFlags, r api.RestoreRequest) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	before, err := client.Status(ctx)
	if err != nil {
		return err
	}
	dry := r
	dry.DryRun = true
	plan, err := client.Restore(ctx, dry)
	if err != nil {
		return err
	}
	if err := render.Restore(a.people(), before.Cluster, plan, a.style()); err != nil {
		return err
	}
	question := fmt.Sprintf("\nThe whole cluster goes back in time. Type its name, %s, to go ahead: ", before.Cluster)
	if err := a.confirmWith(ctx, question, before.Cluster, f.autoApprove); err != nil {
		return err
	}
	// What was shown is what is done, whatever came into the repository meanwhile.
	r.Repository, r.Backup, r.Node = plan.Backup.Repository, plan.Backup.ID, plan.Node
	plan, err = client.Restore(ctx, r)
	if err != nil {
		return err
	}
	result := restoreResult{Plan: &plan, Primary: plan.Node}
	if f.detach {
		a.say("The restore has begun. Follow it with: %s", followFailover)
		result.Outcome = outcomeDetached
		return a.restoreEnded(result)
	}
	a.say("Restoring:")
	return a.followRestore(ctx, client, result, before, f)
}

// abortRestore gives a restore up and follows the cluster until it is as before.
func (a *app) abortRestore(ctx context.Context, f restoreFlags) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	before, err := client.Status(ctx)
	if err != nil {
		return err
	}
	// What cannot be given up any more is said before anything is asked.
	if _, err := client.Restore(ctx, api.RestoreRequest{Abort: true, DryRun: true, By: a.sys.User}); err != nil {
		return err
	}
	question := fmt.Sprintf("Give up the restore of cluster %s, and go on with the data of before?", before.Cluster)
	if err := a.confirm(ctx, question, f.autoApprove); err != nil {
		return err
	}
	if _, err := client.Restore(ctx, api.RestoreRequest{Abort: true, By: a.sys.User}); err != nil {
		return err
	}
	result := restoreResult{Aborted: true}
	if f.detach {
		a.say("The restore is given up. Follow the cluster with: %s", followFailover)
		result.Outcome = outcomeDetached
		return a.restoreEnded(result)
	}
	a.say("The restore is given up:")
	return a.followRestore(ctx, client, result, before, f)
}

// restoreResult is backup restore -o json.
type restoreResult struct {
	Format  int    `json:"format"`
	Outcome string `json:"outcome"`
	Aborted bool   `json:"aborted,omitempty"`
	// Primary is the node that is restored, or the primary again after --abort.
	Primary   string             `json:"primary"`
	Timeline  uint64             `json:"timeline,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	ElapsedMS int64              `json:"elapsed_ms,omitempty"`
	Plan      *api.RestoreAnswer `json:"plan,omitempty"`
}

func (a *app) restoreEnded(r restoreResult) error {
	if !a.json() {
		return nil
	}
	r.Format = outputFormat
	return a.printJSON(r)
}

// tellRestore ends the command with a sentence, or with an error that says what to do.
func (a *app) tellRestore(r restoreResult, w *restoreWatcher, end ending) error {
	what := "the restore"
	if r.Aborted {
		what = "the return to the data of before"
	}
	again := "follow it with: " + followFailover
	giveUp := "; give it up with: ramctrl backup restore --abort"
	if r.Aborted || w.restored {
		giveUp = ""
	}
	switch end.outcome {
	case outcomeDone:
		if w.left != "" {
			a.warn("Not all of the cluster is back yet: %s. It keeps trying; %s", w.left, again)
		}
		if r.Aborted {
			a.say("Done: node %s is the primary again, after %s.", r.Primary, render.Elapsed(w.elapsed()))
			return nil
		}
		a.say("Done: the cluster is at %s, node %s is its primary on timeline %d, after %s.",
			a.style().Target(r.Plan.Target), r.Primary, r.Timeline, render.Elapsed(w.elapsed()))
		return nil
	case outcomeDetached:
		return fmt.Errorf("detached, %s goes on; %s%s", what, again, giveUp)
	case outcomeTimeout:
		return fmt.Errorf("%s is not done after --timeout and goes on; %s%s", what, again, giveUp)
	case outcomeBlocked:
		return fmt.Errorf("%s cannot get on: %s\nThe cluster keeps trying; %s%s", what, r.Reason, again, giveUp)
	case outcomeSuperseded:
		return errors.New("another restore, or an end of this one, came in between: see ramctrl events")
	}
	return end.cause
}

// primaryOf is the primary's line.
func primaryOf(s reconcile.Status) reconcile.NodeStatus {
	n, _ := nodeOf(s, s.Primary)
	return n
}
