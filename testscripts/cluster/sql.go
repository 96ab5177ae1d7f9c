package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
)

// Connect opens a session of the superuser on a node's PostgreSQL; the end of the
// test closes it.
func (c *Cluster) Connect(node string) *pgx.Conn {
	c.t.Helper()
	conn, err := c.connect(node)
	if err != nil {
		c.t.Fatalf("connect to PostgreSQL of node %s: %v\n%s", node, err, c.Picture())
	}
	c.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (c *Cluster) connect(node string) (*pgx.Conn, error) {
	var role struct {
		User     string `json:"user"`
		Password string `json:"password"`
	}
	err := errors.New("no ramd runs that could tell the password")
	for _, name := range c.Running() {
		if err = c.Ask(name, "/credentials", &role); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	ctx, cancel := c.context(15 * time.Second)
	defer cancel()
	return pgx.Connect(ctx, pg.Conninfo{
		"host": c.Host(node), "port": "5432", "user": role.User, "password": role.Password, "dbname": "postgres",
		"sslmode": "disable",
	}.String())
}

// try runs a query with one column in a session of its own.
func try[T any](c *Cluster, node, sql string, args ...any) ([]T, error) {
	conn, err := c.connect(node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.context(30 * time.Second)
	defer cancel()
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// Query runs a query on a node and returns its one column as text.
func (c *Cluster) Query(node, sql string, args ...any) []string {
	c.t.Helper()
	got, err := try[string](c, node, sql, args...)
	if err != nil {
		c.t.Fatalf("node %s: %s: %v\n%s", node, sql, err, c.Picture())
	}
	return got
}

// Exec runs a statement on a node, in a session of its own.
func (c *Cluster) Exec(node, sql string, args ...any) {
	c.t.Helper()
	if _, err := try[string](c, node, sql, args...); err != nil {
		c.t.Fatalf("node %s: %s: %v\n%s", node, sql, err, c.Picture())
	}
}

// Write commits one more row on the primary. CheckHealthy looks for all of them
// on every node.
func (c *Cluster) Write() {
	c.t.Helper()
	s, _ := c.Status()
	c.Exec(s.Primary, "CREATE TABLE IF NOT EXISTS ledger (row int PRIMARY KEY)")
	c.Exec(s.Primary, "INSERT INTO ledger VALUES ($1)", c.rows+1)
	c.rows++
}

// CheckHealthy waits for convergence and then proves it: one primary, the other
// nodes with data stream from it, there are exactly the slots and the sync set
// that the spec means, the plan is empty, and a row written now is read on every
// standby, with all rows that were written before.
func (c *Cluster) CheckHealthy() {
	c.t.Helper()
	var s reconcile.Status
	// What was struck a moment ago may be reported as whole once more, but not along
	// with a plan.
	c.Until("the cluster is converged and its plan is empty", Patience, func() bool {
		s = c.AwaitConverged()
		r := c.Ctl("plan", "--detailed-exitcode")
		if now, ok := c.Status(); r.Code != 0 && ok && Converged(now) == nil {
			c.t.Errorf("converged, and the plan is not empty: %s", r)
			return true
		}
		return r.Code == 0
	})
	var data []string
	roles := map[reconcile.Role]int{}
	for _, n := range s.Nodes {
		roles[n.Role]++
		if n.Role != reconcile.RoleWitness {
			data = append(data, n.Name)
		}
	}
	if roles[reconcile.RolePrimary] != 1 || roles[reconcile.RoleUnknown] != 0 {
		c.t.Errorf("converged with the roles %v", roles)
	}
	c.checkServers(s, data)
	c.Write()
	want := fmt.Sprintf("%d rows to %d", c.rows, c.rows)
	for _, name := range data {
		var got string
		c.Until(fmt.Sprintf("node %s has %s", name, want), Patience, func() bool {
			found, err := try[string](c, name, "SELECT count(*) || ' rows to ' || max(row) FROM ledger")
			if err == nil && len(found) == 1 {
				got = found[0]
			}
			return got == want
		})
	}
}

// checkServers asks PostgreSQL itself.
func (c *Cluster) checkServers(s reconcile.Status, data []string) {
	c.t.Helper()
	for _, name := range data {
		role := "standby"
		slots := c.Query(name, "SELECT slot_name::text FROM pg_replication_slots ORDER BY 1")
		want := []string{}
		for _, other := range data {
			if other != name {
				want = append(want, pg.SlotName(other))
			}
		}
		slices.Sort(want)
		if name == s.Primary {
			role = "primary"
			var standbys []string
			for _, other := range data {
				if other != name {
					standbys = append(standbys, pg.ApplicationName(other))
				}
			}
			slices.Sort(standbys)
			// The standbys' own word came with the status; this is the primary's.
			var got []string
			c.Until("the primary streams to every standby", Patience, func() bool {
				got = c.Query(name, "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming' ORDER BY 1")
				return slices.Equal(got, standbys)
			})
		}
		if diff := cmp.Diff(want, slots); diff != "" && c.electable(name) {
			c.t.Errorf("slots on node %s (-want +got):\n%s", name, diff)
		}
		got := c.Query(name, "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END")
		if got[0] != role {
			c.t.Errorf("node %s is a %s and should be a %s", name, got[0], role)
		}
	}
}

// electable reports whether a node can become primary, so that it keeps slots.
func (c *Cluster) electable(name string) bool {
	c.t.Helper()
	type node struct {
		Name     string `json:"name"`
		Priority int    `json:"priority"`
	}
	var nodes []node
	c.must(c.Ask(c.Running()[0], "/nodes", &nodes))
	i := slices.IndexFunc(nodes, func(n node) bool { return n.Name == name })
	return i >= 0 && nodes[i].Priority > 0
}
