package raftstore

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// directoryFormat is the newest layout of the directory that this code reads,
// and the one that it writes.
const directoryFormat = 1

const (
	identityFile = "store.json"
	lockFile     = "lock"
	logFile      = "log.db"
	appliedFile  = "applied"
	snapshotsDir = "snapshots"
)

// identity is what the directory says about itself, before anything else in it is
// looked at.
type identity struct {
	Format      int    `json:"format"`
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
}

// directory is the store's directory while this process has it locked.
type directory struct {
	path string
	identity
	lock *os.File
}

// openDirectory locks path and reads whose it is; it makes the directory, with a
// new incarnation, when there is none.
func openDirectory(path, cluster, node string) (_ *directory, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("raft directory: %w", err)
	}
	// The record holds secrets, and raft writes snapshots that all may read.
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("raft directory: %w", err)
	}
	d := &directory{path: path}
	if d.lock, err = lockDirectory(path); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.identity, err = readIdentity(path); errors.Is(err, fs.ErrNotExist) {
		d.identity, err = createIdentity(path, cluster, node)
	}
	if err != nil {
		return nil, err
	}
	return d, d.belongsTo(cluster, node)
}

func (d *directory) close() { _ = d.lock.Close() }

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

// lockDirectory takes the lock that ends with this process, however it ends.
func lockDirectory(path string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("raft directory: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	_ = lock.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("raft directory %s: %w", path, ErrLocked)
	}
	return nil, fmt.Errorf("lock raft directory %s: %w", path, err)
}

func readIdentity(path string) (identity, error) {
	var id identity
	text, err := os.ReadFile(filepath.Join(path, identityFile))
	if err != nil {
		return id, fmt.Errorf("raft directory: %w", err)
	}
	// The format comes first and alone: a newer one may have changed the rest.
	var format struct{ Format int }
	if err := json.Unmarshal(text, &format); err != nil {
		return id, fmt.Errorf("raft directory %s: %s is not readable (%v): %w; %s", path, identityFile, err, ErrDamaged, moveAside(path))
	}
	if format.Format > directoryFormat {
		return id, fmt.Errorf("raft directory %s: %w in format %d, and this one reads formats up to %d; start the newer ramd again",
			path, ErrNewerFormat, format.Format, directoryFormat)
	}
	if err := json.Unmarshal(text, &id); err != nil || id.Format < 1 || id.Incarnation == "" {
		return id, fmt.Errorf("raft directory %s: %s is not complete: %w; %s", path, identityFile, ErrDamaged, moveAside(path))
	}
	return id, nil
}

// moveAside is the next action for a directory that is of no more use.
func moveAside(path string) string {
	return "stop ramd, move " + path + " aside and start it again: the node rejoins and gets the record from the others"
}

// createIdentity makes path a raft directory. A directory that already holds a
// log had an identity once; giving it a new one would forget votes.
func createIdentity(path, cluster, node string) (identity, error) {
	for _, name := range []string{logFile, snapshotsDir} {
		if _, err := os.Lstat(filepath.Join(path, name)); err == nil {
			return identity{}, fmt.Errorf("raft directory %s holds %s but no %s: %w; %s", path, name, identityFile, ErrDamaged, moveAside(path))
		}
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	id := identity{Format: directoryFormat, Cluster: cluster, Node: node, Incarnation: hex.EncodeToString(random)}
	text, err := json.Marshal(id)
	if err != nil {
		return id, fmt.Errorf("raft directory: %w", err)
	}
	if err := writeDurably(filepath.Join(path, identityFile), append(text, '\n')); err != nil {
		return id, fmt.Errorf("raft directory: %w", err)
	}
	if err := syncDirectory(filepath.Dir(path)); err != nil {
		return id, fmt.Errorf("raft directory: %w", err)
	}
	return id, nil
}

func (d *directory) belongsTo(cluster, node string) error {
	if d.Cluster == cluster && d.Node == node {
		return nil
	}
	return fmt.Errorf("raft directory %s: %w: node %s of cluster %s, not node %s of cluster %s; check --node and --data-dir",
		d.path, ErrForeign, d.Node, d.Cluster, node, cluster)
}

// writeDurably replaces the file at once, and returns when it survives a loss of
// power.
func writeDurably(path string, content []byte) error {
	temporary := path + ".tmp"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = bytes.NewReader(content).WriteTo(file)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes the names in a directory survive a loss of power.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// Forget sets the raft directory of a removed member aside, as dir.removed-N, and
// returns where it is now; the next Open makes a new incarnation. A directory that
// does not exist is fine and gives an empty path. It fails with ErrLocked while
// a store has the directory open.
func Forget(dir string) (aside string, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	for n := 1; ; n++ {
		aside = dir + ".removed-" + strconv.Itoa(n)
		_, err := os.Lstat(aside)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("set raft directory aside: %w", err)
		}
	}
	if err := os.Rename(dir, aside); err != nil {
		return "", fmt.Errorf("set raft directory aside: %w", err)
	}
	if err := syncDirectory(filepath.Dir(dir)); err != nil {
		return "", fmt.Errorf("set raft directory aside: %w", err)
	}
	return aside, nil
}
