package wal

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ramhq/ram/pg/backup"
)

// errVanished is a repository that no longer says whose it is, such as a directory whose
// file system is not mounted: what it lacks proves nothing.
var errVanished = errors.New("the repository has lost its ram.json; see to it that its place is mounted and is the right one")

// keeper opens a repository when it is first needed, keeps it, and opens it again after
// an error. A repository is closed when its last user is done. Safe for concurrent use.
type keeper struct {
	open func(context.Context) (*backup.Repository, error)
	// opening holds one token: one caller opens, the others wait.
	opening chan struct{}

	mu      sync.Mutex
	current *handle // nil before the first use and after an error
}

// handle is an open repository. users and dropped are guarded by the keeper's mutex.
type handle struct {
	*backup.Repository
	owner   backup.Owner
	users   int
	dropped bool
}

func newKeeper(open func(context.Context) (*backup.Repository, error)) *keeper {
	return &keeper{open: open, opening: make(chan struct{}, 1)}
}

// errHere is an error that is not the repository's: it stays open.
type errHere struct{ error }

func (e errHere) Unwrap() error { return e.error }

// use has f work with the repository, which is opened anew the next time when f fails
// with anything but a clear answer.
func (k *keeper) use(ctx context.Context, f func(*handle) error) error {
	h, err := k.take(ctx)
	if err != nil {
		return err
	}
	err = f(h)
	k.giveBack(h, spoils(ctx, err))
	return err
}

// spoils reports whether an error may be cured by opening the repository again.
func spoils(ctx context.Context, err error) bool {
	var here errHere
	return err != nil && ctx.Err() == nil && !errors.As(err, &here) && !errors.Is(err, backup.ErrNotFound) && !errors.Is(err, ErrNotFound)
}

func (k *keeper) take(ctx context.Context) (*handle, error) {
	if h := k.join(); h != nil {
		return h, nil
	}
	select {
	case k.opening <- struct{}{}:
		defer func() { <-k.opening }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h := k.join(); h != nil { // opened by the one before
		return h, nil
	}
	r, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	owner, err := r.Owner(ctx)
	if err != nil {
		r.Close()
		if errors.Is(err, backup.ErrNotFound) {
			return nil, errVanished
		}
		return nil, err
	}
	h := &handle{Repository: r, owner: owner, users: 1}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = h
	return h, nil
}

func (k *keeper) join() *handle {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil {
		k.current.users++
	}
	return k.current
}

func (k *keeper) giveBack(h *handle, spoilt bool) {
	k.mu.Lock()
	h.users--
	if spoilt {
		h.dropped = true
		if k.current == h {
			k.current = nil
		}
	}
	last := h.dropped && h.users == 0
	k.mu.Unlock()
	if last {
		h.Close()
	}
}

// close has the repository closed once nobody uses it.
func (k *keeper) close() {
	k.mu.Lock()
	h := k.current
	k.current = nil
	if h != nil {
		h.dropped = true
	}
	last := h != nil && h.users == 0
	k.mu.Unlock()
	if last {
		h.Close()
	}
}

// confirm makes sure that the repository is still there and still its owner's: that
// what it holds counts, and that what it lacks is not there.
func (h *handle) confirm(ctx context.Context) error {
	owner, err := h.Owner(ctx)
	if errors.Is(err, backup.ErrNotFound) {
		return errVanished
	}
	if err != nil {
		return err
	}
	if owner.ClusterID != h.owner.ClusterID || owner.SystemID != h.owner.SystemID {
		return fmt.Errorf("the repository now belongs to cluster %s (%s); give this cluster another one", owner.Cluster, owner.ClusterID)
	}
	return nil
}
