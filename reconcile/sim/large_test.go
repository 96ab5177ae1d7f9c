package sim_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ramhq/ram/reconcile/sim"
)

func TestALargeClusterIsMadeConverged(t *testing.T) {
	for _, option := range []string{"", "(priority=0)"} {
		text := "a b"
		for i := range 60 {
			text += fmt.Sprintf(" n%02d%s", i, option)
		}
		c, err := sim.ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		w := sim.Converged(c)
		if w == nil {
			t.Fatal("it did not converge")
		}
		if err := w.Err(); err != nil {
			t.Fatal(strings.SplitN(err.Error(), "\n", 2)[0])
		}
	}
}
