package reconcile_test

import (
	"testing"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

func TestAWatchedFileIsProposedWhenItWasEditedFromTheVersionInForce(t *testing.T) {
	one, two, three := mustSpec(t, "a b"), mustSpec(t, "a b; work_mem=1MB"), mustSpec(t, "a b; work_mem=2MB")
	w := settled(t, "a b")
	if err := w.Accept(two); err != nil {
		t.Fatal(err)
	}
	digests := map[string]string{
		"": "", "older": one.Digest(), "in force": two.Digest(), "new": three.Digest(), "strange": "sha256:00",
	}
	agreed := func(version string) reconcile.Agreement {
		revisions := map[string]uint64{"older": 1, "in force": 2}
		return reconcile.Agreement{Digest: digests[version], Revision: revisions[version]}
	}
	for _, rule := range []struct {
		name, before, now string
		want              reconcile.Watched
	}{
		{"the version in force", "", "in force", reconcile.WatchedSame},
		{"the version in force after an older one", "older", "in force", reconcile.WatchedSame},
		{"an edit", "in force", "new", reconcile.WatchedPropose},
		{"an edit back to an older version", "in force", "older", reconcile.WatchedPropose},
		{"an old copy at start-up", "", "older", reconcile.WatchedStale},
		{"an old copy that lags behind", "older", "older", reconcile.WatchedStale},
		{"a new version of unknown origin", "", "new", reconcile.WatchedUnknown},
		{"an edit of an older version", "older", "new", reconcile.WatchedUnknown},
		{"an edit of something that was never in force", "strange", "new", reconcile.WatchedUnknown},
		{"an edit of a rejected edit", "new", "strange", reconcile.WatchedUnknown},
	} {
		t.Run(rule.name, func(t *testing.T) {
			if got := reconcile.WatchFile(w.Record, agreed(rule.before), digests[rule.now]); got != rule.want {
				t.Errorf("got %s, want %s", got, rule.want)
			}
		})
	}
	if got := reconcile.WatchFile(&reconcile.Record{}, reconcile.Agreement{}, one.Digest()); got != reconcile.WatchedPropose {
		t.Errorf("the first spec: %s", got)
	}
}

// Otherwise a host that was slow to tell of an edit, which others had told before, would
// undo the revert of it.
func TestAnEditThatWasRevertedMeanwhileIsNoEdit(t *testing.T) {
	one, two := mustSpec(t, "a b"), mustSpec(t, "a b; work_mem=1MB")
	w := settled(t, "a b")
	agreed := reconcile.Agreement{Digest: one.Digest(), Revision: w.Record.Revision}
	if got := reconcile.WatchFile(w.Record, agreed, two.Digest()); got != reconcile.WatchedPropose {
		t.Fatalf("the edit: %s", got)
	}
	for _, c := range []*spec.Cluster{two, one} {
		if err := w.Accept(c); err != nil {
			t.Fatal(err)
		}
	}
	if got := reconcile.WatchFile(w.Record, agreed, two.Digest()); got != reconcile.WatchedStale {
		t.Errorf("after it came into force and was reverted: %s", got)
	}
	agreed.Revision = w.Record.Revision
	if got := reconcile.WatchFile(w.Record, agreed, two.Digest()); got != reconcile.WatchedPropose {
		t.Errorf("made anew after the revert: %s", got)
	}
}
