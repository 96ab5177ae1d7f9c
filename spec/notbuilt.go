package spec

import "slices"

// unbuilt is the part of the language that this version reads but does not
// act on. To build a part is to remove its line.
var unbuilt = []struct {
	what, remedy string
	// places are the paths at which the spec uses it; written holds the
	// paths of the blocks that are spelled out.
	places func(c *Cluster, written []string) []string
}{
	{"the failover block", "remove the block", func(c *Cluster, written []string) []string {
		return when(c.Failover != DefaultFailover() || slices.Contains(written, "failover"), "failover")
	}},
	{`when_short = "degrade"`, `remove it, or write "wait"`, func(c *Cluster, _ []string) []string {
		return when(c.Replication.WhenShort == WhenShortDegrade, "replication.when_short")
	}},
	{"the repository block", "remove the block", func(c *Cluster, _ []string) []string {
		return blockPaths("repository", c.Repositories, func(r Repository) string { return r.Name })
	}},
	{"the archive block", "remove the block", func(c *Cluster, _ []string) []string {
		return when(c.Archive != nil, "archive")
	}},
	{"the backup block", "remove the block", func(c *Cluster, _ []string) []string {
		return blockPaths("backup", c.Backups, func(b Backup) string { return b.Name })
	}},
	{"the bootstrap block", "remove the block", func(c *Cluster, _ []string) []string {
		return when(c.Bootstrap != nil, "bootstrap")
	}},
}

// NotBuilt finds the blocks and values whose behaviour this version of ram does
// not have, each as an error. A block that says nothing but defaults leaves no
// trace in a Cluster; a reader that saw one names its path in written.
func (c *Cluster) NotBuilt(written ...string) []Problem {
	var p problems
	for _, part := range unbuilt {
		for _, at := range part.places(c, written) {
			p.errorf(at, part.remedy, "%s is not built yet in this version of ram", part.what)
		}
	}
	return p
}

func when(holds bool, at string) []string {
	if holds {
		return []string{at}
	}
	return nil
}
