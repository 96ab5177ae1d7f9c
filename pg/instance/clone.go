package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ramhq/ram/pg"
)

// CloneOptions says where a copy comes from and what it becomes.
type CloneOptions struct {
	// Generation marks the data directory. When the one in place has it already,
	// Clone has nothing to do.
	Generation uint64
	// SystemID is that of the cluster. A source, and a data directory to be
	// replaced, that has another one is refused with ErrWrongSystem.
	SystemID pg.SystemID
	// Source is how to reach the upstream: host, port and user, and whatever else
	// libpq knows but for the password.
	Source   pg.Conninfo
	Password string
	// Slot is a physical replication slot that exists at the source and keeps the WAL
	// until the copy streams; empty for none.
	Slot string
	// MaxRate limits the transfer per second; zero does not.
	MaxRate pg.Bytes
	// Files replace those of the source. Standby should be set in them.
	Files pg.ConfigFiles
	// Progress is called about every second with the bytes copied and the source's
	// estimate of all; it may be nil.
	Progress func(done, total pg.Bytes) `json:"-"`
}

// Clone replaces the data directory by a fresh copy of another server's, taken with
// pg_basebackup. What was there is kept aside until RemoveAside. The source is
// asked for its system identifier and version before anything is copied, and the
// copy is checked again before it gets its place.
func (i *Instance) Clone(ctx context.Context, o CloneOptions) error {
	i.building.Lock()
	defer i.building.Unlock()
	m := marker{Cluster: i.cfg.Cluster, Node: i.cfg.Name, Generation: o.Generation}
	if err := i.settle(); err != nil {
		return err
	}
	if done, err := i.checkReplaceable(ctx, o); done || err != nil {
		return err
	}
	if err := i.checkSource(ctx, o); err != nil {
		return err
	}
	defer i.endBuild()
	if err := i.prepareBuild(m); err != nil {
		return err
	}
	i.step("building")
	if err := i.baseBackup(ctx, o); err != nil {
		return fmt.Errorf("clone from %s: %w", o.Source.Redacted(), err)
	}
	copied, err := i.describe(ctx, i.newData())
	if err != nil {
		return err
	}
	if copied.SystemID != o.SystemID {
		return wrongSystem("the copy that was made", copied.SystemID, o.SystemID)
	}
	return i.finish(m, o.Files)
}

func wrongSystem(what string, have, want pg.SystemID) error {
	return fmt.Errorf("%s %w: its system identifier is %s and not %s", what, ErrWrongSystem, have, want)
}

// checkReplaceable reports whether the wanted copy is in place already, and refuses
// to replace what may not be.
func (i *Instance) checkReplaceable(ctx context.Context, o CloneOptions) (done bool, err error) {
	state, err := dirState(i.cfg.DataDir)
	if err != nil || state == pg.DirAbsent {
		return false, err
	}
	if state == pg.DirForeign {
		return false, fmt.Errorf("%s %w; move it away or change data_dir", i.cfg.DataDir, ErrForeign)
	}
	there, err := i.describe(ctx, i.cfg.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // too damaged to tell; it will be kept aside
	}
	if err != nil {
		return false, err
	}
	if there.SystemID != 0 && there.SystemID != o.SystemID {
		return false, fmt.Errorf("%w; move %s away or change data_dir", wrongSystem("the data directory", there.SystemID, o.SystemID), i.cfg.DataDir)
	}
	return there.SystemID != 0 && there.Generation == o.Generation && !there.Rewinding, nil
}

// sourceTimeouts make libpq notice a source whose host has gone.
var sourceTimeouts = pg.Conninfo{
	"connect_timeout": "10", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3",
	"tcp_user_timeout": "30000",
}

// conninfo is the source with time limits, where it does not have its own.
func (o CloneOptions) conninfo() pg.Conninfo {
	c := pg.Conninfo{"application_name": "ramd clone"}
	for _, from := range []pg.Conninfo{sourceTimeouts, o.Source} {
		for keyword, value := range from {
			c[keyword] = value
		}
	}
	delete(c, "password")
	return c
}

// checkSource asks the source who it is, before gigabytes are copied from the wrong
// one.
func (i *Instance) checkSource(ctx context.Context, o CloneOptions) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	source := pg.Conninfo{"replication": "yes", "dbname": "replication", "sslmode": "prefer", "password": o.Password}
	for keyword, value := range o.Source {
		source[keyword] = value
	}
	conn, err := pgconn.Connect(ctx, source.String())
	if err != nil {
		return fmt.Errorf("reach the source of the clone: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil || len(results) == 0 || len(results[0].Rows) == 0 {
		return fmt.Errorf("ask the source of the clone for its system identifier: %w", err)
	}
	id, err := pg.ParseSystemID(string(results[0].Rows[0][0]))
	if err != nil {
		return err
	}
	if id != o.SystemID {
		return wrongSystem("the server at "+o.Source["host"]+":"+o.Source["port"], id, o.SystemID)
	}
	return nil
}

// baseBackup runs pg_basebackup. The password is in a file of PostgreSQL's user that
// is gone afterwards; one that a killed attempt left is replaced.
func (i *Instance) baseBackup(ctx context.Context, o CloneOptions) error {
	line, err := pg.PassfileEntry{Password: o.Password}.Line()
	if err != nil {
		return err
	}
	passfile := filepath.Join(i.SocketDir(), "clone-password")
	if err := i.user.writeFile(passfile, []byte(line)); err != nil {
		return err
	}
	defer os.Remove(passfile)
	args := []string{
		"-D", i.newData(), "-d", o.conninfo().String(), "--no-password",
		"--wal-method=stream", "--checkpoint=fast", "--progress",
	}
	if o.Slot != "" {
		args = append(args, "--slot="+o.Slot)
	}
	if o.MaxRate > 0 {
		// PostgreSQL takes 32 kB to 1 GB a second.
		args = append(args, "--max-rate="+strconv.FormatInt(int64(min(max(o.MaxRate/pg.KB, 32), 1<<20)), 10))
	}
	return i.run(ctx, child{
		program: "pg_basebackup", args: args, env: []string{"PGPASSFILE=" + passfile},
		line: func(text string) bool {
			return !reportProgress(text, o.Progress) && !strings.HasPrefix(text, "waiting for checkpoint")
		},
	})
}

// progressLine is what pg_basebackup writes about once a second:
//
//	23455/30000 kB (78%), 0/1 tablespace
var progressLine = regexp.MustCompile(`^\s*(\d+)/(\d+) kB \(\d+%\)`)

// reportProgress reports whether a line was about progress.
func reportProgress(text string, report func(done, total pg.Bytes)) bool {
	match := progressLine.FindStringSubmatch(text)
	if match == nil {
		return false
	}
	done, doneErr := strconv.ParseInt(match[1], 10, 64)
	total, totalErr := strconv.ParseInt(match[2], 10, 64)
	if report != nil && doneErr == nil && totalErr == nil {
		report(pg.Bytes(done)*pg.KB, pg.Bytes(total)*pg.KB)
	}
	return true
}
