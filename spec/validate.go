package spec

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The range of major versions that ram runs.
const (
	MinVersion = 13
	MaxVersion = 18
)

// Validate finds everything that is wrong with the spec, in the order of its
// blocks; the order is the same for the same spec. It looks at the spec alone:
// whether hosts, files and programs exist is for the agents to say. A spec
// without problems of SeverityError is usable.
func (c *Cluster) Validate() []Problem {
	var p problems
	if why := nameProblem(c.Name); why != "" {
		p.errorf("name", nameHint(c.Name), "cluster name %q cannot be used: %s", c.Name, why)
	}
	c.validatePostgres(&p)
	c.validateNodes(&p)
	c.validateReplication(&p)
	c.validateFailover(&p)
	c.validateRepositories(&p)
	c.validateArchive(&p)
	c.validateBackups(&p)
	c.validateBootstrap(&p)
	c.validateProtect(&p)
	return p
}

var userPattern = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

func (c *Cluster) validatePostgres(p *problems) {
	pg := c.Postgres
	if !c.versionKnown() {
		p.errorf("postgres.version", "write the major version only, from 13 to 18, such as version = 15",
			"PostgreSQL version %d is not supported", pg.Version)
	}
	if pg.BinDir != "" && !path.IsAbs(pg.BinDir) {
		p.errorf("postgres.bin_dir", `write the whole path, such as "/usr/lib/postgresql/15/bin", or leave it out to have it found`,
			"bin_dir %q is not an absolute path", pg.BinDir)
	}
	switch {
	case pg.User == "root":
		p.errorf("postgres.user", `name an ordinary system user, such as "postgres"`, "PostgreSQL refuses to run as root")
	case !userPattern.MatchString(pg.User):
		p.errorf("postgres.user", `name a system user, such as "postgres"`, "%q is not the name of a system user", pg.User)
	}
	c.validateParameters(p, "postgres.parameters", pg.Parameters, wholeCluster)
	validateHBA(p, "postgres.hba", pg.HBA)
}

func (c *Cluster) versionKnown() bool {
	return c.Postgres.Version >= MinVersion && c.Postgres.Version <= MaxVersion
}

const (
	minDetect = 100 * time.Millisecond
	minLease  = 500 * time.Millisecond
)

func (c *Cluster) validateFailover(p *problems) {
	detect, lease := time.Duration(c.Failover.Detect), time.Duration(c.Failover.Lease)
	if detect < minDetect {
		p.errorf("failover.detect", `write "100ms" or more; the default is "1s"`,
			"detect is %s, too short to tell a lost report from a lost node", detect)
	}
	if lease < minLease {
		p.errorf("failover.lease", `write "500ms" or more; the default is "5s"`,
			"lease is %s, too short to be renewed in time", lease)
	} else if lease <= detect {
		p.errorf("failover.lease", "make lease longer than detect; three to five times as long is usual",
			"lease (%s) is not longer than detect (%s): a primary would be fenced before it is even suspected", lease, detect)
	}
}

func (c *Cluster) validateProtect(p *problems) {
	known := []string{ProtectData, ProtectBackups}
	for i, what := range c.Protect {
		at := indexPath("protect", i)
		if !slices.Contains(known, what) {
			p.errorf(at, `write "data", "backups", both or none`, "%q is nothing that can be protected", what)
		} else if slices.Contains(c.Protect[:i], what) {
			p.errorf(at, "name it once", "%q is protected twice", what)
		}
	}
}

func nameHint(name string) string {
	if suggestion := suggestName(name); suggestion != "" {
		return `write "` + suggestion + `"`
	}
	return nameDetail
}

func quotedList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = `"` + n + `"`
	}
	return strings.Join(quoted, ", ")
}
