package raftstore

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// childEnv holds a childConfig in a process that is to be killed.
const childEnv = "RAFTSTORE_TEST_CHILD"

// childConfig is one member of a cluster of processes.
type childConfig struct {
	Dir     string
	Members []Member
	Self    int
}

func (c childConfig) config(machine Machine) Config {
	self := c.Members[c.Self]
	return Config{
		Dir: c.Dir, Cluster: "demo", Name: self.Name, Bind: self.Address, Machine: machine,
		Secret: func() []byte { return testSecret }, Logger: zerolog.Nop(),
		Timeouts:   Timeouts{Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, Lease: 150 * time.Millisecond, Commit: 20 * time.Millisecond},
		Compaction: Compaction{Threshold: 64, Trailing: 16, Interval: 20 * time.Millisecond},
	}
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		fmt.Fprintln(os.Stderr, "child:", proposeUntilKilled(text))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// proposeUntilKilled proposes while this process leads, and prints each command
// that was acknowledged with its place in the order.
func proposeUntilKilled(text string) error {
	var child childConfig
	if err := json.Unmarshal([]byte(text), &child); err != nil {
		return err
	}
	ctx := context.Background()
	store, err := Open(ctx, child.config(&ledger{}))
	if err != nil {
		return err
	}
	if err := store.Bootstrap(ctx, child.Members); err != nil && err != ErrHasState {
		return err
	}
	number := 0 // of all leaderships of this process: no command is proposed twice
	return store.Lead(ctx, func(ctx context.Context) error {
		for {
			number++
			command := fmt.Sprintf("%s-%d-%d", store.name, os.Getpid(), number)
			place, err := store.Propose(ctx, []byte(command))
			if ctx.Err() != nil || err != nil {
				return ErrNotLeader // and look again
			}
			fmt.Printf("%d %s\n", place, command)
		}
	})
}

// acknowledged is what the children have printed: places and commands.
type acknowledged struct {
	mu     sync.Mutex
	places map[int]string
	twice  []string
}

// read takes in a child's lines. The last one may be cut short by the kill: it
// was not acknowledged to anybody.
func (a *acknowledged) read(out io.Reader) {
	for lines := bufio.NewReader(out); ; {
		text, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		var place int
		var command string
		if _, err := fmt.Sscanf(text, "%d %s\n", &place, &command); err != nil {
			continue
		}
		a.mu.Lock()
		if before, ok := a.places[place]; ok {
			a.twice = append(a.twice, fmt.Sprintf("place %d: %s and %s", place, before, command))
		}
		a.places[place] = command
		a.mu.Unlock()
	}
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.places)
}

// child is a running process.
type child struct {
	cmd  *exec.Cmd
	read chan struct{}
}

func startChild(t *testing.T, config childConfig, into *acknowledged) *child {
	t.Helper()
	text, err := json.Marshal(config)
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{cmd: cmd, read: make(chan struct{})}
	go func() {
		defer close(c.read)
		into.read(out)
	}()
	return c
}

// kill ends the process as a loss of the host would, and returns when all that it
// said was heard.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.read
	_ = c.cmd.Wait()
}

// makeMembers gives each child its directory, hence its incarnation.
func makeMembers(t *testing.T, names []string) []childConfig {
	t.Helper()
	configs := make([]childConfig, len(names))
	var members []Member
	for i, name := range names {
		dir := filepath.Join(t.TempDir(), "raft")
		made, err := openDirectory(dir, "demo", name)
		must(t, err)
		made.close()
		configs[i] = childConfig{Dir: dir, Self: i}
		members = append(members, Member{Name: name, Incarnation: made.Incarnation, Address: freeAddress(t)})
	}
	for i := range configs {
		configs[i].Members = members
	}
	return configs
}

func TestNoAcknowledgedCommandIsLostByKill(t *testing.T) {
	for _, tc := range []struct {
		name  string
		nodes []string
		kills int
		all   bool // kill all at once
	}{
		{"of a single node", []string{"a"}, 12, true},
		{"of one of three at a time", []string{"a", "b", "c"}, 12, false},
		{"of all three at once", []string{"a", "b", "c"}, 6, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			configs := makeMembers(t, tc.nodes)
			acks := &acknowledged{places: map[int]string{}}
			children := make([]*child, len(configs))
			t.Cleanup(func() {
				for _, child := range children {
					if child != nil {
						child.kill()
					}
				}
			})
			victims := func() []int {
				hit := rand.Perm(len(configs))
				if tc.all {
					return hit
				}
				return hit[:1]
			}
			for i, config := range configs {
				children[i] = startChild(t, config, acks)
			}
			for range tc.kills {
				awaitProgress(t, acks)
				time.Sleep(rand.N(150 * time.Millisecond))
				hit := victims()
				for _, i := range hit {
					_ = children[i].cmd.Process.Kill()
				}
				for _, i := range hit {
					children[i].kill()
					children[i] = startChild(t, configs[i], acks)
				}
			}
			awaitProgress(t, acks)
			for i, child := range children {
				child.kill()
				children[i] = nil
			}
			wantAcknowledged(t, configs, acks)
		})
	}
}

// awaitProgress waits until some more commands are acknowledged.
func awaitProgress(t *testing.T, acks *acknowledged) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for enough := acks.count() + 20; acks.count() < enough; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the processes acknowledge nothing any more")
		}
	}
}

// wantAcknowledged opens the directories again and compares.
func wantAcknowledged(t *testing.T, configs []childConfig, acks *acknowledged) {
	t.Helper()
	if len(acks.twice) > 0 {
		t.Errorf("acknowledged at one place:\n%s", strings.Join(acks.twice, "\n"))
	}
	var machines []*ledger
	var stores []*Store
	for _, config := range configs {
		machine := &ledger{}
		store, err := Open(t.Context(), config.config(machine))
		must(t, err)
		defer store.Close()
		machines, stores = append(machines, machine), append(stores, store)
	}
	applied := awaitBarrier(t, stores)
	for i, store := range stores {
		must(t, store.WaitApplied(t.Context(), applied))
		commands := machines[i].commands()
		for place, command := range acks.places {
			if place > len(commands) || commands[place-1] != command {
				t.Errorf("%s: command %s was acknowledged at place %d and is not there", store.name, command, place)
			}
		}
		slices.Sort(commands)
		if unique := slices.Compact(slices.Clone(commands)); len(unique) != len(commands) {
			t.Errorf("%s has applied %d commands twice", store.name, len(commands)-len(unique))
		}
	}
	t.Logf("%d acknowledged commands", len(acks.places))
}

// awaitBarrier waits for a leader that has applied everything.
func awaitBarrier(t *testing.T, stores []*Store) (applied uint64) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, store := range stores {
			if store.IsLeader() && store.Barrier(t.Context()) == nil {
				return store.Applied()
			}
		}
	}
	t.Fatal("no leader after the kills")
	return 0
}
