package cluster

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// What happens to the disks of nodes.

// WipeRamd removes what a stopped ramd keeps for itself, but for a data directory
// of PostgreSQL inside.
func (c *Cluster) WipeRamd(name string) {
	c.t.Helper()
	if c.nodes[name].runs() {
		c.t.Fatalf("ramd of node %s runs: stop it before its directory is wiped", name)
	}
	entries, err := os.ReadDir(c.StateDir(name))
	c.must(err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "postgres") {
			c.must(os.RemoveAll(filepath.Join(c.StateDir(name), e.Name())))
		}
	}
}

// WipeData removes a data directory of PostgreSQL that no process works in.
func (c *Cluster) WipeData(name string) {
	c.t.Helper()
	c.must(os.RemoveAll(c.DataDir(name)))
}

// InitForeign makes a data directory of another PostgreSQL cluster in the place of
// a node's own, where there must be none.
func (c *Cluster) InitForeign(name string) {
	c.t.Helper()
	cmd := exec.Command(c.program("initdb"), "-D", c.DataDir(name), "-N", "-A", "trust", "--locale=C", "-U", "postgres")
	cmd.Dir, cmd.Env = "/", environment()
	c.must(os.MkdirAll(c.StateDir(name), 0o755))
	c.must(os.Mkdir(c.DataDir(name), 0o700))
	if os.Geteuid() == 0 {
		owner, err := user.Lookup("postgres")
		c.must(err)
		uid, err := strconv.Atoi(owner.Uid)
		c.must(err)
		gid, err := strconv.Atoi(owner.Gid)
		c.must(err)
		c.must(os.Chown(c.DataDir(name), uid, gid))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("initdb: %v\n%s", err, out)
	}
}
