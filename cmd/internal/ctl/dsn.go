package ctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/spec"
)

type dsnFlags struct {
	readOnly     bool
	user, dbname string
}

func (a *app) dsnCommand() *cobra.Command {
	var f dsnFlags
	cmd := &cobra.Command{
		Use:   "dsn",
		Short: "Print the connection string that finds the primary",
		Long: `Print a libpq URI with every node that holds data. Clients that speak libpq's
language (psql, most drivers) try them in turn and stay with the primary, or, with
--read-only, with a standby as long as there is one. No password is in it.

After a failover the same string leads to the new primary. A session that a server or
its host ends is cut at once; from a host that vanishes nothing comes at all, and the
client has to give up by itself: with a time limit of its own, or, in libpq, with
keepalives_idle, keepalives_interval, keepalives_count and tcp_user_timeout.`,
		Example: `  psql "$(ramctrl dsn --user app --dbname orders)"
  ramctrl dsn --read-only`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&f.readOnly, "read-only", false, "prefer a standby")
	cmd.Flags().StringVar(&f.user, "user", "", "`ROLE` to connect as (default: the client's choice)")
	cmd.Flags().StringVar(&f.dbname, "dbname", "postgres", "database `NAME`")
	cmd.RunE = a.do(func(ctx context.Context, _ *cobra.Command, _ []string) error {
		client, err := a.client()
		if err != nil {
			return err
		}
		return a.dsn(ctx, client, f)
	})
	return cmd
}

// dsnOutput is dsn -o json.
type dsnOutput struct {
	Format int    `json:"format"`
	URI    string `json:"uri"`
	DSN    string `json:"dsn"`
}

func (a *app) dsn(ctx context.Context, client *api.Client, f dsnFlags) error {
	cluster, err := specInForce(ctx, client)
	if err != nil {
		return err
	}
	info := conninfo(cluster, dataNodes(cluster), f.readOnly)
	info["dbname"] = f.dbname
	if f.user != "" {
		info["user"] = f.user
	}
	if a.json() {
		return a.printJSON(dsnOutput{outputFormat, info.URI(), info.String()})
	}
	_, err = fmt.Fprintln(a.sys.Stdout, info.URI())
	return err
}

func specInForce(ctx context.Context, client *api.Client) (*spec.Cluster, error) {
	answer, err := client.Spec(ctx)
	if err != nil {
		return nil, err
	}
	if answer.Spec == nil || answer.Revision == 0 {
		return nil, errors.New("no spec has been applied yet, so there is nothing to connect to: see ramctrl plan")
	}
	return answer.Spec, nil
}

func dataNodes(c *spec.Cluster) []spec.Node {
	return slices.DeleteFunc(slices.Clone(c.Nodes), func(n spec.Node) bool { return n.Witness })
}

// connectTimeout, in seconds, is how long a client waits for a node that is cut
// off before it tries the next; libpq takes no less than 2.
const connectTimeout = "2"

// conninfo leads to the primary among the nodes, or to a standby.
func conninfo(c *spec.Cluster, nodes []spec.Node, readOnly bool) pg.Conninfo {
	var hosts, ports []string
	for _, n := range nodes {
		hosts = append(hosts, n.Host)
		ports = append(ports, strconv.Itoa(n.Ports.Postgres))
	}
	return pg.Conninfo{
		"host":                 strings.Join(hosts, ","),
		"port":                 strings.Join(ports, ","),
		"target_session_attrs": sessionAttrs(c.Postgres.Version, readOnly),
		"connect_timeout":      connectTimeout,
	}
}

// sessionAttrs is what clients ask of a server. Clients are taken to be of the
// cluster's version: libpq knows prefer-standby from 14 on.
func sessionAttrs(version int, readOnly bool) string {
	switch {
	case !readOnly:
		return "read-write"
	case version >= 14:
		return "prefer-standby"
	}
	return "any"
}
