package instance

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/ramhq/ram/pg/guard"
)

// systemUser is whom PostgreSQL runs as.
type systemUser struct {
	name   string
	uid    uint32
	gid    uint32
	groups []uint32
	// change is set when that is another user than ramd's, which then is root.
	change bool
}

// defaultUser is the system user that distributions make for PostgreSQL.
const defaultUser = "postgres"

// lookUpUser finds the user: the named one for root, and for everybody else
// themselves, for they cannot become another.
func lookUpUser(name string) (systemUser, error) {
	uid := os.Geteuid()
	if uid != 0 {
		own, err := user.LookupId(strconv.Itoa(uid))
		if err != nil { // a container may run under a number without a name
			return systemUser{name: strconv.Itoa(uid), uid: uint32(uid), gid: uint32(os.Getegid())}, nil
		}
		return systemUser{name: own.Username, uid: uint32(uid), gid: uint32(os.Getegid())}, nil
	}
	if name == "" {
		name = defaultUser
	}
	found, err := user.Lookup(name)
	if err != nil {
		return systemUser{}, fmt.Errorf("system user %q for PostgreSQL does not exist; create it (useradd --system %s) or name another in postgres.user", name, name)
	}
	u := systemUser{name: name, change: true}
	if u.uid, err = number(found.Uid); err != nil {
		return systemUser{}, err
	}
	if u.gid, err = number(found.Gid); err != nil {
		return systemUser{}, err
	}
	if u.uid == 0 {
		return systemUser{}, fmt.Errorf("PostgreSQL refuses to run as root; name an ordinary system user in postgres.user, such as %q", defaultUser)
	}
	ids, err := found.GroupIds()
	if err != nil {
		return systemUser{}, fmt.Errorf("groups of system user %q: %w", name, err)
	}
	for _, id := range ids {
		if group, err := number(id); err == nil {
			u.groups = append(u.groups, group)
		}
	}
	return u, nil
}

func number(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	return uint32(n), err
}

// guardCredential is nil when PostgreSQL runs as ramd's own user.
func (u systemUser) guardCredential() *guard.Credential {
	if !u.change {
		return nil
	}
	return &guard.Credential{UID: u.uid, GID: u.gid, Groups: u.groups}
}

func (u systemUser) credential() *syscall.Credential {
	if !u.change {
		return nil
	}
	return &syscall.Credential{Uid: u.uid, Gid: u.gid, Groups: u.groups}
}

// own gives an open file or directory to the user.
func (u systemUser) own(f *os.File) error {
	if !u.change {
		return nil
	}
	return f.Chown(int(u.uid), int(u.gid))
}

// makeDir makes a directory with mode 0700 that belongs to the user, or sees to it
// that an existing one does.
func (u systemUser) makeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := u.own(dir); err != nil {
		return err
	}
	return dir.Chmod(0o700)
}

// checkReach makes sure that the user can get to a directory: every directory on
// the way must let them through.
func (u systemUser) checkReach(path string) error {
	if !u.change {
		return nil
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !u.mayEnter(info) {
			return fmt.Errorf("system user %s cannot enter %s (%s), which is on the way to %s; let it (chmod o+x %s) or choose another place",
				u.name, dir, info.Mode(), path, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (u systemUser) mayEnter(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	switch {
	case stat.Uid == u.uid:
		return info.Mode()&0o100 != 0
	case stat.Gid == u.gid || slices.Contains(u.groups, stat.Gid):
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}
