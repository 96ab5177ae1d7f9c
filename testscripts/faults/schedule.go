package faults

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Round is faults that overlap, one begun after the other, and all ended together.
// The same seed makes the same round. Whom a fault strikes is said by role, and found
// when its time has come.
type Round struct {
	Seed   uint64
	Faults []Fault
}

// Fault is one thing that happens to one node.
type Fault struct {
	kind kind
	role role
	pick uint64        // which of several
	then time.Duration // until the next fault, or the end of all
	mend bool          // whether what was done before ends first
}

// String is the fault as a round shows it.
func (f Fault) String() string {
	text := f.kind.name
	if !f.kind.everywhere {
		text += ", " + f.role.String()
	}
	if f.mend {
		text = "all mended, then " + text
	}
	return fmt.Sprintf("%s; %s pass", text, f.then)
}

// role is how a fault finds its node.
type role int

const (
	ofPrimary role = iota
	ofLeader
	ofStandby
	ofAny
)

// String is the role in a round's text.
func (r role) String() string { return [...]string{"primary", "leader", "a standby", "any node"}[r] }

// kind is a sort of fault.
type kind struct {
	name string
	// everywhere says that it does not matter which node it is.
	everywhere bool
	strike     func(c *Cluster, node string, pick uint64)
}

// NewRound makes the round of a seed.
func NewRound(seed uint64) Round {
	random := rand.New(rand.NewPCG(seed, 0x666c74))
	r := Round{Seed: seed}
	for i := range 1 + random.IntN(4) {
		r.Faults = append(r.Faults, Fault{
			kind: kinds[random.IntN(len(kinds))],
			// The primary is struck most, for there is most to break.
			role: []role{ofPrimary, ofPrimary, ofPrimary, ofLeader, ofStandby, ofAny}[random.IntN(6)],
			pick: random.Uint64(),
			then: time.Duration(100+random.IntN(5000)) * time.Millisecond,
			mend: i > 0 && random.IntN(3) == 0,
		})
	}
	return r
}

// String is the round in one line for each fault.
func (r Round) String() string {
	lines := []string{fmt.Sprintf("seed %d", r.Seed)}
	for _, f := range r.Faults {
		lines = append(lines, "  "+f.String())
	}
	return strings.Join(lines, "\n")
}

// Play does what a round says, mends everything and checks the cluster, which has to
// have disks. The ledger is that of a client that wrote all the time.
func (c *Cluster) Play(r Round) *Ledger {
	c.t.Helper()
	watch := c.Watch(Pace{})
	c.AwaitAcknowledged(watch.Writer, 20)
	for _, f := range r.Faults {
		if f.mend {
			c.Mend()
		}
		node := c.find(f.role, f.pick)
		c.t.Logf("%s  %s (%s)", time.Now().Format("15:04:05.000"), f, node)
		f.kind.strike(c, node, f.pick)
		time.Sleep(f.then)
	}
	c.Mend()
	c.AwaitAcknowledged(watch.Writer, 20)
	return watch.Check()
}

// find is the node of a role, by the best status that there is; any node when that is
// not known.
func (c *Cluster) find(r role, pick uint64) string {
	s, _ := c.Status()
	name := ""
	switch r {
	case ofPrimary:
		name = s.Primary
	case ofLeader:
		name = s.Raft.Leader
	case ofStandby:
		standbys := c.Others(s.Primary)
		name = standbys[pick%uint64(len(standbys))]
	case ofAny:
	}
	return cmp.Or(name, c.names[pick%uint64(len(c.names))])
}

