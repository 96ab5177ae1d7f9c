package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/render"
	"github.com/ramhq/ram/reconcile"
)

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain [EVENT|FILE]",
		Short: "Show why a node was made the primary, and the others not",
		Long: `Show how a primary was chosen: why its term was opened, who was chosen, what may have
been lost, and for every other node why it was not. EVENT is the number of an event
(ramctrl events -o json) that tells of a term that was opened or granted; without one
it is the latest choice, or, while the cluster looks for a primary, how that stands.

-o json prints all that the choice was made from, with the verdict. FILE is such
output, or its "input" alone: the choice is made again on this machine, no ramd is
asked, and exit code 1 says that the verdict is not the one in the file. - is
standard input.`,
		Example: `  ramctrl explain
  ramctrl explain 41
  ramctrl explain 41 -o json > choice.json && ramctrl explain choice.json`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return a.explainEvent(ctx, 0)
		}
		if event, err := strconv.ParseUint(args[0], 10, 64); err == nil {
			if event == 0 {
				return usagef("there is no event 0: leave the number out for the latest")
			}
			return a.explainEvent(ctx, event)
		}
		return a.explainFile(args[0])
	})
	return cmd
}

func (a *app) explainEvent(ctx context.Context, event uint64) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	choice, err := client.Verdict(ctx, event)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(choice)
	}
	return render.Choice(a.sys.Stdout, choice, a.style())
}

// replay is explain FILE -o json.
type replay struct {
	Format int `json:"format"`
	// Same is absent when the file held no verdict.
	Same    *bool                   `json:"same,omitempty"`
	Input   reconcile.FailoverInput `json:"input"`
	Verdict reconcile.Verdict       `json:"verdict"`
	// Saved is the file's verdict when it is another.
	Saved *reconcile.Verdict `json:"saved,omitempty"`
}

// explainFile makes a saved choice again.
func (a *app) explainFile(path string) error {
	choice, judged, err := a.readChoice(path)
	if err != nil {
		return err
	}
	saved := choice.Verdict
	choice.Verdict = reconcile.Failover(choice.Input)
	same := reflect.DeepEqual(saved, choice.Verdict)
	if a.json() {
		r := replay{Format: outputFormat, Input: choice.Input, Verdict: choice.Verdict}
		if judged {
			r.Same = &same
		}
		if judged && !same {
			r.Saved = &saved
		}
		if err := a.printJSON(r); err != nil {
			return err
		}
	} else if err := render.Choice(a.sys.Stdout, choice, a.style()); err != nil {
		return err
	}
	switch {
	case judged && !same:
		return fmt.Errorf("the verdict is not the one in the file, which is: %s; it was made by another version of ram, or edited", verdictLine(saved))
	case judged && !a.json():
		a.say("\nThe verdict is the one in the file.")
	}
	return nil
}

func verdictLine(v reconcile.Verdict) string {
	if v.Choose == "" {
		return v.Reason
	}
	return fmt.Sprintf("node %s, %s", v.Choose, v.Reason)
}

// readChoice reads what explain -o json printed, or an input alone. judged is set when
// a verdict was there.
func (a *app) readChoice(path string) (choice api.VerdictAnswer, judged bool, err error) {
	var text []byte
	if path == "-" {
		text, err = io.ReadAll(a.sys.Stdin)
	} else {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return choice, false, fmt.Errorf("read a saved choice: %w; EVENT is a number, FILE what ramctrl explain -o json printed", err)
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(text, &keys) != nil {
		return choice, false, notAChoice(path)
	}
	into := any(&choice)
	if _, whole := keys["input"]; !whole {
		into = &choice.Input
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return choice, false, fmt.Errorf("%w (%w)", notAChoice(path), err)
	}
	_, judged = keys["verdict"]
	return choice, judged, checkInput(path, choice.Input)
}

// checkInput refuses what no cluster can have decided from.
func checkInput(path string, in reconcile.FailoverInput) error {
	switch {
	case in.Format > reconcile.FailoverFormat:
		return fmt.Errorf("%s was saved by a newer ramctrl: explain it with that one", path)
	case in.Format == 0 || in.Term == 0 || in.Deposed.Node == "":
		return notAChoice(path)
	}
	for _, s := range in.Sets {
		if s.K < 0 || s.K > len(s.Members) {
			return fmt.Errorf("%s has a sync set that asks for %d of %d nodes: it was edited", path, s.K, len(s.Members))
		}
	}
	return nil
}

func notAChoice(path string) error {
	return fmt.Errorf("%s is not a choice that ramctrl explain -o json printed: name one, or the number of an event", path)
}
