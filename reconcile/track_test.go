package reconcile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
)

// run reads a run from words such as "configure/b:running restart/b:pending".
func run(words string) *reconcile.Run {
	r := &reconcile.Run{ID: 3, State: reconcile.RunRunning}
	for word := range strings.FieldsSeq(words) {
		id, state, _ := strings.Cut(word, ":")
		kind, node, _ := strings.Cut(id, "/")
		r.Steps = append(r.Steps, reconcile.RunStep{ID: id, Kind: reconcile.StepKind(kind), Node: node, State: reconcile.StepState(state)})
	}
	return r
}

// planOf reads a plan of steps that have nothing left for the leader to do, such
// as "configure/b restart/b<configure/b".
func planOf(words string) reconcile.Plan {
	var p reconcile.Plan
	for word := range strings.FieldsSeq(words) {
		id, after, waits := strings.Cut(word, "<")
		kind, node, _ := strings.Cut(id, "/")
		s := reconcile.Step{ID: id, Kind: reconcile.StepKind(kind), Node: node}
		if waits {
			s.After = []string{after}
		}
		p.Steps = append(p.Steps, s)
	}
	return p
}

func progressLine(p reconcile.Progress) string {
	var parts []string
	say := func(word string, ids []string) {
		if len(ids) > 0 {
			parts = append(parts, word+" "+strings.Join(ids, " "))
		}
	}
	if p.Open != "" {
		parts = append(parts, "open "+string(p.Open))
	}
	var added []string
	for _, s := range p.Add {
		added = append(added, s.ID)
	}
	say("add", added)
	say("started", p.Started)
	say("done", p.Done)
	say("dropped", p.Dropped)
	if p.Finish {
		parts = append(parts, "finish")
	}
	return strings.Join(parts, "; ")
}

func TestTrack(t *testing.T) {
	for _, rule := range []struct{ name, run, plan, want string }{
		{"without a run and steps nothing happens", "none", "", ""},
		{"steps without a run open one", "none", "start/b", "open reconcile; add start/b; started start/b"},
		{"a step that is under way has begun", "configure/b:pending", "configure/b", "started configure/b"},
		{"a step that has others before it has not begun", "configure/b:running restart/b:pending", "configure/b restart/b<configure/b", ""},
		{"a step that is no longer in the plan is done", "configure/b:running restart/b:pending", "restart/b", "started restart/b; done configure/b"},
		{"a step that is out of sight is not dropped while others are left", "configure/b:running restart/b:pending", "configure/b", ""},
		{"a step that was never needed is dropped in the end", "configure/b:running restart/b:pending", "", "done configure/b; dropped restart/b; finish"},
		{"what happens by itself is done, not dropped", "join/d:pending start/d:pending configure/b:running", "configure/b", "done join/d start/d"},
		{"a step that comes back begins again", "start/b:done", "start/b", "started start/b"},
		{"a step that nobody foresaw is added", "configure/b:running", "configure/b clone/c", "add clone/c; started clone/c"},
		{"nothing new is nothing to record", "configure/b:running", "configure/b", ""},
		{"an empty plan finishes the run", "configure/b:done", "", "finish"},
	} {
		t.Run(rule.name, func(t *testing.T) {
			rec := &reconcile.Record{Format: 1}
			if rule.run != "none" {
				rec.Run = run(rule.run)
			}
			got := reconcile.Track(rec, planOf(rule.plan))
			if diff := cmp.Diff(rule.want, progressLine(got)); diff != "" {
				t.Error(diff)
			}
			if got.Empty() != (rule.want == "") {
				t.Errorf("empty is %v", got.Empty())
			}
			rec.Pause = &reconcile.Pause{}
			if got := reconcile.Track(rec, planOf(rule.plan)); !got.Empty() {
				t.Errorf("paused: %+v", got)
			}
		})
	}
}
