package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// maxHandshakes bounds the connections that are being proven at the same time, so
// that strangers cannot exhaust the process.
const maxHandshakes = 64

// stream is raft's StreamLayer: connections that have passed the handshake.
// It owns every connection of the store, in both directions, and ends them all in
// Close: raft's transport forgets those that it does not pool.
type stream struct {
	endpoint
	advertised address
	timeout    time.Duration
	dial       func(ctx context.Context, address string) (net.Conn, error)
	listener   net.Listener
	proven     chan net.Conn
	logger     zerolog.Logger

	done    context.Context
	close   context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows
	conns    map[net.Conn]struct{}
	refusals map[string]string // peer to the reason that was logged last
}

// address is a host:port that need not be an IP address.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

func newStream(listener net.Listener, endpoint endpoint, cfg Config) *stream {
	advertised := address(cfg.Advertise)
	if advertised == "" {
		advertised = address(listener.Addr().String())
	}
	done, cancel := context.WithCancel(context.Background())
	s := &stream{
		endpoint: endpoint, advertised: advertised, timeout: cfg.Timeouts.Handshake, dial: cfg.Dial,
		listener: listener, proven: make(chan net.Conn), logger: cfg.Logger,
		done: done, close: cancel,
		conns: make(map[net.Conn]struct{}), refusals: make(map[string]string),
	}
	s.running.Go(s.accept)
	return s
}

// accept proves incoming connections, each on its own, so that a slow one holds up
// nobody.
func (s *stream) accept() {
	slots := make(chan struct{}, maxHandshakes)
	for s.done.Err() == nil {
		conn, err := s.listener.Accept()
		if err != nil {
			// Out of descriptors, or closed: neither is mended by haste.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-s.done.Done():
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-s.done.Done():
			_ = conn.Close()
			return
		}
		s.running.Go(func() {
			defer func() { <-slots }()
			s.admit(conn)
		})
	}
}

// admit passes a connection on to raft once its dialer has proven itself.
func (s *stream) admit(raw net.Conn) {
	conn := s.own(raw)
	if conn == nil {
		return
	}
	host, _, _ := net.SplitHostPort(raw.RemoteAddr().String())
	_ = conn.SetDeadline(time.Now().Add(s.timeout))
	from, err := s.welcome(conn)
	if err != nil {
		s.refused("from "+host, from, err)
		_ = conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	s.admitted("from " + host)
	select {
	case s.proven <- conn:
	case <-s.done.Done():
		_ = conn.Close()
	}
}

// Accept implements net.Listener: the next proven connection.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.proven:
		return conn, nil
	case <-s.done.Done():
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener: the address that other members use.
func (s *stream) Addr() net.Addr { return s.advertised }

// Dial implements raft.StreamLayer for a target made by targetOf.
func (s *stream) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, ok := strings.Cut(string(target), targetSeparator)
	if !ok {
		return nil, fmt.Errorf("raft target %q does not say which member is wanted", target)
	}
	conn, err := s.dialMember(id, addr, min(timeout, s.timeout))
	var refused *refusedError
	switch {
	case err == nil:
		s.admitted("to " + string(target))
	case errors.As(err, &refused):
		s.refused("to "+string(target), id, refused.err)
	}
	return conn, err
}

func (s *stream) dialMember(id, addr string, timeout time.Duration) (net.Conn, error) {
	secret := s.knownSecret()
	if secret == nil {
		return nil, &refusedError{peer: id, err: errNoSecret}
	}
	ctx, cancel := context.WithTimeout(s.done, timeout)
	defer cancel()
	raw, err := s.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	conn := s.own(raw)
	if conn == nil {
		return nil, net.ErrClosed
	}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if err := s.greet(conn, id, secret); err != nil {
		_ = conn.Close()
		return nil, &refusedError{peer: id, err: err}
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// Close ends the listener, every connection and every goroutine of the stream.
func (s *stream) Close() error {
	s.close()
	err := s.listener.Close()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for conn := range conns {
		_ = conn.Close()
	}
	s.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ownedConn takes itself off its stream's books when it is closed.
type ownedConn struct {
	net.Conn
	stream *stream
}

func (c *ownedConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}

// own puts a connection on the books; nil, and closed, when the stream is closed.
func (s *stream) own(raw net.Conn) net.Conn {
	conn := &ownedConn{Conn: raw, stream: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		_ = raw.Close()
		return nil
	}
	s.conns[conn] = struct{}{}
	return conn
}

// maxRefusals bounds the peers whose refusal is remembered.
const maxRefusals = 1024

// refused logs why a peer was refused, once until the reason changes or it is
// admitted.
func (s *stream) refused(peer, id string, reason error) {
	if s.done.Err() != nil {
		return
	}
	s.mu.Lock()
	known := s.refusals[peer] == reason.Error()
	if !known {
		if len(s.refusals) >= maxRefusals {
			clear(s.refusals)
		}
		s.refusals[peer] = reason.Error()
	}
	s.mu.Unlock()
	if !known {
		s.logger.Warn().Str("peer", peer).Str("id", id).Err(reason).Msg("raft connection refused")
	}
}

func (s *stream) admitted(peer string) {
	s.mu.Lock()
	_, known := s.refusals[peer]
	delete(s.refusals, peer)
	s.mu.Unlock()
	if known {
		s.logger.Info().Str("peer", peer).Msg("raft connection accepted again")
	}
}
