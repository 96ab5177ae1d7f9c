package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// report is the one line that a starting guard writes to its standard output.
type report struct {
	Status *Status `json:"status,omitempty"`
	Error  string  `json:"error,omitempty"`
	// Busy is set when the error is that another guard holds the data directory.
	Busy bool `json:"busy,omitempty"`
}

// Main is a guard's whole life; its result is the exit code of the process. It
// reads its configuration from in (as Spawn writes it), writes one line to out
// once the postmaster has been started or cannot be, and logs to logs. It must
// have the process to itself: it reaps every child and takes over the signals.
func Main(in io.Reader, out, logs io.Writer) int {
	logger := zerolog.New(logs).With().Timestamp().Int("guard", os.Getpid()).Logger()
	cfg, err := readConfig(in)
	if err != nil {
		return refuse(out, logger, err)
	}
	syscall.Umask(0o077)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)

	lock, err := lockDataDir(cfg.DataDir)
	if err != nil {
		return refuse(out, logger, err)
	}
	if err := clearLeftovers(cfg.DataDir, logger); err != nil {
		return refuse(out, logger, err)
	}
	desk, err := openDesk(cfg.Socket)
	if err != nil {
		return refuse(out, logger, err)
	}
	lease, err := newLease()
	if err != nil {
		desk.close()
		return refuse(out, logger, err)
	}
	defer lease.close()
	g := &guard{
		cfg: cfg, logger: logger, server: newServer(), desk: desk, lock: lock, lease: lease, state: Running,
		watchdog: &watchdog{path: cfg.Watchdog, logger: logger},
	}
	if err := g.start(); err != nil {
		desk.close()
		return refuse(out, logger, err)
	}
	writeLine(out, report{Status: g.snapshot()})
	g.loop(signals)
	return 0
}

func refuse(out io.Writer, logger zerolog.Logger, err error) int {
	logger.Error().Err(err).Msg("guard did not start")
	writeLine(out, report{Error: err.Error(), Busy: errors.Is(err, ErrBusy)})
	return 1
}

// writeLine ignores errors: a reader who went away has no use for them.
func writeLine(w io.Writer, v any) {
	line, err := json.Marshal(v)
	if err == nil {
		_, _ = w.Write(append(line, '\n'))
	}
}

// ErrBusy is returned when another guard holds the data directory.
var ErrBusy = errors.New("another guard holds the data directory")

// lockWait covers the moment between a guard's last word and its end.
const lockWait = 2 * time.Second

// lockDataDir takes the lock that exactly one guard of a data directory holds. The
// lock is on the directory itself, so that it leaves nothing behind, is gone with
// its holder, and goes with the directory when that is renamed.
func lockDataDir(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the data directory: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return dir, nil
		case err != unix.EWOULDBLOCK && err != unix.EINTR:
			dir.Close()
			return nil, fmt.Errorf("lock the data directory %s: %w", path, err)
		case time.Now().After(deadline):
			dir.Close()
			return nil, fmt.Errorf("%w %s", ErrBusy, path)
		}
	}
}

// dyingWait is longer than a postmaster takes to end after its guard was killed:
// after 5 s it kills its children itself.
const dyingWait = 8 * time.Second

// clearLeftovers makes sure that no process of an earlier server works in the data
// directory. A postmaster whose guard was killed is on its way out and is waited
// for; processes without a postmaster are killed, for they would go on
// committing and would keep the shared memory block.
func clearLeftovers(dataDir string, logger zerolog.Logger) error {
	for deadline := time.Now().Add(dyingWait); ; time.Sleep(5 * time.Millisecond) {
		pid := Postmaster(dataDir)
		if pid == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("postmaster %d already runs on %s; stop it (pg_ctl -D %s stop)", pid, dataDir, dataDir)
		}
	}
	found, err := Processes(dataDir)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		logger.Warn().Int("processes", len(found)).Msg("killing what a dead postmaster left behind")
	}
	ctx, cancel := context.WithTimeout(context.Background(), dyingWait)
	defer cancel()
	if err := KillLeftovers(ctx, dataDir); err != nil {
		return err
	}
	return removeStaleLocks(dataDir)
}

// protectFromOOM asks the kernel to kill others first: a lost postmaster takes all
// sessions with it. It returns the environment by which PostgreSQL's children take
// the ordinary risk again. It needs CAP_SYS_RESOURCE; without, nothing changes.
func protectFromOOM() []string {
	const own = "/proc/self/oom_score_adj"
	if err := os.WriteFile(own, []byte(strconv.Itoa(-900)), 0); err != nil {
		return nil
	}
	return []string{"PG_OOM_ADJUST_FILE=" + own, "PG_OOM_ADJUST_VALUE=0"}
}
