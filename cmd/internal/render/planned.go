package render

import (
	"fmt"

	"github.com/ramhq/ram/reconcile"
)

// Planned is a planned switchover in words.
func Planned(p reconcile.PlannedSwitchover, style Style) string {
	text := "a switchover"
	if p.To != "" {
		text += " to " + p.To
	}
	return fmt.Sprintf("%s at %s, by %s", text, style.Moment(p.At), oneLine(p.By))
}
