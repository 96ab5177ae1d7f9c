package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/renameio/v2"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// proposal is a spec that is to be planned or applied.
type proposal struct {
	// spec nil means the one in force.
	spec   *spec.Cluster
	source string
	// plan is set when the proposal was read from a saved plan.
	plan    *reconcile.Plan
	cause   reconcile.Cause
	message string
}

// savedPlan is what plan --out writes and apply reads.
type savedPlan struct {
	Kind   string         `json:"kind"`
	Format int            `json:"format"`
	Plan   reconcile.Plan `json:"plan"`
	Spec   *spec.Cluster  `json:"spec"`
	Source string         `json:"source,omitempty"`
}

const (
	savedPlanKind   = "ram-plan"
	savedPlanFormat = 1
)

func (s savedPlan) save(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	if err := renameio.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("save plan: %w", err)
	}
	return nil
}

// readSavedPlan reads a file when it is a saved plan, and says when it is not,
// since a spec is meant then.
func readSavedPlan(path string) (savedPlan, bool, error) {
	var saved savedPlan
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return saved, false, nil // whoever reads it as a spec says what is wrong
	}
	text, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return saved, false, nil
	}
	if err := json.Unmarshal(text, &saved); err != nil || saved.Kind != savedPlanKind {
		return saved, true, fmt.Errorf("%s is neither a spec nor a plan of ramctrl plan --out: name one of them", path)
	}
	if saved.Format > savedPlanFormat || saved.Plan.Format > reconcile.PlanFormat {
		return saved, true, fmt.Errorf("the plan in %s was saved by a newer ramctrl: plan again with this one", path)
	}
	if saved.Spec == nil {
		return saved, true, fmt.Errorf("the plan in %s has no spec: plan again", path)
	}
	return saved, true, nil
}

// propose reads what the arguments and flags name: a spec, a saved plan when
// plans may be given, or nothing, which is the spec in force.
func (a *app) propose(f specFlags, args []string, plans bool) (proposal, error) {
	path, err := a.path(f, args)
	if err != nil || path == "" {
		return proposal{}, err
	}
	if plans && len(args) > 0 {
		saved, is, err := readSavedPlan(path)
		if err != nil {
			return proposal{}, err
		}
		if is {
			return proposal{spec: saved.Spec, source: saved.Source, plan: &saved.Plan}, nil
		}
	}
	loaded, err := a.load(path, f)
	if err != nil {
		return proposal{}, err
	}
	return proposal{spec: loaded.Spec, source: loaded.Text()}, nil
}
