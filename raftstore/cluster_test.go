package raftstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// patience is how long a test waits for what must happen; reaching it is a failure.
const patience = 60 * time.Second

var errRejected = errors.New("rejected by the machine")

// line is one command as a ledger holds it.
type line struct {
	Index   uint64
	Command string
}

// ledger is a Machine that keeps every command in order. It answers a command
// with the number of commands so far; it rejects "reject ..." and is too old for
// "newer ..." unless modern.
type ledger struct {
	modern bool
	// refuse makes Restore fail.
	refuse error

	mu    sync.Mutex
	lines []line
}

func (l *ledger) Apply(index uint64, command []byte) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch text := string(command); {
	case strings.HasPrefix(text, "reject"):
		return nil, errRejected
	case strings.HasPrefix(text, "newer") && !l.modern:
		return nil, fmt.Errorf("command of version 2: %w", ErrIncompatible)
	default:
		l.lines = append(l.lines, line{index, text})
		return len(l.lines), nil
	}
}

func (l *ledger) Snapshot() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return json.Marshal(l.lines)
}

func (l *ledger) Restore(snapshot []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	l.lines = nil
	return json.Unmarshal(snapshot, &l.lines)
}

func (l *ledger) commands() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var commands []string
	for _, line := range l.lines {
		commands = append(commands, line.Command)
	}
	return commands
}

// network connects the nodes of one test, and can cut one off.
type network struct {
	mu    sync.Mutex
	names map[string]string      // address to node
	cut   map[string]bool        // nodes that are cut off
	conns map[net.Conn][2]string // connections to the nodes at their ends
}

func newNetwork() *network {
	return &network{names: map[string]string{}, cut: map[string]bool{}, conns: map[net.Conn][2]string{}}
}

func (n *network) dialFrom(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		n.mu.Lock()
		to := n.names[address]
		dark := n.cut[from] || n.cut[to]
		n.mu.Unlock()
		if dark {
			return nil, fmt.Errorf("no route from %s to %s", from, to)
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			n.mu.Lock()
			n.conns[conn] = [2]string{from, to}
			n.mu.Unlock()
		}
		return conn, err
	}
}

func (n *network) name(address, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[address] = name
}

func (n *network) cutOff(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[name] = true
	for conn, ends := range n.conns {
		if ends[0] == name || ends[1] == name {
			_ = conn.Close()
			delete(n.conns, conn)
		}
	}
}

func (n *network) heal(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, name)
}

// node is one host of a test: its disk and address outlive its store.
type node struct {
	*Store
	name    string
	config  Config
	machine *ledger
}

// cluster is the nodes of one test.
type cluster struct {
	t       *testing.T
	network *network
	log     *logSink
	nodes   map[string]*node // those that the test still looks at
	made    []*node          // all
}

// logSink keeps the log for a test that fails.
type logSink struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *logSink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *logSink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *logSink) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), text)
}

var testSecret = []byte("a secret of the tests, 32 bytes.")

// newCluster makes nodes that are open and nothing else yet.
func newCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, network: newNetwork(), log: &logSink{}, nodes: map[string]*node{}}
	t.TempDir() // the first call has all of them removed, which is to come after the stores are closed
	t.Cleanup(func() {
		for _, n := range c.made {
			n.Close()
		}
		if t.Failed() {
			t.Log(c.log.String())
		}
	})
	for _, name := range names {
		c.add(name)
	}
	return c
}

// add makes one more node.
func (c *cluster) add(name string) *node {
	c.t.Helper()
	bind := freeAddress(c.t)
	c.network.name(bind, name)
	n := &node{name: name, config: Config{
		Dir: filepath.Join(c.t.TempDir(), "raft"), Cluster: "demo", Name: name, Bind: bind, Version: "0.1",
		Secret:     func() []byte { return testSecret },
		Logger:     zerolog.New(c.log).With().Timestamp().Str("node", name).Logger(),
		Timeouts:   Timeouts{Heartbeat: 500 * time.Millisecond, Election: 500 * time.Millisecond, Lease: 400 * time.Millisecond, Commit: 20 * time.Millisecond},
		Compaction: Compaction{Threshold: 1 << 20, Trailing: 1 << 20, Interval: time.Hour},
		Dial:       c.network.dialFrom(name),
	}}
	c.nodes[name] = n
	c.made = append(c.made, n)
	c.open(n)
	return n
}

// open opens the node with an empty machine, as a new process would.
func (c *cluster) open(n *node) {
	c.t.Helper()
	if err := n.open(c.t.Context()); err != nil {
		c.t.Fatalf("open %s: %v", n.name, err)
	}
}

func (n *node) open(ctx context.Context) (err error) {
	n.machine = &ledger{}
	n.config.Machine = n.machine
	n.Store, err = Open(ctx, n.config)
	return err
}

// Close closes the node's store, if it has one.
func (n *node) Close() error {
	if n.Store == nil {
		return nil
	}
	return n.Store.Close()
}

func (c *cluster) reopen(n *node) {
	c.t.Helper()
	if err := n.Close(); err != nil {
		c.t.Fatalf("close %s: %v", n.name, err)
	}
	c.open(n)
}

// freeAddress is an address that no other test has.
func freeAddress(t *testing.T) string {
	t.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// bootstrapped is a cluster of voters with a leader.
func bootstrapped(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := newCluster(t, names...)
	var members []Member
	for _, name := range names {
		members = append(members, c.nodes[name].Self())
	}
	must(t, c.nodes[names[0]].Bootstrap(t.Context(), members))
	c.leader()
	return c
}

// leader waits for one that the others confirm and whose machine is up to date.
func (c *cluster) leader() *node {
	c.t.Helper()
	var leader *node
	c.eventually("a leader", func() bool {
		for _, n := range c.nodes {
			if n.Store != nil && n.Err() == nil && n.IsLeader() && n.VerifyLeader(c.t.Context()) == nil && n.Barrier(c.t.Context()) == nil {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// follower is a node other than the leader.
func (c *cluster) follower() *node {
	c.t.Helper()
	leader := c.leader()
	for _, n := range c.nodes {
		if n != leader {
			return n
		}
	}
	c.t.Fatal("there is no follower")
	return nil
}

// propose has the leader, whoever it is, apply the command.
func (c *cluster) propose(commands ...string) {
	c.t.Helper()
	for _, command := range commands {
		c.eventually("acceptance of "+command, func() bool {
			_, err := c.leader().Propose(c.t.Context(), []byte(command))
			if errors.Is(err, ErrOutcomeUnknown) {
				c.t.Fatalf("propose %q: %v", command, err)
			}
			return err == nil
		})
	}
}

// converge waits until every node's machine holds exactly the commands.
func (c *cluster) converge(commands ...string) {
	c.t.Helper()
	for name, n := range c.nodes {
		c.eventually(fmt.Sprintf("%s to have %v", name, commands), func() bool {
			return strings.Join(n.machine.commands(), ",") == strings.Join(commands, ",")
		})
	}
}

func (c *cluster) eventually(what string, done func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			for name, n := range c.nodes {
				if n.Store != nil {
					c.t.Logf("%s: %v members %v error %v", name, n.machine.commands(), n.Members(), n.Err())
				}
			}
			c.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError checks what an error is, and that it names all that its reader needs.
func wantError(t *testing.T, err, is error, mentions ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error is %v, want %v", err, is)
	}
	for _, text := range mentions {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not mention %q", err, text)
		}
	}
}
