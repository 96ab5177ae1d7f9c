package testscripts

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ramhq/ram/testscripts/cluster"
)

// seeds is how many times the tests with random moments are repeated, from the
// environment variable RAM_TEST_SEEDS; at least 1.
func seeds() int {
	n, err := strconv.Atoi(os.Getenv("RAM_TEST_SEEDS"))
	if err != nil {
		return 1
	}
	return max(1, n)
}

// strike kills something when a step has begun on a node, and starts again what it
// has killed of ramd.
type strike struct {
	name string
	kill func(c *cluster.Cluster, node string)
}

var strikes = []strike{
	{"ramd of the node at work", func(c *cluster.Cluster, node string) {
		c.Kill9(node)
		c.Start(node)
	}},
	{"everything of the node at work", func(c *cluster.Cluster, node string) {
		c.KillTree(node)
		c.Start(node)
	}},
	{"ramd of the Raft leader", func(c *cluster.Cluster, _ string) {
		leader := c.Leader()
		c.Kill9(leader)
		c.Start(leader)
	}},
	{"everything everywhere", func(c *cluster.Cluster, _ string) {
		all := c.Running()
		c.KillTree(all...)
		c.Start(all...)
	}},
	{"PostgreSQL's programs on the node at work", func(c *cluster.Cluster, node string) {
		for _, p := range c.Processes(node) {
			if postgresProgram.MatchString(p.Command) {
				_ = syscall.Kill(p.PID, syscall.SIGKILL)
			}
		}
	}},
}

// postgresProgram is a program that ramd runs itself, not a backend.
var postgresProgram = regexp.MustCompile(`^\S*/(initdb|pg_basebackup|postgres) `)

// moment is when a step has begun, as a log tells it, and how long it may take until
// the strike: some time within, or shortly after, the step.
type moment struct {
	step   string
	logged *regexp.Regexp
	within time.Duration
}

// ofAgent and ofLeader match what the agent logs when it acts, and what the leader
// logs when it has a step begin; the group is the node at work.
func ofAgent(act string) *regexp.Regexp {
	return regexp.MustCompile(`"node":"(\w+)","part":"agent","act":"` + act + `"`)
}

func ofLeader(step string) *regexp.Regexp {
	return regexp.MustCompile(`"part":"leader","step":"` + step + `/(\w+)"`)
}

var settingUp = []moment{
	{"init", ofAgent("init"), 2 * time.Second},
	{"clone", ofAgent("clone"), time.Second},
	{"start", ofAgent("start"), 300 * time.Millisecond},
	{"sync", ofLeader("sync"), 50 * time.Millisecond},
}

// struckChange is an applied spec whose steps are struck.
type struckChange struct {
	name    string
	spec    cluster.Spec
	flags   []string
	begin   func(c *cluster.Cluster)
	moments []moment
	// left is a node that must be gone afterwards.
	left string
	// want are settings that every server must show afterwards.
	want map[string]string
}

var moreConnections = cluster.Spec{Nodes: threeNodes.Nodes, Parameters: `max_connections = 123`}

var changes = []struckChange{
	{
		name:    "a setting that reloads",
		spec:    cluster.Spec{Nodes: threeNodes.Nodes, Parameters: `work_mem = "5MB"`},
		moments: []moment{{"configure", ofLeader("configure"), 100 * time.Millisecond}},
		want:    map[string]string{"work_mem": "5MB"},
	},
	{
		name:    "a setting that restarts",
		spec:    moreConnections,
		moments: []moment{{"restart", ofAgent("stop"), 300 * time.Millisecond}},
		want:    map[string]string{"max_connections": "123", "work_mem": "4MB"},
	},
	{
		name: "a node that joins",
		spec: moreConnections.With("d"),
		begin: func(c *cluster.Cluster) {
			if !slices.Contains(c.Running(), "d") {
				c.Start("d")
			}
		},
		moments: []moment{
			{"join", regexp.MustCompile(`"node":"(d)".*"admitted to the cluster"`), 20 * time.Millisecond},
			{"voter", ofLeader("voter"), 20 * time.Millisecond},
			{"clone", ofAgent("clone"), 500 * time.Millisecond},
		},
		want: map[string]string{"max_connections": "123"},
	},
	{
		name: "a node that leaves", spec: moreConnections, flags: []string{"--allow-destroy"}, left: "d",
		moments: []moment{
			{"retire", ofLeader("retire"), 200 * time.Millisecond},
			{"leave", ofLeader("leave"), 20 * time.Millisecond},
		},
	},
}

