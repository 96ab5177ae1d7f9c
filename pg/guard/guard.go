package guard

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// killAfterImmediate is how long an immediate stop may take before the tree is
// killed. The postmaster itself kills its children after 5 s.
const killAfterImmediate = 6 * time.Second

// guard is the running guard. Everything but server and desk belongs to loop.
type guard struct {
	cfg     Config
	logger  zerolog.Logger
	server  *server
	desk    *desk
	lock    *os.File
	pid     int
	started time.Time
	lease   *lease
	// watchdog is fed while the lease holds.
	watchdog *watchdog

	state     State
	requested string
	// escalate fires when the stop in progress has taken too long; nil while there
	// is nothing to wait for.
	escalate <-chan time.Time
}

// start makes this process the keeper of all that descends from it, and forks the
// postmaster.
func (g *guard) start() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of the server's processes: %w", err)
	}
	cfg := g.cfg
	cfg.Env = append(append([]string(nil), cfg.Env...), protectFromOOM()...)
	// A record of an earlier server must not pass for this one's.
	if err := os.Remove(cfg.ExitFile); err != nil && !os.IsNotExist(err) {
		return err
	}
	if cfg.Lease != 0 {
		if late := g.lease.renew(bootTime(), cfg.Term, cfg.Lease, time.Duration(cfg.SpawnedNS)); late != nil {
			return fmt.Errorf("the lease ran out before the server could be started: %w", late)
		}
		g.watchdog.open()
	}
	tell := make(chan started, 1)
	g.started = time.Now()
	go g.server.run(cfg, tell)
	first := <-tell
	if first.err != nil {
		g.watchdog.close()
		return first.err
	}
	g.pid = first.pid
	g.logger.Info().Int("postmaster", g.pid).Str("data_dir", cfg.DataDir).Msg("postmaster started")
	return nil
}

// loop decides everything, one thing at a time, until no process of the server is
// left. Whatever wakes it, the lease comes first: after a time in which the guard was
// stopped, several things are ready and select takes any of them.
func (g *guard) loop(signals <-chan os.Signal) {
	go g.desk.serve()
	feeding := time.NewTicker(feedEvery)
	defer feeding.Stop()
	for {
		select {
		case <-g.server.gone:
			g.finish()
			return
		case <-g.lease.rings:
			g.fence()
		case <-feeding.C:
			g.fence()
			g.feedWatchdog()
		case sig := <-signals:
			g.fence()
			g.logger.Info().Stringer("signal", sig).Msg("told to end; stopping PostgreSQL")
			_ = g.stop(Fast, g.cfg.StopTimeout)
		case c := <-g.desk.calls:
			g.fence()
			c.reply <- g.answer(c.request)
		case <-g.escalate:
			g.fence()
			g.escalateStop()
		}
	}
}

// fence kills the server when its lease has run out.
func (g *guard) fence() {
	if g.state == Killing || !g.lease.ranOutAt(bootTime()) {
		return
	}
	err := g.server.kill()
	if err == os.ErrProcessDone {
		return // its end is under way, and for another reason
	}
	if err != nil {
		g.logger.Error().Err(err).Msg("the lease has run out and the server cannot be signalled")
	}
	g.state, g.requested = Killing, endedByLease
	g.logger.Warn().Uint64("term", g.lease.term).Msg("the lease has run out; killed the whole tree")
}

// renew lets the server run on, unless it is being killed.
func (g *guard) renew(r request) *Error {
	if g.state == Killing || g.server.exit() != nil {
		return &Error{CodeEnded, "the server has ended or is being killed"}
	}
	err := g.lease.renew(bootTime(), r.Term, time.Duration(r.TTLMS)*time.Millisecond, time.Duration(r.SentNS))
	if err == nil {
		g.watchdog.open()
	}
	return err
}

func (g *guard) feedWatchdog() {
	if g.state != Killing && g.lease.heldAt(bootTime()) {
		g.watchdog.feed()
	}
}

