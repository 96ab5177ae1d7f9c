package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/ramhq/ram/cmd/internal/api"
)

// Restore writes what a restore of the whole cluster would do, and what it would lose.
func Restore(w io.Writer, cluster string, r api.RestoreAnswer, style Style) error {
	var out strings.Builder
	fmt.Fprintf(&out, "Restore of the whole cluster %s\n", style.Bold(cluster))
	line := func(name, text string) { fmt.Fprintf(&out, "  %-10s  %s\n", name, text) }
	line("to", style.Bold(style.Target(r.Target)))
	line("backup", fmt.Sprintf("%s%s, %s", r.Backup.ID, in(r.Backup.Repository), Volume(r.Backup.Size, r.Backup.Stored)))
	line("finished", style.dated(r.Backup.Finished))
	line("proved", proofText(r.Backup, style))
	for _, l := range reachLines(r.Reach, style) {
		line(l.name, l.text)
	}
	line("primary", fmt.Sprintf("%s, the others are copied from it", r.Node))
	out.WriteString("\nSteps:\n")
	for i, step := range r.Steps {
		fmt.Fprintf(&out, "  %d. %s\n", i+1, oneLine(step))
	}
	if r.Loses != "" {
		fmt.Fprintf(&out, "\n%s\n  ! %s\n", style.Bad("WHAT IS LOST:"), oneLine(r.Loses))
	}
	_, err := io.WriteString(w, out.String())
	return err
}
