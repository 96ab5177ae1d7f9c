package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rs/zerolog"
)

// Config says what Open opens. Dir, Cluster, Name, Bind, Machine and Secret are
// required.
type Config struct {
	// Dir is the store's own directory; it is created, with mode 0700.
	Dir string

	// Cluster and Name are what the directory belongs to. Neither may change during
	// the directory's life. Name must not contain '#', '@' or spaces.
	Cluster, Name string

	// Bind is the host:port to listen on. Advertise is the host:port at which
	// the other members reach this one; empty means the address that is listened on.
	Bind, Advertise string

	// Version is the program's version. It is written into snapshots, so that a
	// reader that cannot read one can say who wrote it.
	Version string

	// Machine is what commands are applied to. It must be empty: Open restores it.
	Machine Machine

	// Secret returns what all members share and nobody else knows; at least 16
	// random bytes. While it returns nil, every raft connection is refused in both
	// directions. It is called for each new connection, from several goroutines.
	Secret func() []byte

	Logger     zerolog.Logger
	Timeouts   Timeouts
	Compaction Compaction

	// Listen and Dial are where TLS is wrapped around the connections. Nil means
	// plain TCP.
	Listen func(ctx context.Context, address string) (net.Listener, error)
	Dial   func(ctx context.Context, address string) (net.Conn, error)
}

// Timeouts tunes how fast a dead leader is replaced, against the cost at rest.
// A zero field means its default. Lease may not exceed Heartbeat, nor Heartbeat
// Election.
type Timeouts struct {
	// Heartbeat is the silence after which a follower suspects the leader; default 1 s.
	Heartbeat time.Duration
	// Election is how long a candidate waits for votes; default 1 s.
	Election time.Duration
	// Lease is how long a leader stays one without a majority; default 500 ms.
	Lease time.Duration
	// Commit is the longest that a follower waits to hear that a lone entry is
	// committed; default 200 ms. Shorter costs CPU at rest on every node.
	Commit time.Duration
	// Handshake is how long a new connection may take to prove itself; default 5 s.
	Handshake time.Duration
}

// Compaction says when the log is replaced by a snapshot. A zero field means its
// default.
type Compaction struct {
	// Threshold is the number of log entries since the last snapshot that calls for
	// another; default 4096.
	Threshold uint64
	// Trailing is the number of entries that are kept behind a snapshot for members
	// that are a little late; default 4096.
	Trailing uint64
	// Interval is how often the threshold is looked at (to twice as seldom);
	// default 30 s.
	Interval time.Duration
}

// minSecret is the shortest secret, in bytes, that cannot be guessed from one
// overheard handshake.
const minSecret = 16

func (c Config) withDefaults() Config {
	fallback(&c.Timeouts.Heartbeat, time.Second)
	fallback(&c.Timeouts.Election, max(time.Second, c.Timeouts.Heartbeat))
	fallback(&c.Timeouts.Lease, min(500*time.Millisecond, c.Timeouts.Heartbeat))
	fallback(&c.Timeouts.Commit, 200*time.Millisecond)
	fallback(&c.Timeouts.Handshake, 5*time.Second)
	fallback(&c.Compaction.Threshold, 4096)
	fallback(&c.Compaction.Trailing, 4096)
	fallback(&c.Compaction.Interval, 30*time.Second)
	if c.Listen == nil {
		c.Listen = func(ctx context.Context, address string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, "tcp", address)
		}
	}
	if c.Dial == nil {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	return c
}

func fallback[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("raft store: no directory was given")
	case c.Cluster == "" || len(c.Cluster) > maxNameLength:
		return fmt.Errorf("raft store: cluster name %q must have 1 to %d bytes", c.Cluster, maxNameLength)
	case c.Machine == nil || c.Secret == nil:
		return errors.New("raft store: a machine and a secret are required")
	}
	if err := checkName(c.Name); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(c.Bind); err != nil {
		return fmt.Errorf("raft address %q is not host:port: %w", c.Bind, err)
	}
	if c.Advertise == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Advertise); err != nil {
		return fmt.Errorf("advertised raft address %q is not host:port: %w", c.Advertise, err)
	}
	return nil
}

// rpcTimeout bounds one exchange with another member. A member that hangs must be
// given up soon enough to be reached again when it comes back, and a slow disk
// must not look like a hang.
func (t Timeouts) rpcTimeout() time.Duration { return max(3*t.Election, 2*time.Second) }
