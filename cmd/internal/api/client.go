package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ramhq/ram/cmd/internal/netx"
)

// DefaultPort is the API port that an address without one means.
const DefaultPort = "8080"

// Defaults of ClientConfig.
const (
	defaultAttempt = 15 * time.Second
	retryPause     = 200 * time.Millisecond
	maxAnswer      = 256 << 20
)

// ClientConfig says how a Client reaches a cluster.
type ClientConfig struct {
	// Addrs are host:port pairs or http URLs of any ramds of the cluster, in
	// order of preference. At least one is needed.
	Addrs []string
	// Token is the bearer token; empty sends none.
	Token string
	// Patience is how long a request that changes nothing is tried again while
	// the cluster says that it has no leader, as during an election. Zero asks
	// every address once.
	Patience time.Duration
	// Attempt bounds one try at one address, apart from the time that a request
	// asks the server to wait. Zero means 15 seconds.
	Attempt time.Duration
	// Transport is for tests and for calls over other connections; nil is
	// netx.NewTransport().
	Transport http.RoundTripper
}

// Client speaks to any ramd of a cluster. It tries its addresses in turn and
// stays with the one that answered. It may be used by several goroutines.
type Client struct {
	config ClientConfig
	bases  []string
	http   *http.Client

	mu   sync.Mutex
	last int // index of the address that answered last; guarded by mu
}

// NewClient checks the addresses; it connects to none.
func NewClient(config ClientConfig) (*Client, error) {
	if len(config.Addrs) == 0 {
		return nil, errors.New("no address of a ramd was given")
	}
	c := &Client{config: config}
	for _, addr := range config.Addrs {
		base, err := baseURL(addr)
		if err != nil {
			return nil, err
		}
		c.bases = append(c.bases, base)
	}
	if c.config.Attempt == 0 {
		c.config.Attempt = defaultAttempt
	}
	transport := config.Transport
	if transport == nil {
		transport = netx.NewTransport()
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// baseURL turns an address as people write it into the start of a URL.
func baseURL(addr string) (string, error) {
	rest, isURL := strings.CutPrefix(addr, "http://")
	if !isURL && strings.Contains(addr, "://") {
		return "", fmt.Errorf("address %q: write host:port or http://host:port; other schemes are not built yet in this version of ram", addr)
	}
	rest = strings.TrimSuffix(rest, "/")
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		host, port = strings.Trim(rest, "[]"), DefaultPort
	}
	if host == "" || port == "" || strings.ContainsAny(host, "/?#@ ") {
		return "", fmt.Errorf("address %q is not of the form host:port", addr)
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// Call is one request. In is encoded as JSON unless nil.
type Call struct {
	Method string
	// Path follows Prefix and may have a query.
	Path string
	In   any
	// A request that a ramd says it has done nothing about, because leadership is
	// changing hands, is tried again in any case. Repeatable requests have no
	// effect, or the same one twice as once: they are tried again at another
	// address whatever went wrong with the first.
	Repeatable bool
	// Wait is the time that the server was asked to wait before it answers.
	Wait time.Duration
}

// Do sends a request and decodes the data of the answer into out, unless out is
// nil. Errors are *Error when a ramd answered, ErrUnreachable when none did.
func (c *Client) Do(ctx context.Context, call Call, out any) error {
	body, err := encodeBody(call.In)
	if err != nil {
		return err
	}
	until := time.Now().Add(c.config.Patience)
	for {
		err := c.round(ctx, call, body, out)
		again := errors.Is(err, errMoved) || call.Repeatable && errors.Is(err, ErrUnavailable)
		if !again || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

func encodeBody(in any) ([]byte, error) {
	if in == nil {
		return nil, nil
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return body, nil
}

// round asks every address once, beginning with the one that answered last.
func (c *Client) round(ctx context.Context, call Call, body []byte, out any) error {
	var noLeader error
	var silent []error
	start := c.preferred()
	for i := range c.bases {
		at := (start + i) % len(c.bases)
		err := c.attempt(ctx, c.bases[at], call, body, out)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrUnavailable):
			noLeader = err
			if !call.Repeatable {
				return err
			}
		case errors.Is(err, ErrUnreachable):
			silent = append(silent, err)
			if !call.Repeatable && !errors.Is(err, errNotSent) {
				return fmt.Errorf("%w; it may have been accepted: see ramctrl status", err)
			}
		default:
			c.prefer(at)
			return err
		}
	}
	if noLeader != nil {
		return noLeader
	}
	return unreachable(silent)
}

func (c *Client) preferred() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *Client) prefer(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = at
}

// attempt asks one address.
func (c *Client) attempt(ctx context.Context, base string, call Call, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.Attempt+call.Wait)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, call.Method, base+Prefix+call.Path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("request to %s: %w", base, err)
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.config.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.config.Token)
	}
	host := request.URL.Host
	response, err := c.http.Do(request)
	if err != nil {
		return notAnswered(host, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return notAnswered(host, err)
	}
	return decodeAnswer(host, response, text, out)
}

func decodeAnswer(host string, response *http.Response, text []byte, out any) error {
	var envelope Envelope
	if err := json.Unmarshal(text, &envelope); err != nil || envelope.Timestamp.IsZero() {
		return fmt.Errorf("%s does not answer as a ramd does (HTTP %d): check --addr", host, response.StatusCode)
	}
	if response.StatusCode >= 300 || !envelope.Success {
		return &Error{Status: response.StatusCode, Message: envelope.Message, Addr: host}
	}
	if out == nil || len(envelope.Data) == 0 {
		return nil
	}
	if err := json.Unmarshal(envelope.Data, out); err != nil {
		return fmt.Errorf("%s answers in a form that this version does not know: use the ramctrl of its version: %w", host, err)
	}
	return nil
}
