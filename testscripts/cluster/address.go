package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// block is the addresses 127.50.N.1 to 127.50.N.99, which nobody else uses while
// lock is open: whoever listens there has the block, and loses it with its life.
type block struct {
	n    int
	lock net.Listener
}

// lockPort is the port of 127.50.N.254 that stands for the block.
const lockPort = 7399

// nodePorts are the ports that nodes have by default.
var nodePorts = [...]int{5432, 8080, 7400, 9090}

func claimBlock() (block, error) {
	for _, n := range rand.Perm(256) {
		lock, err := net.Listen("tcp", fmt.Sprintf("127.50.%d.254:%d", n, lockPort))
		if err != nil {
			continue
		}
		b := block{n, lock}
		if b.free() {
			return b, nil
		}
		lock.Close() // a server of a test run that was killed is still there
	}
	return block{}, fmt.Errorf("every block of addresses in 127.50.0.0/16 is in use")
}

// addr is the address of the i-th node, counted from zero.
func (b block) addr(i int) string { return fmt.Sprintf("127.50.%d.%d", b.n, i+1) }

// free reports whether nobody listens on the addresses of the first nodes.
func (b block) free() bool {
	for i := range 8 {
		for _, port := range nodePorts {
			l, err := net.Listen("tcp", net.JoinHostPort(b.addr(i), strconv.Itoa(port)))
			if err != nil {
				return false
			}
			l.Close()
		}
	}
	return true
}
