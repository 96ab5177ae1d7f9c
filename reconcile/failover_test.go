package reconcile_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// TestFailover runs the cases in testdata/failover/*.txt. A case begins with its rule
// behind a #, and behind ---- stands the verdict: what is chosen or waited for, what
// may be lost, and of each node why. Its lines, all but the nodes' optional, are
//
//	sets K of NODE..., K of NODE...     the sync sets of the present term; "0 of" asks for nobody
//	former K of NODE..., ...            those of earlier ones
//	asks WORD...                        switchover, async, degrade, accept-loss, target=NODE, max_lag=N, waited=5s
//	deposed NODE WORD...                dead, intact, clean, lease-over, lsn=L, timeline=N, zone=Z
//	NODE [T:LSN] WORD...                promised at LSN of timeline T, or reachable; barren, former=T (of timeline T), priority=N, zone=Z
func TestFailover(t *testing.T) {
	files, err := filepath.Glob("testdata/failover/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runChoices(t, file) })
	}
}

func runChoices(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rewritten []string
	for story := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		script, want, _ := strings.Cut(story, "\n----")
		rule, lines, _ := strings.Cut(script, "\n")
		var got string
		t.Run(strings.TrimPrefix(rule, "# "), func(t *testing.T) {
			in, err := parseChoice(lines)
			if err != nil {
				t.Fatal(err)
			}
			got = verdictText(reconcile.Failover(in))
			if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" && !*update {
				t.Errorf("expected (-) and chosen (+):\n%s", diff)
			}
			checkChoice(t, in)
		})
		rewritten = append(rewritten, script+"\n----\n"+got)
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(rewritten, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkChoice checks what holds of every choice: it does not depend on the order of
// nodes, and is made again from what was kept of it.
func checkChoice(t *testing.T, in reconcile.FailoverInput) {
	t.Helper()
	want := reconcile.Failover(in)
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var kept reconcile.FailoverInput
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, reconcile.Failover(kept)); diff != "" {
		t.Errorf("from what was kept: %s", diff)
	}
	slices.Reverse(in.Nodes)
	if got := reconcile.Failover(in); got.Choose != want.Choose || got.Reason != want.Reason || got.MayLose != want.MayLose {
		t.Errorf("with the nodes in another order: %+v, not %+v", got, want)
	}
}

func verdictText(v reconcile.Verdict) string {
	lines := []string{v.Reason}
	if v.Choose != "" {
		lines[0] = v.Choose + ": " + v.Reason
	}
	if v.Reclaim != "" {
		lines[0] = "reclaim " + v.Reclaim + ": " + v.Reason
	}
	if v.MayLose != "" {
		lines = append(lines, "may lose: "+v.MayLose)
	}
	for _, n := range v.Nodes {
		if !n.Chosen {
			lines = append(lines, "not "+n.Node+": "+n.Reason)
		}
	}
	return strings.Join(lines, "\n")
}

func parseChoice(text string) (reconcile.FailoverInput, error) {
	in := reconcile.FailoverInput{
		Format: reconcile.FailoverFormat, Term: 2, Cause: reconcile.OpenFailover, Mode: spec.ModeQuorum,
		MaxLag: 1 << 20, Patience: 5 * time.Second, Deposed: reconcile.Deposed{Node: "a"},
	}
	for line := range strings.SplitSeq(text, "\n") {
		word, rest, _ := strings.Cut(line, " ")
		var err error
		switch word {
		case "sets":
			in.Sets, err = parseSets(rest)
		case "former":
			in.Former, err = parseSets(rest)
		case "asks":
			err = parseAsks(&in, rest)
		case "deposed":
			err = parseDeposed(&in.Deposed, rest)
		default:
			var n reconcile.Candidate
			n, err = parseCandidate(word, rest)
			in.Nodes = append(in.Nodes, n)
		}
		if err != nil {
			return in, fmt.Errorf("%s: %w", line, err)
		}
	}
	return in, nil
}

func parseSets(text string) ([]reconcile.SyncSet, error) {
	var sets []reconcile.SyncSet
	for part := range strings.SplitSeq(text, ", ") {
		k, members, _ := strings.Cut(part, " of")
		n, err := strconv.Atoi(k)
		if err != nil {
			return nil, err
		}
		sets = append(sets, reconcile.SyncSet{K: n, Members: strings.Fields(members)})
	}
	return sets, nil
}

func parseAsks(in *reconcile.FailoverInput, text string) (err error) {
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "switchover":
			in.Cause = reconcile.OpenSwitchover
		case "async":
			in.Mode = spec.ModeAsync
		case "degrade":
			in.WhenShort = spec.WhenShortDegrade
		case "accept-loss":
			in.AcceptLoss = true
		case "target":
			in.Target = value
		case "max_lag":
			var n int
			n, err = strconv.Atoi(value)
			in.MaxLag = pg.Bytes(n)
		case "waited":
			in.Waited, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("no word %q", word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func parseDeposed(d *reconcile.Deposed, text string) (err error) {
	for i, word := range strings.Fields(text) {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case i == 0:
			d.Node = word
		case key == "dead":
			d.Dead = true
		case key == "intact":
			d.Intact = true
		case key == "clean":
			d.Clean = true
		case key == "lease-over":
			d.LeaseOver = true
		case key == "lsn":
			d.LSN, err = pg.ParseLSN(value)
		case key == "timeline":
			var n int
			n, err = strconv.Atoi(value)
			d.Timeline = pg.Timeline(n)
		case key == "zone":
			d.Zone = value
		default:
			err = fmt.Errorf("no word %q", word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func parseCandidate(name, text string) (n reconcile.Candidate, err error) {
	n = reconcile.Candidate{Node: name, Priority: 100}
	for word := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(word, "=")
		timeline, position, at := strings.Cut(word, ":")
		switch {
		case at:
			var number int
			number, err = strconv.Atoi(timeline)
			n.Promised, n.Reachable, n.Timeline = true, true, pg.Timeline(number)
			if err == nil {
				n.LSN, err = pg.ParseLSN(position)
			}
		case key == "reachable":
			n.Reachable = true
		case key == "barren":
			n.Promised, n.Barren, n.LSN = true, true, 0
		case key == "former":
			var number int
			number, err = strconv.Atoi(value)
			n.Promised, n.Barren, n.Former, n.Timeline = true, true, true, pg.Timeline(number)
		case key == "priority":
			n.Priority, err = strconv.Atoi(value)
		case key == "zone":
			n.Zone = value
		default:
			err = fmt.Errorf("no word %q", word)
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
