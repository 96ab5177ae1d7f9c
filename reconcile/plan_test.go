package reconcile_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/reconcile/sim"
)

var update = flag.Bool("update", false, "rewrite the expected plans in testdata")

// TestPlans runs the stories in testdata/*.txt. A story begins with its rule
// behind a #; its lines are commands, and behind ---- stands the plan that is
// then expected, in the notation of sim.PlanLines.
//
//	cluster SPEC     a converged cluster of that spec
//	fresh SPEC       a cluster that has been formed and has no spec yet
//	change SPEC      the spec that the plan is made for
//	accept           makes the change the spec in force
//	turns N          lets everything take its turn N times
//	ask CAUSE NODE   an operator's wish
//	break NODE FAULT something goes wrong
//	see TEXT         what the leader is told, as in World.See
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runStories(t, file) })
	}
}

func runStories(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rewritten []string
	for story := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		script, want, _ := strings.Cut(story, "\n----")
		rule, commands, _ := strings.Cut(script, "\n")
		got := "(nothing)"
		t.Run(strings.TrimPrefix(rule, "# "), func(t *testing.T) {
			s := &scene{}
			for line := range strings.SplitSeq(commands, "\n") {
				if err := s.do(line); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			}
			if lines := sim.PlanLines(s.plan()); len(lines) > 0 {
				got = strings.Join(lines, "\n")
			}
			if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" && !*update {
				t.Errorf("expected (-) and planned (+):\n%s", diff)
			}
		})
		rewritten = append(rewritten, script+"\n----\n"+got)
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(rewritten, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// scene is what the commands of a story work on.
type scene struct {
	world  *sim.World
	want   string
	seen   string
	change bool
}

func (s *scene) do(line string) error {
	command, rest, _ := strings.Cut(line, " ")
	switch command {
	case "cluster", "fresh":
		return s.cluster(command, rest)
	case "change":
		s.want, s.change = rest, true
		return nil
	case "accept":
		c, err := sim.ParseSpec(s.want)
		if err != nil {
			return err
		}
		return s.world.Accept(c)
	case "turns":
		n, err := strconv.Atoi(rest)
		s.world.Turns(n)
		return err
	case "ask":
		cause, node, _ := strings.Cut(rest, " ")
		return s.world.Ask(reconcile.Cause(cause), strings.Fields(node)...)
	case "break":
		node, fault, _ := strings.Cut(rest, " ")
		s.world.Break(sim.Fault(fault), node)
		return nil
	case "see":
		s.seen = rest
		return nil
	}
	return fmt.Errorf("no command %q", command)
}

func (s *scene) cluster(command, text string) error {
	c, err := sim.ParseSpec(text)
	if err != nil {
		return err
	}
	s.want, s.world = text, sim.New(1, c)
	s.world.Turns(1)
	if command == "fresh" {
		return nil
	}
	if err := s.world.Accept(c); err != nil {
		return err
	}
	return s.world.Settle(200)
}

func (s *scene) plan() reconcile.Plan {
	want, err := sim.ParseSpec(s.want)
	if err != nil {
		panic(err)
	}
	obs, err := s.world.See(s.seen)
	if err != nil {
		panic(err)
	}
	return reconcile.Diff(want, s.world.Record, obs)
}
