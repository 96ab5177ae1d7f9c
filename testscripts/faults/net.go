package faults

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// Net is the network between hosts. It begins without faults; each fault stays until
// Heal or Mend. Its methods may be called from several goroutines. Close ends it.
type Net struct {
	mu     sync.RWMutex // guards what follows
	ports  map[netip.Addr]*port
	faults map[string]*hostFaults
	cut    map[way]bool

	moving sync.WaitGroup
}

// way is the direction from one host to another.
type way struct{ from, to string }

// hostFaults are those of everything that one host sends and receives.
type hostFaults struct {
	cut     bool
	loss    float64       // of its packets, 0 to 1, in either direction
	latency time.Duration // of what it sends
}

// port is where a host is connected.
type port struct {
	host string
	tun  *os.File
	late chan latePacket // closed by the reader of tun
}

type latePacket struct {
	due  time.Time
	to   *port
	data []byte
}

// NewNet makes a network without hosts.
func NewNet() *Net {
	return &Net{ports: map[netip.Addr]*port{}, faults: map[string]*hostFaults{}, cut: map[way]bool{}}
}

// attach connects a host and moves its packets until its device is closed.
func (n *Net) attach(host string, addr netip.Addr, tun *os.File) {
	p := &port{host, tun, make(chan latePacket, 4096)}
	n.mu.Lock()
	n.ports[addr] = p
	n.faults[host] = &hostFaults{}
	n.mu.Unlock()
	n.moving.Go(func() { n.read(p) })
	n.moving.Go(func() { n.deliverLate(p) })
}

// Close disconnects all hosts.
func (n *Net) Close() {
	n.mu.RLock()
	ports := slices.Collect(maps.Values(n.ports))
	n.mu.RUnlock()
	for _, p := range ports {
		p.tun.Close()
	}
	n.moving.Wait()
}

// read takes what a host sends, until its device is closed.
func (n *Net) read(p *port) {
	defer close(p.late)
	packet := make([]byte, mtu+100)
	for {
		size, err := p.tun.Read(packet)
		if err != nil {
			return
		}
		to, delay := n.route(p, packet[:size])
		switch {
		case to == nil:
		case delay > 0:
			select {
			case p.late <- latePacket{time.Now().Add(delay), to, slices.Clone(packet[:size])}:
			default: // the queue is full, as those of switches get
			}
		default:
			_, _ = to.tun.Write(packet[:size])
		}
	}
}

// deliverLate sends what waits for its time, in the order in which it was sent. A cut
// that has come meanwhile drops it.
func (n *Net) deliverLate(p *port) {
	for packet := range p.late {
		time.Sleep(time.Until(packet.due))
		n.mu.RLock()
		open := n.open(p, packet.to)
		n.mu.RUnlock()
		if open {
			_, _ = packet.to.tun.Write(packet.data)
		}
	}
}

// route is where a packet goes, nil for nowhere, and how long it takes.
func (n *Net) route(p *port, packet []byte) (to *port, delay time.Duration) {
	const version, destination, header = 4, 16, 20
	if len(packet) < header || packet[0]>>4 != version {
		return nil, 0
	}
	addr := netip.AddrFrom4([4]byte(packet[destination:header]))
	n.mu.RLock()
	defer n.mu.RUnlock()
	to = n.ports[addr]
	if to == nil || !n.open(p, to) {
		return nil, 0
	}
	from, at := n.faults[p.host], n.faults[to.host]
	if lost(from.loss) || lost(at.loss) {
		return nil, 0
	}
	return to, from.latency
}

// open reports whether nothing is cut between two hosts. The caller holds mu.
func (n *Net) open(from, to *port) bool {
	return !n.cut[way{from.host, to.host}] && !n.faults[from.host].cut && !n.faults[to.host].cut
}

// lost throws the dice for one packet.
func lost(probability float64) bool { return probability > 0 && rand.Float64() < probability }

// change changes faults.
func (n *Net) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// of is a host's faults; a name that is no host's is a mistake in the test.
func (n *Net) of(host string) *hostFaults {
	f, ok := n.faults[host]
	if !ok {
		panic(fmt.Sprintf("faults: no host %q in this network", host))
	}
	return f
}

// Cut drops everything that hosts send or receive.
func (n *Net) Cut(hosts ...string) {
	n.change(func() {
		for _, host := range hosts {
			n.of(host).cut = true
		}
	})
}

// CutOneWay drops what one host sends to another; the way back stays open.
func (n *Net) CutOneWay(from, to string) {
	n.change(func() { n.cut[way{from, to}] = true })
}

// Split drops everything between two groups of hosts. Hosts in neither reach both.
func (n *Net) Split(one, other []string) {
	n.change(func() {
		for _, a := range one {
			for _, b := range other {
				n.cut[way{a, b}], n.cut[way{b, a}] = true, true
			}
		}
	})
}

// Loss drops a share of a host's packets, 0 to 100 per cent, in each direction.
func (n *Net) Loss(host string, percent float64) {
	n.change(func() { n.of(host).loss = percent / 100 })
}

// Latency delays everything that a host sends, and so each of its round trips.
func (n *Net) Latency(host string, delay time.Duration) {
	n.change(func() { n.of(host).latency = delay })
}

// Mend ends all faults of one host.
func (n *Net) Mend(host string) {
	n.change(func() {
		*n.of(host) = hostFaults{}
		maps.DeleteFunc(n.cut, func(w way, _ bool) bool { return w.from == host || w.to == host })
	})
}

// Heal ends all faults.
func (n *Net) Heal() {
	n.change(func() {
		for _, f := range n.faults {
			*f = hostFaults{}
		}
		clear(n.cut)
	})
}
