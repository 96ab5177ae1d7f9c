package guard

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/ramhq/ram/pg/internal/socket"
)

// writeLimit is how long a reader may keep the guard waiting.
const writeLimit = time.Second

// call is a request on its way to the guard's loop.
type call struct {
	request request
	reply   chan message // holds one
}

// desk takes requests from ramd's connections and passes them to the loop.
type desk struct {
	listener *net.UnixListener
	path     string
	calls    chan call
	closed   chan struct{} // closed by close

	mu    sync.Mutex
	conns map[*visitor]struct{}
}

// visitor is one connection; its lines are written one at a time.
type visitor struct {
	conn net.Conn
	mu   sync.Mutex
}

// openDesk listens on path. A socket that nobody answers is a dead guard's and is
// replaced.
func openDesk(path string) (*desk, error) {
	listener, err := socket.Listen(path, -1)
	if errors.Is(err, socket.ErrInUse) {
		return nil, fmt.Errorf("listen for ramd: a guard of another data directory answers on %s; give each ramd a directory of its own (--data-dir)", path)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for ramd: %w", err)
	}
	// unlist removes the path, at its own time.
	listener.SetUnlinkOnClose(false)
	return &desk{
		listener: listener, path: path,
		calls: make(chan call), closed: make(chan struct{}), conns: make(map[*visitor]struct{}),
	}, nil
}

// serve accepts connections until unlist.
func (d *desk) serve() {
	for {
		conn, err := d.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, and the like: they pass
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go d.attend(&visitor{conn: conn})
	}
}

// attend greets a connection and answers its requests.
func (d *desk) attend(v *visitor) {
	defer v.conn.Close()
	hello, ok := d.ask(request{Op: opStatus})
	if !ok {
		return
	}
	hello.Event = eventHello
	d.mu.Lock()
	d.conns[v] = struct{}{}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.conns, v)
		d.mu.Unlock()
	}()
	v.send(hello)
	lines := bufio.NewScanner(v.conn)
	for lines.Scan() {
		var r request
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			return
		}
		answer, ok := d.ask(r)
		if !ok {
			return
		}
		v.send(answer)
	}
}

// ask gets the loop's answer; it is false when the guard is ending.
func (d *desk) ask(r request) (message, bool) {
	c := call{request: r, reply: make(chan message, 1)}
	select {
	case d.calls <- c:
		return <-c.reply, true
	case <-d.closed:
		return message{}, false
	}
}

func (v *visitor) send(m message) {
	line, err := json.Marshal(m)
	if err != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_ = v.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := v.conn.Write(append(line, '\n')); err != nil {
		v.conn.Close()
	}
}

// unlist takes the socket's path away: nobody comes any more, those who are
// connected stay.
func (d *desk) unlist() {
	_ = os.Remove(d.path)
	d.listener.Close()
}

// broadcast tells every connection at the same time, so that one that does not read
// keeps no other waiting.
func (d *desk) broadcast(m message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var sent sync.WaitGroup
	for v := range d.conns {
		sent.Go(func() { v.send(m) })
	}
	sent.Wait()
}

// close ends every connection.
func (d *desk) close() {
	d.unlist()
	close(d.closed)
	d.mu.Lock()
	defer d.mu.Unlock()
	for v := range d.conns {
		v.conn.Close()
	}
}
