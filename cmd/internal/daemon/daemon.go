// Package daemon is ramd: it wires the Raft store, the leader's loop, the agent
// and the local PostgreSQL together, listens, and forms or joins the cluster.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/buildinfo"
	"github.com/ramhq/ram/cmd/internal/netx"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/raftstore"
)

// Daemon is one ramd process.
type Daemon struct {
	opts      Options
	start     start
	dataDir   string
	log       zerolog.Logger
	transport *http.Transport
	started   time.Time
	audit     *auditLog

	life atomic.Pointer[life] // nil between two lives

	stopping     context.CancelFunc
	stopOnce     sync.Once
	stopPostgres atomic.Bool
}

// Run is ramd start: it runs until ctx ends, or ramd stop asks for it. PostgreSQL
// goes on under its guard unless the stop says otherwise.
func Run(ctx context.Context, opts Options, log zerolog.Logger) (err error) {
	s, err := opts.read()
	if err != nil {
		return err
	}
	dataDir, err := opts.dataDir(s)
	if err != nil {
		return err
	}
	if !s.node.Witness {
		if err := instance.CheckStateDir(dataDir, s.node.Ports.Postgres); err != nil {
			return err
		}
	}
	log = log.With().Str("node", s.node.Name).Logger()
	release, err := claim(dataDir, s)
	if err != nil {
		return err
	}
	defer release()
	audit, err := openAudit(filepath.Join(dataDir, "audit.log"))
	if err != nil {
		return err
	}
	defer audit.Close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &Daemon{
		opts: opts, start: s, dataDir: dataDir, log: log, transport: netx.NewTransport(),
		started: time.Now(), audit: audit, stopping: cancel,
	}
	defer d.transport.CloseIdleConnections()
	log.Info().Str("version", buildinfo.Version).Str("cluster", s.spec.Name).Str("data_dir", dataDir).Msg("ramd starts")
	defer func() { log.Info().Err(err).Msg("ramd has stopped") }()
	return d.run(ctx)
}

func (d *Daemon) run(ctx context.Context) error {
	n := d.start.node
	requests, err := netx.Listen(address(n.Host, n.Ports.API))
	if err != nil {
		return fmt.Errorf("the API's address is not free (%w): stop what uses it, or change ports.api of node %s", err, n.Name)
	}
	defer requests.Close()
	scrapes, err := netx.Listen(address(n.Host, n.Ports.Metrics))
	if err != nil {
		return fmt.Errorf("the address for metrics is not free (%w): stop what uses it, or change ports.metrics of node %s", err, n.Name)
	}
	defer scrapes.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, requests, d.requestHandler()) })
	group.Go(func() error { return serve(ctx, scrapes, d.metricsHandler()) })
	group.Go(func() error { return d.lives(ctx) })
	group.Go(func() error {
		select {
		case <-d.opts.StopAll:
			d.stop(true)
		case <-ctx.Done():
		}
		return nil
	})
	return group.Wait()
}

// lives runs one membership after the other: a node that was removed waits with
// an empty Raft directory to be admitted again.
func (d *Daemon) lives(ctx context.Context) error {
	for ctx.Err() == nil {
		l, err := d.openLife(ctx)
		if err != nil {
			return err
		}
		err = d.liveOnce(ctx, l)
		switch {
		case errors.Is(err, errRemoved):
			if err := d.forget(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	return nil
}

func (d *Daemon) liveOnce(ctx context.Context, l *life) error {
	defer l.close()
	err := l.run(ctx, func() { d.life.Store(l) })
	d.life.Store(nil)
	switch {
	case errors.Is(err, errRemoved) && l.host != nil:
		l.host.retire(ctx, l.identity().SystemID)
	case d.stopPostgres.Load() && l.host != nil:
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		if stopErr := l.host.stopServer(stopCtx); stopErr != nil {
			return errors.Join(err, fmt.Errorf("stop PostgreSQL: %w", stopErr))
		}
	case l.host != nil && l.withoutLease():
		l.host.release(context.WithoutCancel(ctx))
	}
	return err
}

// forget makes this ramd one that has never been a member.
func (d *Daemon) forget(ctx context.Context) error {
	aside, err := raftstore.Forget(filepath.Join(d.dataDir, "raft"))
	if err != nil {
		return err
	}
	for _, name := range []string{identityPath(d.dataDir), filepath.Join(d.dataDir, "admin.token")} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	d.log.Info().Str("kept", aside).Msg("waiting to be admitted again")
	sleep(ctx, time.Second)
	return nil
}

// stop ends the process, and PostgreSQL first if it is told to.
func (d *Daemon) stop(postgres bool) {
	d.stopOnce.Do(func() {
		d.stopPostgres.Store(postgres)
		// The answer to the request that asked is sent first.
		time.AfterFunc(100*time.Millisecond, d.stopping)
	})
}

// requestHandler answers operators, load balancers and other ramds.
func (d *Daemon) requestHandler() http.Handler {
	operators := &api.Server{Backend: backend{d}, Access: access{d}, Forward: forward{d}, Audit: d.audit, Logger: d.log}
	internal, public := d.internalHandler(), operators.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/internal/") {
			internal.ServeHTTP(w, r)
			return
		}
		public.ServeHTTP(w, r)
	})
}

// serve answers requests until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stopped := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// access and forward are the parts of the current life that the API needs.
type access struct{ *Daemon }

// AdminToken is api.Access's.
func (a access) AdminToken() string {
	if l := a.life.Load(); l != nil {
		secrets, _ := l.secrets()
		return secrets.AdminToken
	}
	return ""
}

type forward struct{ *Daemon }

// Leads is api.Forwarder's. A leader that has just begun answers operators when it
// has heard what there is to know, which takes a moment.
func (f forward) Leads() bool {
	l := f.life.Load()
	if l == nil {
		return false
	}
	for deadline := time.Now().Add(informedWithin); l.Leads(); time.Sleep(informedPoll) {
		if l.leader.Informed() || time.Now().After(deadline) {
			return true
		}
	}
	return false
}

const (
	informedWithin = 2 * time.Second
	informedPoll   = 10 * time.Millisecond
)

// Forward is api.Forwarder's.
func (f forward) Forward(w http.ResponseWriter, r *http.Request) bool {
	l := f.life.Load()
	return l != nil && l.Forward(w, r)
}
