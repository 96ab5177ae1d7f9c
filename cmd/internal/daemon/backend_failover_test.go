package daemon

import (
	"strings"
	"testing"

	"github.com/ramhq/ram/reconcile"
)

// chosenTwice is a record of two terms that were opened, by events 10 and 20, and
// granted, by events 12 and 23.
func chosenTwice() *reconcile.Record {
	rec := &reconcile.Record{LastEvent: 30}
	for seq := uint64(8); seq <= 30; seq++ {
		e := reconcile.Event{Seq: seq, Kind: reconcile.EventStep}
		switch seq {
		case 10, 20:
			e.Kind = reconcile.EventFailover
		case 12, 23:
			e.Kind = reconcile.EventGrant
			rec.Verdicts = append(rec.Verdicts, reconcile.Choice{Event: seq})
		}
		rec.Events = append(rec.Events, e)
	}
	return rec
}

func TestTheVerdictThatAnEventTellsOf(t *testing.T) {
	for _, rule := range []struct {
		name        string
		event, want uint64 // want zero is none
		opened      uint64
	}{
		{"the latest", 0, 23, 20},
		{"a grant", 12, 12, 10},
		{"the opening that led to it", 10, 12, 10},
		{"a later opening", 20, 23, 20},
		{"something else", 15, 0, 0},
		{"something that never was", 99, 0, 0},
	} {
		t.Run(rule.name, func(t *testing.T) {
			rec := chosenTwice()
			c, found := verdictOf(rec, rule.event)
			if found != (rule.want != 0) || c.Event != rule.want {
				t.Fatalf("found %t, event %d", found, c.Event)
			}
			if !found {
				return
			}
			if e := openedBefore(rec, c.Event); e == nil || e.Seq != rule.opened {
				t.Errorf("opened by %+v", e)
			}
		})
	}
}

func TestWithoutAVerdictItIsSaidWhatThereIs(t *testing.T) {
	if got := noVerdict(chosenTwice(), 15); !strings.HasSuffix(got, "name one of 12, 23") {
		t.Error(got)
	}
	if _, found := verdictOf(&reconcile.Record{}, 0); found {
		t.Error("a cluster that has chosen nobody has a verdict")
	}
	if got := noVerdict(&reconcile.Record{}, 0); !strings.HasPrefix(got, "no primary has been chosen yet") {
		t.Error(got)
	}
	old := chosenTwice()
	old.Events = old.Events[5:] // the record keeps only so many
	if e := openedBefore(old, 12); e != nil {
		t.Errorf("an opening that is forgotten is said to be %+v", e)
	}
}
