package instance

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// checkPort makes sure that the server's address is free. Finding out before the
// start gives a better answer than PostgreSQL can: who has it. An address that this
// machine does not have, behind a translation of addresses for example, is not
// judged.
func checkPort(host string, port int) error {
	address := net.JoinHostPort(host, strconv.Itoa(port))
	listener, err := net.Listen("tcp", address)
	if err == nil {
		return listener.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	who := PortHolder(host, port)
	if who != "" {
		who = " (" + who + ")"
	}
	return fmt.Errorf("%w: %s%s; stop it or change ports.postgres", ErrPortInUse, address, who)
}

// PortHolder says which process listens at an address, where /proc tells, such as
// "process 4711, postgres"; of other users' processes it tells only root. It is
// empty when nobody does.
func PortHolder(host string, number int) string {
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
		return fmt.Sprintf("process %s, %s", pid, programName(pid))
	}
	return "a process of another user"
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