func TestKill(t *testing.T) {
	for seed := range uint64(seeds()) {
		for i, s := range strikes {
			t.Run(fmt.Sprintf("%s, seed %d", s.name, seed), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				c := cluster.New(t, threeNodes.String())
				c.Start(threeNodes.Nodes...)
				c.AwaitFormed()
				c.Part("while the first data is set up", func(t *testing.T) {
					struckChange{spec: threeNodes, moments: settingUp}.suffer(t, c, s, random)
				})
				for _, change := range changes {
					c.Part("during "+change.name, func(t *testing.T) { change.suffer(t, c, s, random) })
				}
			})
		}
	}
}

// suffer applies the change, strikes in each of its moments, and sees that the change
// is made all the same.
func (ch struckChange) suffer(t *testing.T, c *cluster.Cluster, s strike, random *rand.Rand) {
	mark := c.MarkLogs()
	if r := c.TryApply(ch.spec.String(), append(ch.flags, "--detach")...); r.Code != 0 {
		t.Fatalf("apply: %s", r)
	}
	if ch.begin != nil {
		ch.begin(c)
	}
	for _, m := range ch.moments {
		_, node := c.Logged(mark, m.logged)
		delay := time.Duration(random.Int64N(int64(m.within)))
		time.Sleep(delay)
		t.Logf("%s on %s: striking after %s", m.step, node, delay.Round(time.Millisecond))
		s.kill(c, node)
	}
	c.CheckHealthy()
	if r := c.Apply("", ch.flags...); !regexp.MustCompile(`No changes|nothing`).MatchString(r.Stdout) {
		t.Errorf("the change was not made by itself: %s", r)
	}
	for _, name := range ch.spec.Nodes {
		for setting, want := range ch.want {
			if got := c.Query(name, "SHOW "+setting); got[0] != want {
				t.Errorf("node %s runs with %s = %s, want %s", name, setting, got[0], want)
			}
		}
	}
	mustHaveTidied(t, c, ch.spec.Nodes)
	if ch.left != "" {
		mustHaveLeft(t, c, ch.left)
	}
}

// mustHaveTidied looks for what an action that was cut off has left.
func mustHaveTidied(t *testing.T, c *cluster.Cluster, nodes []string) {
	t.Helper()
	for _, name := range nodes {
		var left []string
		c.Until("nothing half made is left on "+name, cluster.Patience, func() bool {
			left, _ = filepath.Glob(c.DataDir(name) + ".ram-[na]*")
			return len(left) == 0
		})
	}
}

func TestKillAfterTheLogWasCompacted(t *testing.T) {
	t.Parallel()
	c := applied(t, threeNodes)
	floodLog(t, c, 9000)
	snapshots := func(name string) []string {
		found, _ := filepath.Glob(filepath.Join(c.StateDir(name), "raft", "snapshots", "*", "state.bin"))
		return found
	}
	for _, name := range threeNodes.Nodes {
		c.Until("node "+name+" has a snapshot", cluster.Patience, func() bool { return len(snapshots(name)) > 0 })
	}
	c.Part("the record survives a power cut", func(*testing.T) {
		c.KillTree(threeNodes.Nodes...)
		c.Start("b", "c", "a")
		c.CheckHealthy()
	})
	c.Part("a new member is given the snapshot", func(t *testing.T) {
		c.KillTree("c")
		c.WipeRamd("c")
		c.Start("c")
		c.CheckHealthy()
		if len(snapshots("c")) == 0 {
			t.Error("node c has no snapshot")
		}
		if s, err := c.StatusOf("c"); err != nil || s.Revision != 1 || s.Primary == "" {
			t.Errorf("node c says %+v, %v", s, err)
		}
	})
}

// floodLog makes the Raft log grow by n entries that change nothing.
func floodLog(t *testing.T, c *cluster.Cluster, n int) {
	t.Helper()
	leader, token := c.Leader(), c.Token()
	var workers sync.WaitGroup
	var failed atomic.Int64
	for range 30 {
		workers.Go(func() {
			for done := 0; done < n/30; {
				// The flood may cost the leader its leadership for a moment.
				if err := c.AskAs(token, leader, http.MethodPost, "/resume", struct{}{}, nil); err != nil {
					if failed.Add(1) > int64(n/10) {
						t.Errorf("resume: %v", err)
						return
					}
					time.Sleep(100 * time.Millisecond)
					continue
				}
				done++
			}
		})
	}
	workers.Wait()
}
