package leader_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// planIn plans a switchover to b in a while.
func planIn(t *testing.T, s *store, to string, in time.Duration) {
	t.Helper()
	rec := s.Record()
	err := s.Propose(t.Context(), reconcile.Command{At: time.Now(), By: "ann", Planned: rec.Replace(to, time.Now().Add(in))})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPlannedSwitchoverBeginsWhenItIsTime(t *testing.T) {
	leadWhole(t, &electorate{}, nil, func(s *store) {
		planIn(t, s, "b", time.Hour)
		time.Sleep(time.Hour - 10*time.Second)
		synctest.Wait()
		if rec := s.Record(); rec.Opening != nil || rec.Planned == nil {
			t.Fatalf("before its time: opening %+v, planned %+v", rec.Opening, rec.Planned)
		}
		time.Sleep(12 * time.Second)
		synctest.Wait()
		rec := s.Record()
		if rec.Planned != nil || rec.Opening == nil || rec.Opening.Cause != reconcile.OpenSwitchover || rec.Opening.Target != "b" || rec.Opening.By != "ann" {
			t.Errorf("opening %+v, planned %+v", rec.Opening, rec.Planned)
		}
	})
}

func TestAPlannedSwitchoverThatIsRefusedIsDroppedAndNotTriedAgain(t *testing.T) {
	leadWhole(t, &electorate{}, []string{"b"}, func(s *store) {
		planIn(t, s, "b", time.Minute)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		rec := s.Record()
		if rec.Planned != nil || rec.Opening != nil || rec.Primary != "a" || rec.Term != 1 {
			t.Errorf("planned %+v, opening %+v, primary %s of term %d", rec.Planned, rec.Opening, rec.Primary, rec.Term)
		}
		told := 0
		for _, e := range rec.Events {
			if e.Kind == reconcile.EventPlanned && strings.Contains(e.Message, "is dropped") && strings.Contains(e.Reason, "its ramd does not answer") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("it is told %d times: %+v", told, rec.Events)
		}
	})
}
