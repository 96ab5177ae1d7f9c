package reconcile_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// restoring is a cluster of three that has begun to go back to a point in time.
func restoring(t *testing.T, node string) (before, after *reconcile.Record, obs reconcile.Observed) {
	t.Helper()
	w := settled(t, "a b c")
	before, obs = w.Record, w.Observed()
	cmd, err := reconcile.RestoreFor(before, obs, reconcile.RestoreOrder{Repository: "main", Backup: "x"}, node)
	if err != nil {
		t.Fatal(err)
	}
	after, err = reconcile.Transition(before, reconcile.Command{By: "anna", Restore: cmd})
	if err != nil {
		t.Fatal(err)
	}
	return before, after, obs
}

func TestARestoreTakesPrimaryshipFromEverybodyAtOnce(t *testing.T) {
	for _, node := range []string{"a", "b"} {
		before, after, _ := restoring(t, node)
		if after.Term != before.Term+1 || after.Primary != node {
			t.Errorf("term %d, primary %s", after.Term, after.Primary)
		}
		for _, name := range slices.Sorted(maps.Keys(after.Assignments)) {
			a := after.Assignments[name]
			switch {
			case name == node && (a.Role != reconcile.RolePrimary || a.Restore == nil || a.Generation != after.Floor || !a.Retain):
				t.Errorf("the restored node is assigned %+v", a)
			case name != node && !a.Frozen():
				t.Errorf("node %s is not frozen: %+v", name, a)
			case a.Term != after.Term:
				t.Errorf("node %s is in term %d", name, a.Term)
			}
		}
		if a := after.Assignments["a"]; node == "b" && (!a.Clean || !a.Retain) {
			t.Errorf("the former primary does not end in order, or its data are not kept: %+v", a)
		}
		if len(after.Sync.Sets()) != 1 || after.Sync.Current.K != 0 {
			t.Errorf("sync sets of before count: %+v", after.Sync)
		}
	}
}

func TestNoTermIsOpenedDuringARestore(t *testing.T) {
	_, after, obs := restoring(t, "b")
	for _, cause := range []reconcile.OpenReason{reconcile.OpenFailover, reconcile.OpenSwitchover} {
		if p := reconcile.Preflight(after, obs, cause, "", false); !p.Refused() {
			t.Errorf("%s is not refused", cause)
		}
		refused(t, after, reconcile.Command{Open: reconcile.OpenFor(after, cause, "", false)}, "being restored")
	}
}

func TestNoPrimaryIsSuspectedDuringARestore(t *testing.T) {
	_, after, obs := restoring(t, "b")
	obs.Pulse.Silent = 1 << 40
	if got := reconcile.Succeed(after, obs); got.Open != nil || got.Elect != nil || got.Revive != nil {
		t.Errorf("got %+v", got)
	}
}

