package instance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

// StartOptions says how the server is started.
type StartOptions struct {
	// Args are settings for the command line, where neither a file nor ALTER SYSTEM
	// can change them. Port and socket directory are always there.
	Args map[string]string
	// Timeout is how long the server may take to accept connections; recovery after
	// a crash is part of it. Zero means a minute.
	Timeout time.Duration
	// Lease is how long the server may run, from the call of Start on, before the
	// first Renew, and Term the primaryship that it is for. Zero is no lease until
	// then: a standby has none.
	Lease time.Duration
	Term  uint64
	// Watchdog is the kernel watchdog that the guard of a leased server feeds, such
	// as /dev/watchdog; empty for none.
	Watchdog string
}

const defaultStartTimeout = time.Minute

// pollEvery is how often the postmaster's own status is looked at while it starts.
const pollEvery = 5 * time.Millisecond

// Start starts the server under a guard and waits until it accepts connections. A
// server that does not come up is a *StartError. ErrStillStarting means that it is
// there and was left to go on.
func (i *Instance) Start(ctx context.Context, o StartOptions) error {
	if o.Timeout == 0 {
		o.Timeout = defaultStartTimeout
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if err := i.checkStartable(ctx); err != nil {
		return err
	}
	if err := dropReserved(i.cfg.DataDir); err != nil {
		return fmt.Errorf("remove what an interrupted promotion left: %w", err)
	}
	logged := fileSize(i.LogFile())
	if o.Lease > 0 {
		o.Lease = max(1, o.Lease-time.Since(begin))
	}
	client, err := guard.Spawn(ctx, i.cfg.GuardCommand, i.guardConfig(o))
	if errors.Is(err, guard.ErrNoGuard) {
		// It was over before we could connect.
		if _, exitErr := guard.ReadExit(i.exitFile()); exitErr == nil {
			return i.startError(logged)
		}
	}
	if err != nil {
		return err
	}
	return i.awaitReady(ctx, i.adopt(client), logged)
}

// checkStartable refuses to start what runs already, and a server whose port is
// taken.
func (i *Instance) checkStartable(ctx context.Context) error {
	if err := i.Attach(ctx); err != nil {
		return err
	}
	if pid, _ := i.postmaster(); pid != 0 {
		return fmt.Errorf("%w %s (process %d)", ErrRunning, i.cfg.DataDir, pid)
	}
	switch state, err := dirState(i.cfg.DataDir); {
	case err != nil:
		return err
	case state == pg.DirAbsent:
		return fmt.Errorf("there is no data directory %s to start", i.cfg.DataDir)
	case state == pg.DirForeign:
		return fmt.Errorf("%s %w; move it away or change data_dir", i.cfg.DataDir, ErrForeign)
	}
	mark, _, err := readMarker(i.cfg.DataDir)
	if err != nil {
		return err
	}
	if _, is, err := i.rewinding(mark); is || err != nil {
		return errors.Join(fmt.Errorf("no server may be started on %s: %w; clone it anew", i.cfg.DataDir, errRewinding), err)
	}
	if err := i.prepareState(); err != nil {
		return err
	}
	return checkPort(i.cfg.Host, i.cfg.Port)
}

func (i *Instance) guardConfig(o StartOptions) guard.Config {
	settings := maps.Clone(o.Args)
	if settings == nil {
		settings = make(map[string]string)
	}
	settings["port"] = strconv.Itoa(i.cfg.Port)
	settings["unix_socket_directories"] = quoteListItem(i.SocketDir())
	args := []string{"-D", i.cfg.DataDir}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return guard.Config{
		Version: i.cfg.Version,
		Binary:  i.binaries.path("postgres"), Args: args,
		Env:     i.environment("PGDATA=" + i.cfg.DataDir),
		DataDir: i.cfg.DataDir, Credential: i.user.guardCredential(),
		Socket: i.guardSocket(), ExitFile: i.exitFile(), ServerLog: i.LogFile(), GuardLog: i.guardLog(),
		Lease: o.Lease, Term: o.Term, Watchdog: o.Watchdog,
	}
}

// quoteListItem quotes one item of a setting that is a list of names: a directory
// may have a comma or a space in it.
func quoteListItem(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// ErrStillStarting is returned when a server was not ready within the time but is
// on its way: it may be replaying much WAL.
var ErrStillStarting = errors.New("PostgreSQL does not accept connections yet")

// awaitReady watches what the postmaster says of itself in postmaster.pid.
func (i *Instance) awaitReady(ctx context.Context, client *guard.Client, logged int64) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		file := i.readPostmasterPID()
		if file.PID == client.Last().PID && (file.Status == "ready" || file.Status == "standby") {
			return nil
		}
		select {
		case <-tick.C:
		case <-client.Done():
			return i.startError(logged)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w; it goes on starting, see %s", ErrStillStarting, ctx.Err(), i.LogFile())
		}
	}
}

// readPostmasterPID is the zero value when there is none, or only half a one.
func (i *Instance) readPostmasterPID() pg.PostmasterPID {
	text, err := os.ReadFile(filepath.Join(i.cfg.DataDir, "postmaster.pid"))
	if err != nil {
		return pg.PostmasterPID{}
	}
	file, err := pg.ParsePostmasterPID(string(text))
	if err != nil {
		return pg.PostmasterPID{}
	}
	return file
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
