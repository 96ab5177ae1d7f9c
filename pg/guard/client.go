package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// ErrLost is returned when the connection to a guard ended without its last word:
// the guard was killed, and the kernel has told the postmaster to quit. Whoever
// needs certainty looks for processes (see Processes).
var ErrLost = errors.New("the guard is gone without a last word")

// ErrNoGuard is returned when nobody answers on a socket.
var ErrNoGuard = errors.New("no guard answers")

// Client is a connection to a guard. Its methods may be called concurrently.
type Client struct {
	conn net.Conn
	// done is closed by read when no more is to be heard.
	done chan struct{}

	mu      sync.Mutex
	last    Status
	nextID  uint64
	waiting map[uint64]chan message
	end     error // why done is closed; nil when the guard said how it ended
}

// Connect finds the guard that listens on a socket. The error is ErrNoGuard when
// there is none.
func Connect(ctx context.Context, socket string) (*Client, error) {
	if err := checkSocketPath(socket); err != nil {
		return nil, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("%w on %s: %w", ErrNoGuard, socket, err)
	}
	lines := bufio.NewScanner(conn)
	hello, err := readHello(ctx, conn, lines)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w on %s: %w", ErrNoGuard, socket, err)
	}
	c := &Client{conn: conn, done: make(chan struct{}), last: *hello.Status, waiting: make(map[uint64]chan message)}
	go c.read(lines)
	return c, nil
}

func readHello(ctx context.Context, conn net.Conn, lines *bufio.Scanner) (message, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var m message
	if !lines.Scan() {
		return m, errors.Join(ctx.Err(), errors.New("it hung up"))
	}
	if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
		return m, err
	}
	if m.Event != eventHello || m.Status == nil {
		return m, errors.New("it speaks another language")
	}
	return m, nil
}

// read passes on what the guard says, until it has said the last.
func (c *Client) read(lines *bufio.Scanner) {
	end := ErrLost
	for lines.Scan() {
		var m message
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue
		}
		if c.note(m) {
			end = nil
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = end
	c.conn.Close()
	close(c.done)
}

// note keeps what a line says and reports whether it was the last word.
func (c *Client) note(m message) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Status != nil {
		c.last = *m.Status
	}
	if reply := c.waiting[m.ID]; reply != nil {
		delete(c.waiting, m.ID)
		reply <- m
	}
	return m.Event == eventEnded
}

// Status asks the guard. An ended guard's last status is returned without an error.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, request{Op: opStatus})
}

// Last is what the guard has said last, without asking.
func (c *Client) Last() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Stop tells the guard to stop PostgreSQL and returns at once. After timeout the
// stop becomes an immediate one, and that a kill; the guard sees to it even when
// the caller is gone. A timeout of zero waits for ever.
func (c *Client) Stop(ctx context.Context, mode Mode, timeout time.Duration) error {
	_, err := c.call(ctx, request{Op: opStop, Mode: mode, TimeoutMS: timeout.Milliseconds()})
	return err
}

// KillTree kills the postmaster and all its processes at once, without any
// shutdown, and returns when they have been signalled. They are dead when Done
// is closed.
func (c *Client) KillTree(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opKill})
	return err
}

// Reload makes PostgreSQL read its configuration files again.
func (c *Client) Reload(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opReload})
	return err
}

// Renew lets the server run for ttl from this call on, for the primaryship of a term.
// A server that had no lease has one from then on. The error is ErrStaleTerm, ErrLate
// or ErrEnded when the guard refused, and ErrUnknownOp when it is older than leases.
// After any other error the renewal may have come through or not.
func (c *Client) Renew(ctx context.Context, term uint64, ttl time.Duration) error {
	_, err := c.call(ctx, request{Op: opRenew, Term: term, TTLMS: ttl.Milliseconds(), SentNS: int64(bootTime())})
	return err
}

// Done is closed when the server has ended, all of it, or the guard is lost: Exit
// says which.
func (c *Client) Done() <-chan struct{} { return c.done }

// Exit is how the server ended, or ErrLost. It may be called once Done is closed.
func (c *Client) Exit() (Exit, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return Exit{}, c.end
	}
	if c.last.Exit == nil {
		return Exit{}, errors.New("guard: the server has not ended")
	}
	return *c.last.Exit, nil
}

// Close ends the connection; guard and server go on. Done is closed.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

// call sends a request and waits for its answer.
func (c *Client) call(ctx context.Context, r request) (Status, error) {
	reply := make(chan message, 1)
	if err := c.send(ctx, &r, reply); err != nil {
		if errors.Is(err, syscall.EPIPE) {
			// It has hung up, maybe after its last word, which read is about to see.
			select {
			case <-c.done:
			case <-ctx.Done():
			}
		}
		return c.whenDone(r, err)
	}
	select {
	case m := <-reply:
		if m.Error != nil {
			return c.Last(), m.Error
		}
		return *m.Status, nil
	case <-c.done:
		return c.whenDone(r, ErrLost)
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiting, r.ID)
		c.mu.Unlock()
		return c.Last(), fmt.Errorf("guard did not answer: %w", ctx.Err())
	}
}

func (c *Client) send(ctx context.Context, r *request, reply chan message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	r.Version, r.ID = Protocol, c.nextID
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	c.waiting[r.ID] = reply
	deadline, _ := ctx.Deadline() // the zero time is no deadline
	_ = c.conn.SetWriteDeadline(deadline)
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		delete(c.waiting, r.ID)
		return err
	}
	return nil
}

// whenDone answers a request that came too late: for status with the last one.
func (c *Client) whenDone(r request, err error) (Status, error) {
	select {
	case <-c.done:
	default:
		return c.Last(), fmt.Errorf("talk to the guard: %w", err)
	}
	if _, exitErr := c.Exit(); exitErr != nil {
		return c.Last(), exitErr
	}
	if r.Op == opStatus {
		return c.Last(), nil
	}
	return c.Last(), &Error{CodeEnded, "the postmaster has ended"}
}