// kinds are all sorts of faults, in an order that seeds count on.
var kinds = []kind{
	{"postmaster killed", false, func(c *Cluster, n string, _ uint64) { c.signalPostmaster(n, syscall.SIGKILL) }},
	{"postmaster frozen", false, func(c *Cluster, n string, _ uint64) { c.signalPostmaster(n, syscall.SIGSTOP) }},
	{"process of PostgreSQL killed", false, func(c *Cluster, n string, pick uint64) { c.signalOne(n, syscall.SIGKILL, "postgres: ", pick) }},
	{"process of PostgreSQL frozen", false, func(c *Cluster, n string, pick uint64) { c.signalOne(n, syscall.SIGSTOP, "postgres: ", pick) }},
	{"guard killed", false, func(c *Cluster, n string, _ uint64) { c.Host(n).Signal(syscall.SIGKILL, "ramd guard") }},
	{"guard frozen", false, func(c *Cluster, n string, _ uint64) { c.Host(n).Signal(syscall.SIGSTOP, "ramd guard") }},
	{"ramd killed", false, func(c *Cluster, n string, _ uint64) {
		if c.node(n).runs() {
			c.KillRamd(n)
		}
	}},
	{"ramd frozen", false, func(c *Cluster, n string, _ uint64) { c.Host(n).Signal(syscall.SIGSTOP, "ramd start") }},
	{"ramd killed and started again", false, func(c *Cluster, n string, _ uint64) {
		if c.node(n).runs() {
			c.KillRamd(n)
		}
		c.Start(n)
	}},
	{"everything killed", false, func(c *Cluster, n string, _ uint64) { c.KillHost(n) }},
	{"everything killed and started again", false, func(c *Cluster, n string, _ uint64) { c.KillHost(n); c.Start(n) }},
	{"power lost", false, func(c *Cluster, n string, _ uint64) { c.Net.Cut(n); c.KillHost(n) }},
	{"everything frozen", false, func(c *Cluster, n string, _ uint64) { c.Host(n).StopAll() }},
	{"cut off", false, func(c *Cluster, n string, _ uint64) { c.Net.Cut(n) }},
	{"cut off from the others", false, func(c *Cluster, n string, _ uint64) { c.Net.Split([]string{n}, c.Others(n)) }},
	{"not heard by the others", false, func(c *Cluster, n string, _ uint64) {
		for _, other := range c.Others(n) {
			c.Net.CutOneWay(n, other)
		}
	}},
	{"not hearing the others", false, func(c *Cluster, n string, _ uint64) {
		for _, other := range c.Others(n) {
			c.Net.CutOneWay(other, n)
		}
	}},
	{"not heard by one other", false, func(c *Cluster, n string, pick uint64) {
		c.Net.CutOneWay(n, c.Others(n)[pick%uint64(len(c.names)-1)])
	}},
	{"20 % of packets lost", false, func(c *Cluster, n string, _ uint64) { c.Net.Loss(n, 20) }},
	{"300 ms latency", false, func(c *Cluster, n string, _ uint64) { c.Net.Latency(n, 300*time.Millisecond) }},
	{"300 ms latency everywhere", true, func(c *Cluster, _ string, _ uint64) {
		for _, name := range c.names {
			c.Net.Latency(name, 300*time.Millisecond)
		}
	}},
	{"all hosts killed", true, func(c *Cluster, _ string, _ uint64) {
		for _, name := range c.names {
			c.KillHost(name)
		}
	}},
	{"switchover", true, func(c *Cluster, _ string, _ uint64) { c.ctlFor(10*time.Second, "switchover", "--auto-approve") }},
	{"rolling restart", true, func(c *Cluster, _ string, _ uint64) { c.ctlFor(10*time.Second, "restart", "--auto-approve") }},
	{"spec changed", true, func(c *Cluster, _ string, pick uint64) {
		s := c.base
		s.Parameters += fmt.Sprintf("      work_mem = \"%dMB\"\n      max_connections = %d\n", 4+pick%8, 201+pick%5)
		c.SetSpec(s)
		c.ctlFor(10*time.Second, "apply", c.applyFile(), "--auto-approve")
	}},
	{"disk of the Raft log full", false, func(c *Cluster, n string, _ uint64) { c.FillDisk(n, StateDisk) }},
	{"disk of the data full", false, func(c *Cluster, n string, _ uint64) { c.FillDisk(n, DataDisk) }},
}

// signalPostmaster sends a signal to a postmaster if there is one.
func (c *Cluster) signalPostmaster(node string, sig syscall.Signal) {
	if pid := c.Postmaster(node); pid != 0 {
		_ = syscall.Kill(pid, sig)
	}
}

// signalOne sends a signal to one of a node's processes with a text in their command
// line.
func (c *Cluster) signalOne(node string, sig syscall.Signal, text string, pick uint64) {
	found := slices.DeleteFunc(c.Host(node).Processes(), func(p Process) bool { return !strings.Contains(p.Command, text) })
	if len(found) > 0 {
		_ = syscall.Kill(found[pick%uint64(len(found))].PID, sig)
	}
}

// ctlFor runs ramctrl for a while. What it cannot do, or not in that time, is told and
// is no failure: there may be no majority.
func (c *Cluster) ctlFor(limit time.Duration, args ...string) {
	c.t.Helper()
	if r := c.ctl(limit, args...); r.Code != 0 {
		c.t.Logf("ramctrl %s: %s", args[0], strings.TrimSpace(r.String()))
	}
}
