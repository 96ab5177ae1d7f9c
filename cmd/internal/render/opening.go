package render

import (
	"fmt"
	"strings"
	"time"

	"github.com/ramhq/ram/reconcile"
)

// statusOpening tells of a term without a primary, and of a switchover that is planned,
// above the nodes.
func statusOpening(out *strings.Builder, s reconcile.Status, style Style) {
	if p := s.Planned; p != nil {
		fmt.Fprintf(out, "  planned: %s\n\n", Planned(*p, style))
	}
	o := s.Opening
	if o == nil {
		return
	}
	since := Elapsed(time.Duration(o.OpenMS) * time.Millisecond)
	fmt.Fprintf(out, "%s\n", style.Bad(fmt.Sprintf("  TERM %d IS OPEN for %s: there is no primary (%s)", s.Term, since, openingCause(*o))))
	promised := "none"
	if len(o.Promised) > 0 {
		promised = strings.Join(o.Promised, ", ")
	}
	fmt.Fprintf(out, "    promised   %s, %d of %d\n", promised, len(o.Promised), o.Of)
	if o.Target != "" {
		fmt.Fprintf(out, "    asked for  %s\n", o.Target)
	}
	if o.AcceptLoss {
		fmt.Fprintf(out, "    %s\n", style.Notice("the loss of acknowledged writes is accepted"))
	}
	if o.Waits != "" {
		fmt.Fprintf(out, "    waits for  %s\n", oneLine(o.Waits))
	}
	out.WriteString("\n")
}

func openingCause(o reconcile.OpeningStatus) string {
	text := fmt.Sprintf("%s of %s: %s", o.Cause, o.Deposed, oneLine(o.Reason))
	if o.By != "" {
		text += "; by " + oneLine(o.By)
	}
	return text
}
