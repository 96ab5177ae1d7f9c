package cluster

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// What tests of backups need.

// Setenv gives a variable to every ramd that is started from now on, and to nobody else.
func (c *Cluster) Setenv(name, value string) { c.env = append(c.env, name+"="+value) }

// CtlJSON is CtlOK for a command that answers in JSON.
func (c *Cluster) CtlJSON(out any, args ...string) {
	c.t.Helper()
	text := c.CtlOK(append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(text), out); err != nil {
		c.t.Fatalf("ramctrl %s: %v\n%s", strings.Join(args, " "), err, text)
	}
}

// CtlFails is Ctl for a command that has to fail, in words that have all the parts in
// them.
func (c *Cluster) CtlFails(parts []string, args ...string) {
	c.t.Helper()
	if r := c.Ctl(args...); r.Code != 1 || !containsAll(r.Stderr, parts) {
		c.t.Errorf("ramctrl %s should fail with %q: %s", strings.Join(args, " "), parts, r)
	}
}

// WentBack takes what the primary has for all that Write has written: the cluster was
// restored to a point before the rest.
func (c *Cluster) WentBack() {
	c.t.Helper()
	s, _ := c.Status()
	c.rows = 0
	if c.Query(s.Primary, "SELECT coalesce(to_regclass('ledger')::text, '')")[0] == "" {
		return
	}
	got, err := try[int](c, s.Primary, "SELECT coalesce(max(row), 0) FROM ledger")
	c.must(err)
	c.rows = got[0]
}

// Contents is every table of a node's database by its name, with how many rows it has
// and the checksum of them all, in order.
func (c *Cluster) Contents(node string) map[string]string {
	c.t.Helper()
	contents := map[string]string{}
	for _, table := range c.Query(node, "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1") {
		contents[table] = c.Query(node, fmt.Sprintf(
			"SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(md5(t::text), '' ORDER BY t::text COLLATE \"C\")), '') FROM %s AS t", table))[0]
	}
	return contents
}

// Beside is what ram has made beside a node's data directory and left there, such as
// the one of before, by the ends of the names.
func (c *Cluster) Beside(node string) []string {
	c.t.Helper()
	paths, err := filepath.Glob(c.DataDir(node) + ".ram-*")
	c.must(err)
	names := []string{}
	for _, path := range paths {
		names = append(names, strings.TrimPrefix(path, c.DataDir(node)))
	}
	slices.Sort(names)
	return names
}
