package wal

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg/internal/socket"
)

// ServiceConfig is what a Service works with.
type ServiceConfig struct {
	// Socket is the path to listen on, at most 107 bytes. PostgreSQL's user must be able to
	// get there.
	Socket string
	// UID is the user that PostgreSQL runs as; -1 stands for ramd's own.
	UID int
	// Push archives a file: Archiver.Push.
	Push func(ctx context.Context, file string) error
	// Fetch opens a file of the archive: Fetcher.Open. The service closes it.
	Fetch  func(ctx context.Context, file string) (*os.File, error)
	Logger zerolog.Logger
}

// Service answers the clients that PostgreSQL starts.
type Service struct {
	cfg      ServiceConfig
	listener *net.UnixListener
	slots    chan struct{}
}

// connections is how many clients are served at once; further ones wait.
const connections = 32

// Listen opens the socket, for PostgreSQL's user and ramd's own. A socket that nobody
// answers is a dead ramd's and is replaced. Connections wait until Serve is called.
func Listen(cfg ServiceConfig) (*Service, error) {
	if err := CheckSocketPath(cfg.Socket); err != nil {
		return nil, err
	}
	listener, err := socket.Listen(cfg.Socket, cfg.UID)
	if errors.Is(err, socket.ErrInUse) {
		return nil, fmt.Errorf("listen for PostgreSQL's archiver: another ramd answers on %s; give each ramd a directory of its own (--data-dir)", cfg.Socket)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for PostgreSQL's archiver: %w", err)
	}
	if cfg.UID < 0 {
		cfg.UID = os.Geteuid()
	}
	return &Service{cfg: cfg, listener: listener, slots: make(chan struct{}, connections)}, nil
}

// Serve answers until ctx ends, then removes the socket and returns nil when every
// connection has ended.
func (s *Service) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.listener.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			time.Sleep(10 * time.Millisecond) // too many open files, and the like: they pass
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			conn.Close()
			continue
		}
		clients.Go(func() {
			defer func() { <-s.slots }()
			defer conn.Close()
			s.attend(ctx, conn)
		})
	}
}

// attend answers the one request of a connection.
func (s *Service) attend(ctx context.Context, conn *net.UnixConn) {
	if err := s.allowed(conn); err != nil {
		s.cfg.Logger.Warn().Err(err).Msg("refused a client on the WAL socket")
		_ = send(conn, answer{Code: codeRefused, Error: err.Error()})
		return
	}
	lines := bufio.NewReader(io.LimitReader(conn, requestLimit))
	_ = conn.SetReadDeadline(time.Now().Add(requestWait))
	line, err := lines.ReadBytes('\n')
	var r request
	if err != nil || json.Unmarshal(line, &r) != nil || r.V != protocolVersion {
		_ = send(conn, answer{Code: codeRefused, Error: "ramd does not understand the request; is this client of its version?"})
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	// A client sends nothing more: reading ends when it goes.
	go func() {
		_, _ = conn.Read(make([]byte, 1))
		leave()
	}()
	stop := stayInTouch(conn)
	a, content := s.do(ctx, r)
	stop()
	if content != nil {
		defer content.Close()
	}
	if send(conn, a) == nil && content != nil {
		_ = conn.SetWriteDeadline(time.Now().Add(sendWait))
		_, _ = io.Copy(conn, content)
	}
}

// allowed lets in root, ramd's own user and PostgreSQL's.
func (s *Service) allowed(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if asked != nil {
		return asked
	}
	if uid := int(peer.Uid); uid != 0 && uid != os.Geteuid() && uid != s.cfg.UID {
		return fmt.Errorf("user %d may not archive or fetch WAL here; only root, ramd's user and PostgreSQL's may", uid)
	}
	return nil
}

// stayInTouch tells the client now and then that its request is being worked on, until
// stop is called.
func stayInTouch(conn net.Conn) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(waitEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if send(conn, answer{Code: codeWait}) != nil {
					return
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func (s *Service) do(ctx context.Context, r request) (answer, *os.File) {
	switch r.Op {
	case opPush:
		return pushAnswer(s.cfg.Push(ctx, r.File)), nil
	case opFetch:
		return s.fetch(ctx, r.File)
	}
	return answer{Code: codeRefused, Error: fmt.Sprintf("ramd does not know %q; is this client of its version?", r.Op)}, nil
}

func pushAnswer(err error) answer {
	switch {
	case err == nil:
		return answer{Code: codeOK}
	case errors.Is(err, ErrStopping):
		return answer{Code: codeStopping, Error: err.Error()}
	}
	return answer{Code: codeFailed, Error: err.Error()}
}

func (s *Service) fetch(ctx context.Context, file string) (answer, *os.File) {
	content, err := s.cfg.Fetch(ctx, file)
	if errors.Is(err, ErrNotFound) {
		return answer{Code: codeMissing, Error: err.Error()}, nil
	}
	if err != nil {
		return answer{Code: codeFailed, Error: err.Error()}, nil
	}
	info, err := content.Stat()
	if err != nil {
		content.Close()
		return answer{Code: codeFailed, Error: err.Error()}, nil
	}
	return answer{Code: codeOK, Size: info.Size()}, content
}
