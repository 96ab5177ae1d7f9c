package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is one machine of a test: a network namespace with an address, and every
// process in it. Its methods may be called from several goroutines.
type Host struct {
	Name string
	Addr netip.Addr

	space *namespace
	tun   *os.File
}

// NewHost makes a host that is connected to a network.
func NewHost(n *Net, name string, addr netip.Addr) (*Host, error) {
	space, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, Addr: addr, space: space}
	err = space.do(func() error {
		h.tun, err = openTUN(addr)
		return err
	})
	if err != nil {
		space.close()
		return nil, fmt.Errorf("connect host %s: %w", name, err)
	}
	n.attach(name, addr, h.tun)
	return h, nil
}

// Close kills everything on the host and gives it up.
func (h *Host) Close() error {
	err := h.KillAll()
	h.tun.Close()
	h.space.close()
	return err
}

// Start starts a command on the host.
func (h *Host) Start(cmd *exec.Cmd) error { return h.space.do(cmd.Start) }

// Dial connects from the host. The address has to be a number, for names are looked
// up elsewhere.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := h.space.do(func() error {
		var err error
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// PIDs are the processes on the host that live; zombies and the test itself are not
// among them.
func (h *Host) PIDs() []int { return pidsIn(map[string]bool{h.space.id: true}) }

// pidsIn are the processes in namespaces, by their ids.
func pidsIn(spaces map[string]bool) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	var pids []int
	for _, link := range links {
		id, err := os.Readlink(link)
		if err != nil || !spaces[id] {
			continue // gone, or elsewhere
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		// A thread of the test visits namespaces, and may be its first.
		if err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// signalAll sends a signal to every process on the host.
func (h *Host) signalAll(sig syscall.Signal) {
	for _, pid := range h.PIDs() {
		_ = syscall.Kill(pid, sig)
	}
}

// StopAll freezes every process on the host. The kernel still answers for them: it
// accepts connections and acknowledges packets.
func (h *Host) StopAll() {
	// What is started while the others are being stopped is found by the next look.
	for range 3 {
		h.signalAll(unix.SIGSTOP)
	}
}

// ContAll lets every process on the host go on.
func (h *Host) ContAll() { h.signalAll(unix.SIGCONT) }

// KillAll kills every process on the host at one moment, and waits until none is
// left. Peers are told by the kernel, which closes the sockets; cut the host off
// before to spare them that, as a loss of power does.
func (h *Host) KillAll() error { return killIn(h.PIDs) }

// killIn kills what find finds. All are stopped first, so that none reacts to the
// death of another.
func killIn(find func() []int) error {
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		pids := find()
		if len(pids) == 0 {
			return nil
		}
		for _, sig := range []syscall.Signal{unix.SIGSTOP, unix.SIGKILL} {
			for _, pid := range pids {
				_ = syscall.Kill(pid, sig)
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errors.New("processes outlive SIGKILL")
}

// Signal sends a signal to every process on the host whose command line has a text,
// and returns how many there were.
func (h *Host) Signal(sig syscall.Signal, text string) int {
	count := 0
	for _, p := range h.Processes() {
		if strings.Contains(p.Command, text) && syscall.Kill(p.PID, sig) == nil {
			count++
		}
	}
	return count
}
