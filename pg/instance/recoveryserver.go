package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/guard"
)

// privateServer is a server on a directory that is not this instance's data
// directory: nobody but ramd can reach it, it contacts nobody, and it does not
// outlive ramd. Its configuration is not the directory's own, which is another
// host's, and which may archive, replicate or run jobs.
type privateServer struct {
	i   *Instance
	dir string // the data directory
	// aux is a directory beside it for its configuration.
	aux string
	// name is of its log, and port the number of its socket.
	name string
	port int
	// settings are added to those that every private server has.
	settings map[string]string
	progress func(RecoveryProgress)
	// adopt has the superuser of the directory get this instance's password: it may be
	// another cluster's.
	adopt bool

	log   *recoveryLog
	ended chan struct{} // closed when no process of it is left
	err   error         // how it ended; valid when ended is closed
}

// Ports of private servers. Nobody listens on them: they only number the sockets,
// which lie in one directory with that of the instance's own server.
const (
	restorePort = 1
	verifyPort  = 2
)

// privateSettings keep a server to itself.
func (s *privateServer) privateSettings() map[string]string {
	set := map[string]string{
		"listen_addresses": "", "port": strconv.Itoa(s.port),
		"unix_socket_directories": quoteListItem(s.i.SocketDir()), "unix_socket_permissions": "0700",
		"hba_file": filepath.Join(s.aux, "private_hba.conf"), "ident_file": filepath.Join(s.aux, "private_ident.conf"),
		"ssl": "off", "hot_standby": "off", "max_connections": "30", "shared_buffers": "128MB", "huge_pages": "off",
		"archive_mode": "off", "archive_cleanup_command": "", "recovery_end_command": "",
		"primary_conninfo": "", "primary_slot_name": "", "synchronous_standby_names": "",
		// Nothing runs by itself: no jobs of extensions, no subscriptions.
		"max_worker_processes": "0", "max_logical_replication_workers": "0", "autovacuum": "off",
		// What was written is flushed as a whole when it is done; a directory that a crash
		// of the machine hits before is made anew.
		"fsync": "off", "full_page_writes": "on", "max_wal_size": "1GB", "checkpoint_timeout": "15min",
		"logging_collector": "off", "log_destination": "stderr", "log_line_prefix": "", "log_min_messages": "warning",
		"log_checkpoints": "off", "log_connections": "off", "log_statement": "none", "log_min_duration_statement": "-1",
		"lc_messages": "C", "timezone": "UTC", "log_timezone": "UTC",
	}
	if s.i.cfg.Major >= 15 {
		set["log_startup_progress_interval"] = "1s"
	}
	maps.Copy(set, s.settings)
	return set
}

// start starts the server and returns when it accepts connections, which may take
// hours of recovery, or has ended.
func (s *privateServer) start(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	file, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	s.log, s.ended, s.err = &recoveryLog{file: file, progress: s.progress}, make(chan struct{}), nil
	go func() {
		defer close(s.ended)
		defer file.Close()
		s.err = s.i.run(context.WithoutCancel(ctx), child{
			program: "postgres", args: []string{"-D", s.dir, "-c", "config_file=" + s.configFile()},
			line: s.log.line, deathSignal: syscall.SIGQUIT,
		})
	}()
	return s.awaitReady(ctx)
}

func (s *privateServer) configFile() string { return filepath.Join(s.aux, "private.conf") }
func (s *privateServer) logFile() string    { return filepath.Join(s.i.cfg.StateDir, s.name+".log") }

// prepare writes the configuration, and makes sure that nothing works in the directory.
func (s *privateServer) prepare(ctx context.Context) error {
	if err := guard.KillLeftovers(ctx, s.dir); err != nil {
		return err
	}
	for _, path := range []string{filepath.Join(s.dir, "postmaster.pid"), s.socket() + ".lock", s.socket()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for path, text := range map[string]string{
		s.configFile(): pg.RenderConf("written by ramd for a recovery", s.privateSettings()),
		// Who gets as far as the socket can read the files as well.
		filepath.Join(s.aux, "private_hba.conf"):   "local all " + Superuser + " trust\n",
		filepath.Join(s.aux, "private_ident.conf"): "",
		filepath.Join(s.dir, autoFile):             "",
	} {
		if err := s.i.user.writeFile(path, []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func (s *privateServer) socket() string {
	return filepath.Join(s.i.SocketDir(), ".s.PGSQL."+strconv.Itoa(s.port))
}

// privatePollEvery is how often the status of a recovering server is looked at.
const privatePollEvery = 10 * time.Millisecond

func (s *privateServer) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(privatePollEvery)
	defer tick.Stop()
	for {
		text, _ := os.ReadFile(filepath.Join(s.dir, "postmaster.pid"))
		if file, err := pg.ParsePostmasterPID(string(text)); err == nil && file.Status == "ready" {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return s.failure()
		case <-ctx.Done():
			s.kill()
			return ctx.Err()
		}
	}
}

// failure is why a server has ended that should not have.
func (s *privateServer) failure() error {
	said := s.log.complaints()
	if len(said) == 0 && s.err == nil {
		return fmt.Errorf("the private server was stopped by somebody else; see %s", s.logFile())
	}
	if len(said) == 0 {
		return fmt.Errorf("the private server ended: %w; see %s", s.err, s.logFile())
	}
	err := fmt.Errorf("the private server ended: %s; see %s", strings.Join(said, "; "), s.logFile())
	if s.log.says("invalid page in block") || s.log.says("page verification failed") {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// stop ends a server that is ready, with a checkpoint.
func (s *privateServer) stop(ctx context.Context) error {
	guard.Signal(s.dir, guard.Postmaster(s.dir), syscall.SIGINT)
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.kill()
		return ctx.Err()
	}
	if s.err != nil {
		return s.failure()
	}
	return nil
}

// kill ends the server's whole tree. The postmaster may only just be on its way to
// its directory, by which it is found, so it is looked for until it has ended.
func (s *privateServer) kill() {
	for {
		s.killGroups()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := guard.KillLeftovers(ctx, s.dir)
		cancel()
		if err != nil {
			s.i.logger.Error().Err(err).Str("directory", s.dir).Msg("a private server does not end")
		}
		select {
		case <-s.ended:
			_ = os.Remove(s.socket())
			_ = os.Remove(s.socket() + ".lock")
			return
		case <-time.After(privatePollEvery):
		}
	}
}

// killGroups also reaches what a restore_command has started: each process of
// PostgreSQL leads a group of its own.
func (s *privateServer) killGroups() {
	found, _ := guard.Processes(s.dir)
	for _, p := range found {
		if group, err := syscall.Getpgid(p.PID); err == nil && group == p.PID {
			_ = syscall.Kill(-p.PID, syscall.SIGKILL)
		}
	}
}
