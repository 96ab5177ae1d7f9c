package devcluster

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/ramhq/ram/cmd/internal/specfile"
	"github.com/ramhq/ram/pg/instance"
	"github.com/ramhq/ram/spec"
	"github.com/ramhq/ram/spec/hclspec"
)

// load reads a usable spec. What is wrong with one that is not is told on standard
// error.
func (d *dev) load(path string, f upFlags) (*spec.Cluster, error) {
	if path == specfile.Stdin {
		return nil, errors.New("the ramds read the spec themselves, which they cannot do from standard input: write it to a file")
	}
	loaded, findings, err := specfile.Load([]string{path}, specfile.Options{Vars: f.vars, VarFiles: f.varFiles, LookupEnv: d.LookupEnv})
	if err != nil {
		return nil, err
	}
	// Warnings are the plan's to tell.
	if findings.HasErrors() {
		if err := findings.Render(d.Stderr, hclspec.RenderOptions{Color: d.Style().Color}); err != nil {
			return nil, err
		}
		fmt.Fprintln(d.Stderr)
		return nil, errors.New("the spec cannot be used: put right what is said above, nothing was started")
	}
	return loaded.Spec, nil
}

// checkHere makes sure that all nodes of a spec can live on this machine, in
// that directory. It says everything that is in the way.
func checkHere(c *spec.Cluster, dir string) error {
	var problems []error
	for _, n := range c.Nodes {
		if !loopback(n.Host) {
			problems = append(problems, fmt.Errorf("node %s has host %s, and a dev cluster lives on loopback addresses only: use one such as 127.0.0.%d in a copy of the spec", n.Name, n.Host, 10+n.ID))
		}
		if n.DataDir != "" {
			problems = append(problems, fmt.Errorf("node %s has data_dir %s, and a dev cluster keeps its data in %s, so that dev down can remove it: leave data_dir out", n.Name, n.DataDir, dir))
		}
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	if err := checkReach(dir, c.Postgres.User); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := checkLength(dir, n.Name, n.Ports.Postgres); err != nil {
			return err
		}
	}
	return checkPostgres(c, dir)
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// checkPostgres looks for PostgreSQL's programs and system user, which ramd would
// miss only at the first apply.
func checkPostgres(c *spec.Cluster, dir string) error {
	for _, n := range c.Nodes {
		if n.Witness {
			continue
		}
		state := filepath.Join(dir, n.Name)
		inst, err := instance.Open(instance.Config{
			Cluster: c.Name, Name: n.Name, Major: c.Postgres.Version, BinDir: c.Postgres.BinDir, User: c.Postgres.User,
			DataDir: filepath.Join(state, "postgres"), StateDir: state, Host: n.Host, Port: n.Ports.Postgres,
			Logger: zerolog.Nop(),
		})
		if err != nil {
			return err
		}
		inst.Close()
		return nil // the others have the same
	}
	return nil
}
