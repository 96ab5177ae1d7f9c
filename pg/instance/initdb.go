package instance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ramhq/ram/pg"
)

// InitOptions says how a first data directory is made.
type InitOptions struct {
	// Generation marks the data directory.
	Generation uint64
	// Locale is what initdb is given; empty means C.UTF-8 where the system has it,
	// otherwise C.
	Locale string
	// Files replace those that initdb writes.
	Files pg.ConfigFiles
}

// Init makes a new cluster with initdb: page checksums, SCRAM passwords, encoding
// UTF8. It refuses, with ErrExists or ErrForeign, when anything is in its place,
// but for the result of the same Init: of this cluster, node and generation.
func (i *Instance) Init(ctx context.Context, o InitOptions) error {
	i.building.Lock()
	defer i.building.Unlock()
	m := marker{Cluster: i.cfg.Cluster, Node: i.cfg.Name, Generation: o.Generation}
	if err := i.settle(); err != nil {
		return err
	}
	if done, err := i.checkFree(m); done || err != nil {
		return err
	}
	defer i.endBuild()
	if err := i.prepareBuild(m); err != nil {
		return err
	}
	i.step("building")
	if err := i.initdb(ctx, o.Locale); err != nil {
		return err
	}
	return i.finish(m, o.Files)
}

// checkFree reports whether an earlier call has done it all, and refuses when
// anything else is in the way.
func (i *Instance) checkFree(m marker) (done bool, err error) {
	state, err := dirState(i.cfg.DataDir)
	if err != nil {
		return false, err
	}
	switch state {
	case pg.DirAbsent:
		return false, nil
	case pg.DirForeign:
		return false, fmt.Errorf("%s %w; move it away or change data_dir", i.cfg.DataDir, ErrForeign)
	}
	there, _, err := readMarker(i.cfg.DataDir)
	if err != nil {
		return false, err
	}
	// What was done with it later does not matter here.
	there.Follows, there.FollowsState, there.FollowsCheckpoint = m.Follows, m.FollowsState, m.FollowsCheckpoint
	there.Restored = m.Restored
	if there == m {
		return true, nil
	}
	return false, fmt.Errorf("%s %w; move it away or change data_dir", i.cfg.DataDir, ErrExists)
}

// finish writes what belongs into every new data directory and puts it in place.
func (i *Instance) finish(m marker, files pg.ConfigFiles) error {
	if err := i.writeConfig(i.newData(), files); err != nil {
		return err
	}
	if err := i.writeMarker(i.newData(), m); err != nil {
		return err
	}
	return i.place(m)
}

func (i *Instance) initdb(ctx context.Context, locale string) error {
	if locale != "" {
		return i.initdbWith(ctx, locale)
	}
	err := i.initdbWith(ctx, "C.UTF-8")
	if err != nil && strings.Contains(err.Error(), "invalid locale") {
		return i.initdbWith(ctx, "C")
	}
	return err
}

// initdbWith passes the password in a file that only PostgreSQL's user can read and
// that is gone afterwards; one that a killed attempt left is replaced.
func (i *Instance) initdbWith(ctx context.Context, locale string) error {
	password := filepath.Join(i.SocketDir(), "initdb-password")
	if err := i.user.writeFile(password, []byte(i.cfg.SuperuserPassword+"\n")); err != nil {
		return err
	}
	defer os.Remove(password)
	args := []string{
		"-D", i.newData(), "-U", Superuser, "--pwfile=" + password,
		"--data-checksums", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=" + locale,
	}
	if i.cfg.Major >= 14 {
		args = append(args, "--no-instructions")
	}
	return i.run(ctx, child{program: "initdb", args: args})
}
