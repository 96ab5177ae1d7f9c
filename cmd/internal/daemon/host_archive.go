package daemon

import (
	"context"
	"errors"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/pg/backup/wal"
	"github.com/ramhq/ram/reconcile"
)

// runDir is the directory of sockets, which only ramd and PostgreSQL's user may enter.
func (h *host) runDir() string { return filepath.Join(h.dataDir, "run") }

// walDir is where the local server keeps its WAL.
func (h *host) walDir() string { return filepath.Join(h.postgresDir(), "pg_wal") }

// postgresDir is the data directory, as far as it is known.
func (h *host) postgresDir() string {
	h.mu.Lock()
	inst := h.inst
	h.mu.Unlock()
	if inst != nil {
		return inst.DataDir()
	}
	if dir := h.fallback().DataDir; dir != "" {
		return dir
	}
	return filepath.Join(h.dataDir, "postgres")
}

// address is where the local server listens.
func (h *host) address() reconcile.Server {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inst == nil {
		return h.fallback()
	}
	return h.server
}

// postgresUID is the user that PostgreSQL runs as; -1 when that is ramd's own.
func (h *host) postgresUID() int {
	if unix.Geteuid() != 0 {
		return -1
	}
	u, err := user.Lookup(h.fallback().User)
	if err != nil {
		return -1
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return -1
	}
	return uid
}

func (h *host) setStopping(stopping bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopping = stopping
}

// standing is what the local server may do in the archive. It is asked often.
func (h *host) standing() wal.Standing {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.assigned
	restoring := a.Retain // what it wrote last belongs into the archive before it goes
	switch {
	case h.stopping && !restoring, a.Role == reconcile.RoleRetired, a.Frozen() && !restoring:
		return wal.Stopping
	case a.Role == reconcile.RolePrimary && (h.lease.term != a.Term || !time.Now().Before(h.lease.until)) && !restoring:
		return wal.Nobody
	case a.Role == reconcile.RolePrimary, restoring:
		return wal.Holder
	case a.Role == reconcile.RoleStandby:
		return wal.Follower
	}
	return wal.Nobody
}

// tendArchive tells the archive how the server is.
func (h *host) tendArchive(a reconcile.Assignment, l reconcile.Local) {
	now := time.Now()
	h.mu.Lock()
	h.assigned = a
	if l.Server.State != pg.ServerRunning || !l.Server.Recovery || l.Server.Receiver.Streaming() {
		h.apart = now
	}
	apart, archive := now.Sub(h.apart), h.archive
	h.mu.Unlock()
	if archive != nil {
		archive.tend(a, l, apart)
	}
}

// serveArchive carries WAL from the moment at which the directory for its sockets can
// be made, which needs PostgreSQL's user.
func (h *host) serveArchive(ctx context.Context) error {
	for ctx.Err() == nil {
		err := h.carryWAL(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errRepositoryChanged) {
			continue
		}
		h.log.Warn().Err(err).Msg("WAL cannot be carried between PostgreSQL and the repository; trying again")
		sleep(ctx, 5*time.Second)
	}
	return nil
}

func (h *host) carryWAL(ctx context.Context) error {
	inst, err := h.open(ctx, reconcile.Server{})
	if err != nil {
		return err
	}
	if err := inst.PrepareState(); err != nil {
		return err
	}
	a, err := newArchive(h, h.depot)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.archive = a
	h.mu.Unlock()
	return a.run(ctx)
}

// extra adds to a report what the archive and the disk are like.
func (h *host) extra(r *reconcile.Report) {
	h.mu.Lock()
	archive := h.archive
	h.mu.Unlock()
	if archive != nil {
		r.Archive = archive.report(r)
		r.Fetched = archive.sinceFetch()
	}
	r.Room = room(h.postgresDir())
}

// openArchive lets a program get WAL from the repository until shut is called. It
// reports false when there is no archive.
func (h *host) openArchive() (open bool, shut func()) {
	h.mu.Lock()
	archive := h.archive
	h.mu.Unlock()
	if archive == nil || archive.repository() == "" {
		return false, func() {}
	}
	if err := archive.gate.Open(); err != nil {
		h.log.Warn().Err(err).Msg("the way from the repository to PostgreSQL stays shut")
		return false, func() {}
	}
	return true, func() {
		if err := archive.gate.Shut(); err != nil {
			h.log.Warn().Err(err).Msg("the way from the repository to PostgreSQL stays open")
		}
	}
}

// room is how much the file system of a directory, or of the nearest one above it that
// exists, can still take.
func room(dir string) pg.Bytes {
	var s unix.Statfs_t
	for ; ; dir = filepath.Dir(dir) {
		if err := unix.Statfs(dir, &s); err == nil {
			return pg.Bytes(s.Bavail) * pg.Bytes(s.Bsize)
		}
		if dir == filepath.Dir(dir) {
			return 0
		}
	}
}
