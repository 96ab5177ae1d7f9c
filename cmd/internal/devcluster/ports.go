package devcluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/ramhq/ram/cmd/internal/netx"
	"github.com/ramhq/ram/pg/guard"
	"github.com/ramhq/ram/pg/instance"
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
	ports := []port{{"api", n.Ports.API}, {"raft", n.Ports.Raft}, {"metrics", n.Ports.Metrics}}
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
			n.Name, p.number, p.name, n.Host, by(instance.PortHolder(n.Host, p.number)), p.name)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("node %s: this machine does not have the address %s: use one such as 127.0.0.11", n.Name, n.Host)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("node %s: this user may not listen on port %d (%s): use one above 1023 in ports.%s", n.Name, p.number, p.name, p.name)
	}
	return fmt.Errorf("node %s: port %d (%s) cannot be used: %w", n.Name, p.number, p.name, err)
}

func by(holder string) string {
	if holder == "" {
		return ""
	}
	return " by " + holder
}
