package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

type psqlFlags struct {
	node     string
	readOnly bool
	dbname   string
}

func (a *app) psqlCommand() *cobra.Command {
	var f psqlFlags
	cmd := &cobra.Command{
		Use:   "psql [-- ARGS...]",
		Short: "Open psql as superuser on the primary, or on a node",
		Long: `Run psql as the cluster's superuser. It connects to the primary, wherever it is;
with --node to that node, with --read-only to a standby when there is one. The
password is handed over in the environment, never as an argument.

What follows -- is given to psql as it is.`,
		Example: `  ramctrl psql
  ramctrl psql -- -c 'select pg_is_in_recovery()'
  ramctrl psql --node b --dbname orders`,
	}
	cmd.Flags().StringVar(&f.node, "node", "", "connect to this `NODE`")
	cmd.Flags().BoolVar(&f.readOnly, "read-only", false, "prefer a standby")
	cmd.Flags().StringVar(&f.dbname, "dbname", "postgres", "database `NAME`")
	cmd.MarkFlagsMutuallyExclusive("node", "read-only")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if at := cmd.ArgsLenAtDash(); len(args) > 0 && at != 0 {
			return fmt.Errorf("%q: write arguments for psql after --", args[0])
		}
		return nil
	}
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, args []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		return a.psql(ctx, client, f, args)
	})
	return cmd
}

func (a *app) psql(ctx context.Context, client *api.Client, f psqlFlags, args []string) error {
	cluster, err := specInForce(ctx, client)
	if err != nil {
		return err
	}
	info, err := psqlConninfo(cluster, f)
	if err != nil {
		return err
	}
	path, err := findPsql(cluster)
	if err != nil {
		return err
	}
	credentials, err := client.Credentials(ctx)
	if err != nil {
		return err
	}
	info["user"], info["password"] = credentials.User, credentials.Password
	if err := a.sys.Exec(path, append([]string{"psql"}, args...), psqlEnviron(a.sys.Environ, info)); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}

func psqlConninfo(c *spec.Cluster, f psqlFlags) (pg.Conninfo, error) {
	nodes := dataNodes(c)
	info := conninfo(c, nodes, f.readOnly)
	if f.node != "" {
		n, ok := c.Node(f.node)
		if !ok || n.Witness {
			return nil, usagef("there is no node %q with data: see ramctrl nodes", f.node)
		}
		info = conninfo(c, []spec.Node{n}, false)
		info["target_session_attrs"] = "any"
	}
	info["dbname"] = f.dbname
	return info, nil
}

// libpqVariables are the environment's names for what a connection needs.
var libpqVariables = map[string]string{
	"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
	"target_session_attrs": "PGTARGETSESSIONATTRS", "connect_timeout": "PGCONNECT_TIMEOUT",
}

// psqlEnviron is the environment without what would lead elsewhere, and with the
// connection, so that the password is in no argument and the caller's own
// arguments keep their meaning.
func psqlEnviron(environ []string, info pg.Conninfo) []string {
	misleading := []string{"PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGLOADBALANCEHOSTS", "RAM_TOKEN"}
	var out []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if !slices.Contains(misleading, name) && !ownVariable(name) {
			out = append(out, pair)
		}
	}
	var own []string
	for keyword, value := range info {
		own = append(own, libpqVariables[keyword]+"="+value)
	}
	slices.Sort(own)
	return append(out, own...)
}

func ownVariable(name string) bool {
	for _, variable := range libpqVariables {
		if variable == name {
			return true
		}
	}
	return false
}

// findPsql looks along PATH, then where the cluster's PostgreSQL is.
func findPsql(c *spec.Cluster) (string, error) {
	if path, err := exec.LookPath("psql"); err == nil {
		return filepath.Abs(path)
	}
	dirs := []string{
		c.Postgres.BinDir,
		"/usr/lib/postgresql/" + strconv.Itoa(c.Postgres.Version) + "/bin",
		"/usr/pgsql-" + strconv.Itoa(c.Postgres.Version) + "/bin",
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, "psql")
		if info, err := os.Stat(path); dir != "" && err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errors.New("psql is not installed here: install PostgreSQL's client, or use ramctrl dsn elsewhere")
}
