package ctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec/hclspec"
)

func (a *app) historyCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history [REV]",
		Short: "List the accepted revisions of the spec, or show one",
		Long: `List the revisions that were accepted: when, by whom, and why. With a revision's
number, print its spec as it was written.`,
		Example: `  ramctrl history
  ramctrl history 3
  diff <(ramctrl history 2) <(ramctrl history 3)`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many of the latest, a `NUMBER` (0: all)")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return a.revision(ctx, client, args[0])
		}
		return a.history(ctx, client, limit)
	})
	return cmd
}

// historyOutput is history -o json.
type historyOutput struct {
	Format    int                  `json:"format"`
	Revisions []reconcile.Revision `json:"revisions"`
}

func (a *app) history(ctx context.Context, client *api.Client, limit int) error {
	revisions, err := client.History(ctx)
	if err != nil {
		return err
	}
	if limit > 0 && len(revisions) > limit {
		revisions = revisions[len(revisions)-limit:]
	}
	if a.json() {
		return a.printJSON(historyOutput{outputFormat, append([]reconcile.Revision{}, revisions...)})
	}
	if len(revisions) == 0 {
		a.say("No spec has been applied yet. Plan one with: ramctrl plan")
		return nil
	}
	return render.History(a.sys.Stdout, revisions, a.style())
}

func (a *app) revision(ctx context.Context, client *api.Client, arg string) error {
	number, err := revisionNumber(arg)
	if err != nil {
		return err
	}
	revision, err := client.Revision(ctx, number)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(revision)
	}
	_, err = fmt.Fprint(a.sys.Stdout, sourceOf(revision))
	return err
}

// sourceOf is the text of a revision: as written, or else as it would be.
func sourceOf(revision reconcile.Revision) string {
	text := revision.Source
	if text == "" && revision.Spec != nil {
		text = string(hclspec.Encode(revision.Spec))
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}

func revisionNumber(arg string) (uint64, error) {
	number, err := strconv.ParseUint(arg, 10, 64)
	if err != nil || number == 0 {
		return 0, usagef("%q is not the number of a revision: see ramctrl history", arg)
	}
	return number, nil
}
