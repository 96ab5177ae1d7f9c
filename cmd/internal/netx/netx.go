// Package netx is where every listener and every dialer of ram is made, so that
// encryption can be wrapped around them in one place.
package netx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

// DialTimeout is how long a connection may take to be made. It is short, since
// callers know other addresses to try.
const DialTimeout = 2 * time.Second

// Listen opens a TCP listener on a host:port. The caller closes it.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s is taken by another process (%w): stop it, or choose another port", addr, syscall.EADDRINUSE)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s is not an address of this host (%w): check the node's host", addr, syscall.EADDRNOTAVAIL)
	case err != nil:
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// Dial connects to a host:port, for at most DialTimeout. The caller closes the
// connection.
func Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: DialTimeout, KeepAlive: 5 * time.Second}
	return d.DialContext(ctx, "tcp", addr)
}

// NewTransport is an HTTP transport on top of Dial. It keeps connections open
// between requests and uses no proxy: ramd is reached directly.
func NewTransport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return Dial(ctx, addr)
		},
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}
}