// answer carries out one request.
func (g *guard) answer(r request) message {
	var err *Error
	switch r.Op {
	case opStatus:
	case opStop:
		err = g.stop(r.Mode, time.Duration(r.TimeoutMS)*time.Millisecond)
	case opKill:
		err = g.kill()
	case opReload:
		err = signalError(g.server.signal(syscall.SIGHUP))
	case opRenew:
		err = g.renew(r)
	default:
		err = &Error{CodeUnknownOp, fmt.Sprintf("operation %q is unknown to this guard (protocol %d, ramd %s)", r.Op, Protocol, g.cfg.Version)}
	}
	return message{Version: Protocol, ID: r.ID, Status: g.snapshot(), Error: err}
}

var stopSignals = map[Mode]syscall.Signal{
	Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT,
}

// stop passes the request on to PostgreSQL, which lets a stronger mode follow a
// weaker one. After timeout the stop becomes an immediate one; zero is never.
func (g *guard) stop(mode Mode, timeout time.Duration) *Error {
	sig, known := stopSignals[mode]
	if !known {
		return &Error{CodeBadMode, fmt.Sprintf("stop mode %q is not smart, fast or immediate", mode)}
	}
	if err := g.server.signal(sig); err != nil {
		return signalError(err)
	}
	if g.state == Running || g.state == Stopping {
		g.state, g.requested = Stopping, string(mode)
	}
	switch {
	case mode == Immediate:
		g.escalate = time.After(killAfterImmediate)
	case timeout > 0:
		g.escalate = time.After(timeout)
	}
	g.logger.Info().Str("mode", string(mode)).Dur("timeout", timeout).Msg("stopping")
	return nil
}

func (g *guard) escalateStop() {
	g.escalate = nil
	if g.requested == string(Immediate) {
		g.logger.Warn().Msg("immediate stop took too long; killing")
		_ = g.kill()
		return
	}
	g.logger.Warn().Str("mode", g.requested).Msg("stop took too long; stopping at once")
	_ = g.stop(Immediate, 0)
}

func (g *guard) kill() *Error {
	if err := g.server.kill(); err != nil {
		return signalError(err)
	}
	g.state, g.requested = Killing, opKill
	g.logger.Info().Msg("killed the whole tree")
	return nil
}

func signalError(err error) *Error {
	switch err {
	case nil:
		return nil
	case os.ErrProcessDone:
		return &Error{CodeEnded, "the postmaster has ended"}
	}
	return &Error{CodeSignal, "signal the postmaster: " + err.Error()}
}

// snapshot is the status right now.
func (g *guard) snapshot() *Status {
	s := &Status{
		Protocol: Protocol, Version: g.cfg.Version, GuardPID: os.Getpid(),
		DataDir: g.cfg.DataDir, PID: g.pid, Started: g.started, State: g.state,
		Lease: g.lease.left(bootTime()),
	}
	if e := g.server.exit(); e != nil {
		e.PID, e.Requested = g.pid, g.requested
		s.State, s.Exit = Clearing, e
	}
	return s
}

// finish is called when no process of the server is left. The order matters to a
// ramd that starts the next server as soon as it hears of the end: by then record,
// socket and lock are out of its way.
func (g *guard) finish() {
	status := g.snapshot()
	status.State = Ended
	g.logger.Info().Stringer("exit", status.Exit).Str("requested", g.requested).
		Int("cleared", status.Exit.Cleared).Msg("postmaster ended")
	if err := writeExit(g.cfg.ExitFile, *status.Exit); err != nil {
		g.logger.Error().Err(err).Msg("exit record not written")
	}
	g.watchdog.close()
	g.desk.unlist()
	g.lock.Close()
	g.desk.broadcast(message{Version: Protocol, Event: eventEnded, Status: status})
	g.desk.close()
}

func writeExit(path string, e Exit) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, append(text, '\n'), 0o600)
}

// ReadExit reads the record that a guard leaves when its postmaster has ended, for
// those who were not connected. It is an error that satisfies fs.ErrNotExist when
// there is none: no server ran yet, one runs, or its guard was killed.
func ReadExit(path string) (Exit, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Exit{}, err
	}
	var e Exit
	if err := json.Unmarshal(text, &e); err != nil {
		return Exit{}, fmt.Errorf("exit record %s: %w", path, err)
	}
	return e, nil
}
