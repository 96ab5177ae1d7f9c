package faults

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk is one of the two that each node has after GiveDisks.
type Disk string

const (
	// StateDisk holds ramd's own state, with the Raft log.
	StateDisk Disk = "state"
	// DataDisk holds PostgreSQL's data directory, with the WAL.
	DataDisk Disk = "data"
)

// filler is the file that fills a disk.
const filler = "filler"

// GiveDisks gives every node two disks, in memory, that can be filled. It is called
// before the first ramd starts, and changes the spec of SetSpec.
func (c *Cluster) GiveDisks() {
	c.t.Helper()
	c.base.Node = maps.Clone(c.base.Node)
	if c.base.Node == nil {
		c.base.Node = map[string]string{}
	}
	for _, name := range c.names {
		for _, disk := range []Disk{StateDisk, DataDisk} {
			dir := filepath.Join(c.Dir(name), string(disk))
			c.must(os.MkdirAll(dir, 0o755))
			c.must(unix.Mount("faults", dir, "tmpfs", 0, "size=1g,mode=0755"))
		}
		c.base.Node[name] += fmt.Sprintf("    data_dir = %q\n", c.diskData(name))
	}
	c.disks = true
	c.SetSpec(c.base)
}

func (c *Cluster) diskData(node string) string {
	return filepath.Join(c.Dir(node), string(DataDisk), "postgres")
}

// FillDisk leaves no room on a disk of a node.
func (c *Cluster) FillDisk(node string, disk Disk) {
	c.t.Helper()
	file, err := os.Create(filepath.Join(c.Dir(node), string(disk), filler))
	c.must(err)
	defer file.Close()
	zeros := make([]byte, 1<<20)
	for size := len(zeros); size > 0; {
		if _, err = file.Write(zeros[:size]); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		c.t.Fatalf("fill the %s disk of node %s: %v", disk, node, err)
	}
}

// FreeDisks gives the room back that FillDisk has taken.
func (c *Cluster) FreeDisks() {
	for _, name := range c.names {
		for _, disk := range []Disk{StateDisk, DataDisk} {
			_ = os.Remove(filepath.Join(c.Dir(name), string(disk), filler))
		}
	}
}

// unmountBelow takes away what is mounted below a directory.
func unmountBelow(dir string) {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	lines := strings.Split(string(mounts), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = unix.Unmount(fields[1], unix.MNT_DETACH)
		}
	}
}
