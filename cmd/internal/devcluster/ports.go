package devcluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/ramhq/ram/cmd/internal/netx"
	"github.com/ramhq/ram/pg/guard"
	"github.com/ramhq/ram/spec"
)

// port is one that a node's ramd or PostgreSQL is going to listen on.
type port struct {
	name   string // in the spec's ports block
	number int
}

// checkPorts makes sure that the addresses of a node whose ramd does not run are
// free, and says for each that is not who has it.
func (p *place) checkPorts(n spec.Node) error {
	ports := []port{{"api", n.Ports.API}, {"raft", n.Ports.Raft}}
	// A PostgreSQL that the node's last ramd has left running is the node's own.
	if !n.Witness && guard.Postmaster(filepath.Join(p.data(n.Name), "postgres")) == 0 {
		ports = append(ports, port{"postgres", n.Ports.Postgres})
	}
	var taken []error
	for _, one := range ports {
		if err := checkPort(n, one); err != nil {
			taken = append(taken, err)
		}
	}
	return errors.Join(taken...)
}

func checkPort(n spec.Node, p port) error {
	address := net.JoinHostPort(n.Host, strconv.Itoa(p.number))
	listener, err := netx.Listen(address)
	switch {
	case err == nil:
		return listener.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("node %s: port %d (%s) of %s is taken%s: stop what listens there, or change host or ports.%s in the spec",
			n.Name, p.number, p.name, n.Host, holder(n.Host, p.number), p.name)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("node %s: this machine does not have the address %s: use one such as 127.0.0.11", n.Name, n.Host)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("node %s: this user may not listen on port %d (%s): use one above 1023 in ports.%s", n.Name, p.number, p.name, p.name)
	}
	return fmt.Errorf("node %s: port %d (%s) cannot be used: %w", n.Name, p.number, p.name, err)
}

// holder says which process listens on an address, where /proc tells; of other
// users' processes it only tells root.
func holder(host string, number int) string {
	sockets := listening(host, number)
	if len(sockets) == 0 {
		return ""
	}
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, descriptor := range descriptors {
		target, err := os.Readlink(descriptor)
		if err != nil || !sockets[target] {
			continue
		}
		pid := strings.Split(descriptor, "/")[2]
		return fmt.Sprintf(" by process %s (%s)", pid, programName(pid))
	}
	return " by a process of another user"
}

// programName is the kernel's name of a process, or, since that ends after 15
// characters, the one that it was called by when that begins the same.
func programName(pid string) string {
	text, _ := os.ReadFile("/proc/" + pid + "/comm")
	name := strings.TrimSpace(string(text))
	line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
	called, _, _ := strings.Cut(string(line), "\x00")
	if called = filepath.Base(called); strings.HasPrefix(called, name) {
		return called
	}
	return name
}

// listening are the sockets that listen on a port at an address or at all
// addresses, as links in /proc/PID/fd name them.
func listening(host string, number int) map[string]bool {
	const listen = "0A"
	found := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != listen {
				continue
			}
			address, hex, _ := strings.Cut(fields[1], ":")
			at, err := strconv.ParseInt(hex, 16, 32)
			if err == nil && int(at) == number && covers(address, host) {
				found["socket:["+fields[9]+"]"] = true
			}
		}
	}
	return found
}

// covers reports whether a socket at an address of the kernel's table, of IPv4 in
// hexadecimal with the last byte first, is in the way of a host's. Those of IPv6
// are taken to be.
func covers(address, host string) bool {
	ip := net.ParseIP(host).To4()
	if len(address) != 8 || ip == nil || address == "00000000" {
		return true
	}
	return strings.EqualFold(address, fmt.Sprintf("%02X%02X%02X%02X", ip[3], ip[2], ip[1], ip[0]))
}
