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
	return fmt.Errorf("%w: %s%s; stop it or change ports.postgres", ErrPortInUse, address, holder(port))
}

// holder says which process listens on a port, where /proc tells; it only tells
// root about other users' processes.
func holder(port int) string {
	sockets := listeningSockets(port)
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, descriptor := range descriptors {
		target, err := os.Readlink(descriptor)
		if err != nil || !sockets[target] {
			continue
		}
		pid := strings.Split(descriptor, "/")[2]
		command, _ := os.ReadFile("/proc/" + pid + "/comm")
		return fmt.Sprintf(" (process %s, %s)", pid, strings.TrimSpace(string(command)))
	}
	return ""
}

// listeningSockets are the sockets that listen on a port, as links in /proc/PID/fd
// name them.
func listeningSockets(port int) map[string]bool {
	const listening = "0A"
	found := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != listening {
				continue
			}
			_, hex, _ := strings.Cut(fields[1], ":")
			if n, err := strconv.ParseInt(hex, 16, 32); err == nil && int(n) == port {
				found["socket:["+fields[9]+"]"] = true
			}
		}
	}
	return found
}