func TestDataOfBeforeARestoreAreCopiedAnew(t *testing.T) {
	_, after, obs := restoring(t, "a")
	v := obs.Nodes["a"]
	v.Report.Data.Generation, v.Report.Server.TimelineBegan = after.Floor, 0x300
	after.Restoring.Order.Target.Time = instant(t, "2026-11-22 12:00:00")
	after.Points = []reconcile.RestorePoint{{Name: "early", LSN: 0x200}, {Name: "late", LSN: 0x400}}
	serial := after.Assignments["a"].Serial
	v.Report.Written, v.Report.Loaded, v.Report.Settled, v.Report.Serial = serial, serial, serial, serial
	obs.Nodes["a"] = v
	plan := reconcile.Diff(after.Spec, after, obs)
	steps := reconcile.Runnable(plan)
	if len(steps) != 1 || steps[0].Kind != reconcile.StepRestore || steps[0].Effect().Restored == 0 {
		t.Fatalf("runnable: %+v", steps)
	}
	done, err := reconcile.Transition(after, reconcile.Command{At: instant(t, "2026-11-22 15:00:00"), Advance: &reconcile.Advance{Step: steps[0].ID, Effect: *steps[0].Effect()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, early := done.Point("early"); !early {
		t.Error("a point before the branch is forgotten")
	}
	if _, late := done.Point("late"); late {
		t.Error("a point that was left behind is remembered")
	}
	for at, behind := range map[string]bool{"2026-11-22 11:59:00": false, "2026-11-22 13:00:00": true, "2026-11-22 15:01:00": false} {
		if _, got := done.LeftBehind(instant(t, at)); got != behind {
			t.Errorf("%s left behind: %t", at, got)
		}
	}
	var clones []string
	for _, s := range reconcile.Diff(done.Spec, done, obs).Steps {
		if s.Kind == reconcile.StepClone {
			clones = append(clones, s.Node)
		}
	}
	if diff := cmp.Diff([]string{"b", "c"}, clones); diff != "" {
		t.Errorf("copied (-want +got):\n%s", diff)
	}
}

func TestARestoreThatIsGivenUpGoesBackToTheDataOfBefore(t *testing.T) {
	before, after, obs := restoring(t, "b")
	cmd, err := reconcile.AbortRestore(after, obs)
	if err != nil {
		t.Fatal(err)
	}
	back, err := reconcile.Transition(after, reconcile.Command{By: "anna", Restore: cmd})
	if err != nil {
		t.Fatal(err)
	}
	if back.Primary != "a" || back.Term != after.Term+1 || back.Restoring != nil || back.Floor != before.Floor {
		t.Errorf("primary %s, term %d, floor %d", back.Primary, back.Term, back.Floor)
	}
	for name, a := range back.Assignments {
		if a.Generation != before.Assignments[name].Generation || a.Restore != nil {
			t.Errorf("node %s is assigned %+v", name, a)
		}
	}
	if a := back.Assignments["a"]; a.Role != reconcile.RolePrimary || a.Launch != a.Serial {
		t.Errorf("the former primary is assigned %+v", a)
	}
}

func TestARestoreIsNotGivenUpWhenItIsInPlace(t *testing.T) {
	_, after, obs := restoring(t, "b")
	v := obs.Nodes["b"]
	v.Report.Data.Generation = after.Floor
	obs.Nodes["b"] = v
	if _, err := reconcile.AbortRestore(after, obs); err == nil {
		t.Error("it was")
	}
}

func TestASecondRestoreIsRefused(t *testing.T) {
	_, after, obs := restoring(t, "b")
	if _, err := reconcile.RestoreFor(after, obs, reconcile.RestoreOrder{}, "b"); err == nil {
		t.Error("it was not")
	}
}

func TestPruningIsAStepOfThePlan(t *testing.T) {
	w := settled(t, "a b c")
	rec, obs := *w.Record, w.Observed()
	obs.Now = instant(t, "2026-11-22 12:00:00")
	rec.Catalogs = map[string]reconcile.Catalog{"main": {Backups: []reconcile.CatalogBackup{
		{ID: "one", Name: "nightly", Started: instant(t, "2026-11-20 02:00:00")}, {ID: "two", Name: "nightly", Started: instant(t, "2026-11-21 02:00:00")},
	}}}
	keeping := func(last int) *spec.Cluster {
		c := *w.Record.Spec
		b := nightly()
		b.Repository, b.Keep = "main", spec.Keep{Last: last}
		c.Repositories, c.Backups = []spec.Repository{spec.NewRepository("main")}, []spec.Backup{b}
		return &c
	}
	prunes := func(want *spec.Cluster) (list []reconcile.Step) {
		for _, s := range reconcile.Diff(want, &rec, obs).Steps {
			if s.Kind == reconcile.StepPrune {
				list = append(list, s)
			}
		}
		return list
	}
	rec.Spec = keeping(1)
	steps := prunes(rec.Spec)
	if len(steps) != 1 || steps[0].Destroys != "" || !slices.Equal(steps[0].Effect().Begin.Job.Delete, []string{"one"}) {
		t.Errorf("what time has expired: %+v", steps)
	}
	rec.Spec = keeping(2)
	if steps := prunes(keeping(1)); len(steps) != 1 || steps[0].Destroys == "" {
		t.Errorf("what a change of the spec expires asks for the operator's word: %+v", steps)
	}
}
