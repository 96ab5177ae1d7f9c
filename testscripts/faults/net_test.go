package faults

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"
)

// three hosts with a server that answers each line on every one.
func echoNet(t *testing.T) (*Net, map[string]*Host) {
	t.Helper()
	Need(t)
	n := NewNet()
	t.Cleanup(n.Close)
	hosts := map[string]*Host{}
	for i, name := range []string{"a", "b", "c"} {
		h, err := NewHost(n, name, netip.AddrFrom4([4]byte{10, 77, 1, byte(i + 1)}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
		hosts[name] = h
		var l net.Listener
		err = h.space.do(func() error {
			l, err = net.Listen("tcp", h.Addr.String()+":7")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go echo(l)
	}
	return n, hosts
}

func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// reach asks for an answer of one byte over a new connection.
func reach(from, to *Host, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to.Addr.String()+":7")
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestNetFaults(t *testing.T) {
	n, hosts := echoNet(t)
	for _, c := range []struct {
		rule   string
		fault  func()
		closed map[way]bool // the pairs that have no connection
	}{
		{"without faults everybody reaches everybody", func() {}, nil},
		{
			"a host that is cut reaches nobody but itself",
			func() { n.Cut("a") },
			map[way]bool{{"a", "b"}: true, {"a", "c"}: true, {"b", "a"}: true, {"c", "a"}: true},
		},
		{
			"one way that is cut leaves the pair without answers, and no other",
			func() { n.CutOneWay("a", "b") },
			map[way]bool{{"a", "b"}: true, {"b", "a"}: true},
		},
		{
			"a split leaves each side whole",
			func() { n.Split([]string{"a"}, []string{"b", "c"}) },
			map[way]bool{{"a", "b"}: true, {"a", "c"}: true, {"b", "a"}: true, {"c", "a"}: true},
		},
		{
			"mending one host leaves the faults of others",
			func() { n.Cut("a", "b"); n.Mend("a") },
			map[way]bool{{"a", "b"}: true, {"c", "b"}: true, {"b", "a"}: true, {"b", "c"}: true},
		},
		{"loss of some packets is made up for", func() { n.Loss("a", 10) }, nil},
		{
			"loss of all is a cut",
			func() { n.Loss("a", 100) },
			map[way]bool{{"a", "b"}: true, {"a", "c"}: true, {"b", "a"}: true, {"c", "a"}: true},
		},
	} {
		t.Run(c.rule, func(t *testing.T) {
			defer n.Heal()
			c.fault()
			for _, from := range hosts {
				for _, to := range hosts {
					closed := c.closed[way{from.Name, to.Name}]
					patience := 20 * time.Second
					if closed {
						patience = 100 * time.Millisecond
					}
					if err := reach(from, to, patience); (err != nil) != closed {
						t.Errorf("%s to %s: %v, want an error: %v", from.Name, to.Name, err, closed)
					}
				}
			}
		})
	}
}

func TestNetCutIsSilentForAConnectionThatIsOpen(t *testing.T) {
	n, hosts := echoNet(t)
	conn, err := hosts["a"].Dial(t.Context(), "tcp", hosts["b"].Addr.String()+":7")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n.Cut("b")
	if _, err := conn.Write([]byte{'x'}); err != nil {
		t.Fatalf("the sender is told: %v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read from a host that is cut: %v, want silence", err)
	}
	n.Heal()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Errorf("after healing: %v", err)
	}
}

func TestNetLatencyDelaysRoundTripsOfOneHost(t *testing.T) {
	n, hosts := echoNet(t)
	const delay = 60 * time.Millisecond
	n.Latency("a", delay)
	begun := time.Now()
	if err := reach(hosts["b"], hosts["a"], 20*time.Second); err != nil {
		t.Fatal(err)
	}
	// The handshake and the byte: two answers of a.
	if took := time.Since(begun); took < 2*delay {
		t.Errorf("a connection and an answer took %s, want at least %s", took, 2*delay)
	}
}

func TestHostProcesses(t *testing.T) {
	_, hosts := echoNet(t)
	for _, name := range []string{"a", "b"} {
		// A shell with a child in a process group of its own.
		cmd := exec.Command("setsid", "sh", "-c", "sleep 1000 & sleep 1000")
		if err := hosts[name].Start(cmd); err != nil {
			t.Fatal(err)
		}
		go func() { _ = cmd.Wait() }()
	}
	for _, name := range []string{"a", "b"} {
		await(t, "host "+name+" has three processes", func() bool { return len(hosts[name].PIDs()) == 3 })
	}
	hosts["a"].StopAll()
	for _, pid := range hosts["a"].PIDs() {
		await(t, "a process of the host is stopped", func() bool { return state(pid) == "T" })
	}
	hosts["a"].ContAll()
	for _, pid := range hosts["a"].PIDs() {
		await(t, "a process of the host goes on", func() bool { return state(pid) == "S" })
	}
	if err := hosts["a"].KillAll(); err != nil {
		t.Error(err)
	}
	if left := hosts["a"].PIDs(); len(left) > 0 {
		t.Errorf("processes %v are left on a host where all were killed", left)
	}
	if got := len(hosts["b"].PIDs()); got != 3 {
		t.Errorf("host b has %d processes after those of host a were killed, want 3", got)
	}
}

func await(t *testing.T, claim string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatal("not within 20 s: " + claim)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func state(pid int) string {
	p, _ := describe(pid)
	return p.State
}
