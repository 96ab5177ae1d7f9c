package raftstore

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// goroutines are the stacks of those that belong to a store, except the test's own.
func goroutines() []string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var ours []string
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		store := strings.Contains(stack, "ramhq/ram/raftstore.") || strings.Contains(stack, "hashicorp/raft")
		if store && !strings.Contains(stack, "testing.tRunner") {
			ours = append(ours, stack)
		}
	}
	return ours
}

func wantNoGoroutines(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for len(goroutines()) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("left behind:\n%s", strings.Join(goroutines(), "\n\n"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// descriptors are the open files under a directory.
func descriptors(t *testing.T, under string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no /proc")
	}
	must(t, err)
	var open []string
	for _, entry := range entries {
		if path, err := os.Readlink(filepath.Join("/proc/self/fd", entry.Name())); err == nil && strings.HasPrefix(path, under) {
			open = append(open, path)
		}
	}
	return open
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	wantNoGoroutines(t)
	cases := map[string]func(t *testing.T, c *cluster){
		"of a cluster at work": func(t *testing.T, c *cluster) {
			for _, n := range c.nodes {
				for range 4 {
					go func() {
						for {
							_, err := n.Propose(context.Background(), []byte("x"))
							if errors.Is(err, ErrClosed) {
								return
							}
							if err != nil {
								time.Sleep(time.Millisecond)
							}
						}
					}()
				}
			}
			time.Sleep(50 * time.Millisecond)
		},
		"of a leader without a majority": func(t *testing.T, c *cluster) {
			leader := c.leader()
			c.network.cutOff(leader.name)
			for range 4 {
				go func() { _, _ = leader.Propose(context.Background(), []byte("x")) }()
				go func() { _ = leader.VerifyLeader(context.Background()) }()
			}
		},
		"with a stranger in the handshake": func(t *testing.T, c *cluster) {
			conn, err := net.Dial("tcp", c.leader().Address())
			must(t, err)
			t.Cleanup(func() { conn.Close() })
		},
	}
	for name, work := range cases {
		t.Run(name, func(t *testing.T) {
			c := bootstrapped(t, "a", "b", "c")
			work(t, c)
			for _, n := range c.nodes {
				must(t, n.Close())
				if open := descriptors(t, n.config.Dir); len(open) > 0 {
					t.Errorf("%s leaves open: %v", n.name, open)
				}
			}
			wantNoGoroutines(t)
		})
	}
}

func TestFailedOpenLeavesNothingBehind(t *testing.T) {
	wantNoGoroutines(t)
	c, a := closed(t)
	occupied, err := net.Listen("tcp", a.config.Bind)
	must(t, err)
	defer occupied.Close()
	err = a.open(t.Context())
	if err == nil || !strings.Contains(err.Error(), a.config.Bind) || !strings.Contains(err.Error(), "ports.raft") {
		t.Fatalf("an occupied port gives %v", err)
	}
	if open := descriptors(t, a.config.Dir); len(open) > 0 {
		t.Errorf("open: %v", open)
	}
	wantNoGoroutines(t)
	occupied.Close()
	c.open(a)
}

func TestLeaderHandsOverWhenItCloses(t *testing.T) {
	c := bootstrapped(t, "a", "b", "c")
	// An election by timeout is out of the question for the length of this test.
	for _, n := range c.nodes {
		n.config.Timeouts.Heartbeat, n.config.Timeouts.Election = time.Second, time.Second
		c.reopen(n)
	}
	old := c.leader()
	must(t, old.Close())
	delete(c.nodes, old.name)
	c.eventually("another to lead", func() bool {
		for _, n := range c.nodes {
			if n.IsLeader() {
				return true
			}
		}
		return false
	})
	if c.log.count("rejecting") > 0 {
		t.Log("the hand-over was not smooth")
	}
	c.propose("one")
}
