package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ramhq/ram/pg/guard"
)

// scratchPlace is a directory for a server that is only tried out. While it is there its
// owner holds a lock on it, which ends with the process: so what a killed process
// left is recognised, and nobody else's is touched.
//
//	DIR/ram.json  whose it is; written first and removed last
//	DIR/data      the data directory
//	DIR/...       configuration, tablespaces
type scratchPlace struct {
	i    *Instance
	path string
	lock *os.File
}

// ErrScratchBusy is returned when a verification is under way in the same place.
var ErrScratchBusy = errors.New("another verification is under way here")

func (s *scratchPlace) data() string { return filepath.Join(s.path, "data") }

// scratchDir is where a scratch directory lies unless told otherwise: beside the data
// directory, where the room for another one is.
func (i *Instance) scratchDir(path string) (string, error) {
	if path == "" {
		return i.cfg.DataDir + ".ram-verify", nil
	}
	return resolve(path)
}

// openScratch makes an empty scratch directory and removes what a killed process has
// left of one. Whoever gets it calls remove.
func (i *Instance) openScratch(ctx context.Context, path string) (*scratchPlace, error) {
	if err := i.prepareState(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make room for a scratch directory: %w", err)
	}
	if err := i.user.checkReach(filepath.Dir(path)); err != nil {
		return nil, err
	}
	s := &scratchPlace{i: i, path: path}
	if err := s.take(); err != nil {
		return nil, err
	}
	if err := s.clear(ctx); err != nil {
		s.lock.Close()
		return nil, err
	}
	i.step("scratch directory locked")
	m := marker{Cluster: i.cfg.Cluster, Node: i.cfg.Name}
	err := errors.Join(i.user.makeDir(path), i.writeMarker(path, m))
	if err == nil {
		err = i.user.makeDir(s.data())
	}
	if err != nil {
		return nil, errors.Join(err, s.remove(ctx))
	}
	return s, nil
}

// take makes the directory when it is not there, and locks it. Its last owner may
// remove it between the two.
func (s *scratchPlace) take() error {
	for range 10 {
		if err := os.Mkdir(s.path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make a scratch directory: %w", err)
		}
		dir, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w; move it away", err)
		}
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			dir.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return fmt.Errorf("%w (%s); wait for it or cancel it", ErrScratchBusy, s.path)
			}
			return err
		}
		locked, err := dir.Stat()
		there, thereErr := os.Lstat(s.path)
		if err == nil && thereErr == nil && os.SameFile(locked, there) {
			s.lock = dir
			return s.checkOwn()
		}
		dir.Close()
	}
	return fmt.Errorf("%s is made and removed again and again by others", s.path)
}

// checkOwn makes sure that the directory is empty or has our marker.
func (s *scratchPlace) checkOwn() error {
	m, marked, err := readMarker(s.path)
	if err == nil && marked && m.Cluster == s.i.cfg.Cluster && m.Node == s.i.cfg.Name {
		return nil
	}
	entries, listErr := s.lock.Readdirnames(-1)
	if err = errors.Join(err, listErr); err == nil {
		for _, name := range entries {
			if name != markerFile+tempSuffix {
				err = fmt.Errorf("%s is in the way and was not made for node %s of cluster %s; move it away", s.path, s.i.cfg.Name, s.i.cfg.Cluster)
				break
			}
		}
	}
	if err != nil {
		s.lock.Close()
	}
	return err
}

// clear ends the processes that work in the directory and removes what is in it, the
// marker last.
func (s *scratchPlace) clear(ctx context.Context) error {
	if err := guard.KillLeftovers(ctx, s.data()); err != nil {
		return err
	}
	socket := filepath.Join(s.i.SocketDir(), ".s.PGSQL."+strconv.Itoa(s.i.privatePort(verifyPort)))
	_, _ = os.Remove(socket), os.Remove(socket+".lock")
	_ = openTablespaces(s.data(), true) // or what is in it cannot be removed
	var err error
	for range 20 {
		if err = s.removeAll(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("remove a scratch directory: %w", err)
}

func (s *scratchPlace) removeAll() error {
	entries, err := os.ReadDir(s.path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == markerFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.path, entry.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(s.path, markerFile))
}

// remove removes all of it, whatever has happened.
func (s *scratchPlace) remove(ctx context.Context) error {
	defer s.lock.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := s.clear(ctx); err != nil {
		return err
	}
	return os.Remove(s.path)
}

// RemoveScratch removes what a killed Verify has left in dir, and its processes;
// empty means Verify's usual place. It is no error when nothing is there, nor while
// a Verify is under way.
func (i *Instance) RemoveScratch(ctx context.Context, dir string) error {
	if !i.verifying.TryLock() {
		return nil
	}
	defer i.verifying.Unlock()
	path, err := i.scratchDir(dir)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	s := &scratchPlace{i: i, path: path}
	err = s.take()
	if errors.Is(err, ErrScratchBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.remove(ctx)
}
