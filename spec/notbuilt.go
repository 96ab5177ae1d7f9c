package spec

// unbuilt is the part of the language that this version reads but does not
// act on. To build a part is to remove its line.
var unbuilt = []struct {
	what, remedy string
	// places are the paths at which the spec uses it.
	places func(c *Cluster) []string
}{
	{"the repository block", "remove the block", func(c *Cluster) []string {
		return blockPaths("repository", c.Repositories, func(r Repository) string { return r.Name })
	}},
	{"the archive block", "remove the block", func(c *Cluster) []string {
		return when(c.Archive != nil, "archive")
	}},
	{"the backup block", "remove the block", func(c *Cluster) []string {
		return blockPaths("backup", c.Backups, func(b Backup) string { return b.Name })
	}},
	{"the bootstrap block", "remove the block", func(c *Cluster) []string {
		return when(c.Bootstrap != nil, "bootstrap")
	}},
}

// NotBuilt finds the blocks whose behaviour this version of ram does not have, each
// as an error.
func (c *Cluster) NotBuilt() []Problem {
	var p problems
	for _, part := range unbuilt {
		for _, at := range part.places(c) {
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
