package spec

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

func (c *Cluster) validateRepositories(p *problems) {
	paths := blockPaths("repository", c.Repositories, func(r Repository) string { return r.Name })
	names, urls := map[string]bool{}, map[string]string{}
	for i, r := range c.Repositories {
		at := paths[i]
		if why := nameProblem(r.Name); why != "" {
			p.errorf(at, nameHint(r.Name), "repository name %q cannot be used: %s", r.Name, why)
		}
		if names[r.Name] {
			p.errorf(at, "give every repository a name of its own", "there is another repository %q", r.Name)
		}
		names[r.Name] = true
		if owner, taken := urls[r.URL]; taken && r.URL != "" {
			p.errorf(at+".url", "give every repository a place of its own", "repository %q is in the same place", owner)
		} else {
			urls[r.URL] = r.Name
		}
		validateRepositoryURL(p, at+".url", r.URL)
		validateCompression(p, at+".compression", r.Compression)
		if r.Encryption != nil && !path.IsAbs(r.Encryption.KeyFile) {
			p.errorf(at+".encryption.key_file", `write the whole path, such as "/etc/ram/backup.key"`,
				"key_file %q is not an absolute path", r.Encryption.KeyFile)
		}
	}
}

func validateCompression(p *problems, at, compression string) {
	known := []string{CompressionNone, CompressionGzip, CompressionLZ4, CompressionZstd}
	if !slices.Contains(known, compression) {
		p.errorf(at, "write one of "+quotedList(known), "unknown compression %q", compression)
	}
}

const urlForms = `write "file:///srv/backups", "s3://bucket/prefix?region=eu-north-1", "gs://bucket/prefix" or "azblob://container/prefix"`

// validateRepositoryURL never repeats more of the URL than its scheme, since what
// is wrong with it may be the secret in it.
func validateRepositoryURL(p *problems, at, text string) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		p.errorf(at, urlForms, "this is not a URL")
		return
	}
	if urlHoldsSecret(u) {
		p.secretf(at, "remove them; they come from the environment, from files or from the platform (an instance role)",
			"a repository URL must not hold credentials")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !path.IsAbs(u.Path) || path.Clean(u.Path) == "/" {
			p.errorf(at, `write three slashes and the whole path: "file:///srv/backups"`, "a file URL names an absolute path on the node itself")
		}
	case "s3", "gs", "azblob":
		if u.Host == "" {
			p.errorf(at, urlForms, "this URL names no bucket")
		}
	default:
		p.errorf(at, urlForms, "no repository can be reached by %q", u.Scheme)
	}
}

func urlHoldsSecret(u *url.URL) bool {
	if u.User != nil {
		return true
	}
	for key := range u.Query() {
		lower := strings.ToLower(key)
		if SecretName(lower) || slices.Contains([]string{"sig", "sas", "key", "accesskey", "access_id", "awsaccesskeyid", "x-amz-signature"}, lower) {
			return true
		}
	}
	return false
}

// validateReference checks that a block points to a repository that exists.
func (c *Cluster) validateReference(p *problems, at, repository string) {
	if slices.ContainsFunc(c.Repositories, func(r Repository) bool { return r.Name == repository }) {
		return
	}
	var names []string
	for _, r := range c.Repositories {
		names = append(names, r.Name)
	}
	detail := `add repository "` + repository + `" { url = "..." }`
	if len(names) > 0 {
		detail += ", or write " + quotedList(names)
	}
	p.errorf(at, detail, "there is no repository %q", repository)
}

func (c *Cluster) validateArchive(p *problems) {
	if c.Archive != nil {
		c.validateReference(p, "archive.repository", c.Archive.Repository)
	}
}

// maxBackupName leaves room for the rest of a backup's identifier.
const maxBackupName = 41

func (c *Cluster) validateBackups(p *problems) {
	paths := blockPaths("backup", c.Backups, func(b Backup) string { return b.Name })
	names := map[string]bool{}
	for i, b := range c.Backups {
		at := paths[i]
		if why := nameProblem(b.Name); why != "" {
			p.errorf(at, nameHint(b.Name), "backup name %q cannot be used: %s", b.Name, why)
		} else if len(b.Name) > maxBackupName {
			p.errorf(at, "shorten it", "backup name %q has %d characters, more than %d: the identifiers of its backups begin with the time", b.Name, len(b.Name), maxBackupName)
		}
		if names[b.Name] {
			p.errorf(at, "give every backup a name of its own", "there is another backup %q", b.Name)
		}
		names[b.Name] = true
		c.validateReference(p, at+".repository", b.Repository)
		c.validateBackupSource(p, at+".from", b.From)
		validateSchedules(p, at, b)
		validateKeep(p, at+".keep", b.Keep)
	}
}

func (c *Cluster) validateBackupSource(p *problems, at, from string) {
	if from == FromStandby || from == FromPrimary {
		return
	}
	n, found := c.Node(from)
	switch {
	case !found:
		p.errorf(at, `write "standby", "primary" or the name of a node`, "there is no node %q to take the backup from", from)
	case n.Witness:
		p.errorf(at, `write "standby", "primary" or the name of a node that holds data`, "node %q is a witness and holds no data", from)
	}
}

func validateSchedules(p *problems, at string, b Backup) {
	location, err := LoadTimezone(b.Timezone)
	if err != nil {
		p.errorf(at+".timezone", `the default is "UTC"`, "%v", err)
	}
	validateSchedule(p, at+".schedule", b.Schedule, location)
	if b.Verify != nil {
		validateSchedule(p, at+".verify.schedule", b.Verify.Schedule, location)
	}
}

func validateSchedule(p *problems, at, line string, location *time.Location) {
	if _, err := ParseSchedule(line, location); err != nil {
		p.errorf(at, `write minute, hour, day of month, month and day of week, such as "0 2 * * *" for every night at two`, "%v", err)
	}
}

func validateKeep(p *problems, at string, keep Keep) {
	if keep.Last < 1 {
		p.errorf(at+".last", "write 1 or more", "keep.last is %d: at least one backup has to be kept", keep.Last)
	}
	if keep.Days < 0 {
		p.errorf(at+".days", "write 0 to keep by number alone", "keep.days is negative")
	}
}

func (c *Cluster) validateBootstrap(p *problems) {
	if c.Bootstrap == nil {
		return
	}
	r := c.Bootstrap.Restore
	if r == nil {
		p.errorf("bootstrap", "add restore { repository = \"...\" }, or remove the block to begin with an empty cluster", "bootstrap does not say how")
		return
	}
	c.validateReference(p, "bootstrap.restore.repository", r.Repository)
	if r.Backup == "" {
		p.errorf("bootstrap.restore.backup", `write "latest" or the name of a backup`, "backup is empty")
	}
	if _, err := time.Parse(time.RFC3339, r.TargetTime); r.TargetTime != "" && err != nil {
		p.errorf("bootstrap.restore.target_time", `write date, time and zone, such as "2026-11-20T12:00:00Z"`, "%q is not a point in time", r.TargetTime)
	}
}
