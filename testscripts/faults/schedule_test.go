package faults

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/testscripts/cluster"
)

// TestSchedule plays rounds of random faults on RAM_FAULTS_NODES nodes (3), for half a
// minute or for RAM_FAULTS_HOURS.
// Each round has a seed, counted up from RAM_FAULTS_SEED (1); a failure names the one to
// begin with to see it again.
func TestSchedule(t *testing.T) {
	nodes := fromEnv(t, "RAM_FAULTS_NODES", 3, strconv.Atoi)
	c := New(t, cluster.Spec{Nodes: strings.Split("abcdefg", "")[:nodes]})
	c.GiveDisks()
	c.Form()
	seed := fromEnv(t, "RAM_FAULTS_SEED", uint64(1), func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	hours := fromEnv(t, "RAM_FAULTS_HOURS", 1.0/120, func(s string) (float64, error) { return strconv.ParseFloat(s, 64) })
	end := time.Now().Add(time.Duration(hours * float64(time.Hour)))

	played, acknowledged, longest := 0, 0, time.Duration(0)
	defer func() {
		fmt.Printf("faults: %d rounds, %d writes acknowledged, longest outage %s, failed: %t\n", played, acknowledged, longest.Round(time.Millisecond), t.Failed())
		if t.Failed() {
			fmt.Printf("faults: again: RAM_FAULTS_SEED=%d go test ./testscripts/faults -run TestSchedule -v\n", seed)
		}
	}()
	for ; time.Now().Before(end); seed++ {
		round := NewRound(seed)
		fmt.Printf("faults: %s\n", round)
		c.Part(strconv.FormatUint(seed, 10), func(t *testing.T) {
			l := c.Play(round)
			fmt.Printf("faults: %s\n", l)
			acknowledged += len(l.Acknowledged())
			longest = max(longest, l.LongestOutage().Length())
		})
		played++
	}
}

func fromEnv[T any](t *testing.T, name string, fallback T, parse func(string) (T, error)) T {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	value, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}
