package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/ramhq/ram/cmd/internal/specfile"
	"github.com/ramhq/ram/spec"
	"github.com/ramhq/ram/spec/hclspec"
)

// Options are what ramd start was told.
type Options struct {
	SpecPath string
	Node     string
	// DataDir is ramd's own directory; empty means a place by cluster and node.
	DataDir  string
	Watch    bool
	Insecure bool
	// Watchdog is the kernel's watchdog device, which the guard of a primary keeps from
	// resetting the host; empty for none.
	Watchdog string
	Vars     []string
	VarFiles []string
	// StopAll is signalled when PostgreSQL is to be stopped with ramd.
	StopAll <-chan os.Signal
	// GuardCommand starts this program as a guard.
	GuardCommand []string
	// Env are further variables, of the form name=value, of PostgreSQL and its programs.
	Env []string
}

// start is a spec as ramd was started with it.
type start struct {
	spec   *spec.Cluster
	node   spec.Node
	loaded specfile.Loaded
}

func (o Options) load() (specfile.Loaded, hclspec.Diagnostics, error) {
	return specfile.Load([]string{o.SpecPath}, specfile.Options{Vars: o.Vars, VarFiles: o.VarFiles})
}

// read loads the spec and finds this node in it.
func (o Options) read() (start, error) {
	if o.SpecPath == "" {
		return start{}, errors.New("which spec? Use --spec cluster.hcl, or RAMD_SPEC")
	}
	loaded, diagnostics, err := o.load()
	if err != nil {
		return start{}, err
	}
	if diagnostics.HasErrors() {
		return start{}, fmt.Errorf("the spec is not valid:\n%w", diagnostics)
	}
	s := start{spec: loaded.Spec, loaded: loaded}
	if o.Node == "" {
		return s, fmt.Errorf("which node is this host? Use --node with one of %s, or RAMD_NODE", nodeNames(loaded.Spec))
	}
	node, ok := loaded.Spec.Node(o.Node)
	if !ok {
		return s, fmt.Errorf("the spec has no node %q; it has %s", o.Node, nodeNames(loaded.Spec))
	}
	s.node = node
	if !o.Insecure {
		if err := loopbackOnly(node); err != nil {
			return s, err
		}
	}
	return s, nil
}

func nodeNames(c *spec.Cluster) string {
	names := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		names[i] = n.Name
	}
	return strings.Join(names, ", ")
}

// loopbackOnly keeps a ramd without TLS off the network.
func loopbackOnly(n spec.Node) error {
	if n.Host == "localhost" {
		return nil
	}
	if addr, err := netip.ParseAddr(n.Host); err == nil && addr.IsLoopback() {
		return nil
	}
	return fmt.Errorf("node %s has host %s, and this version of ramd has no TLS: without --insecure it listens on loopback addresses only", n.Name, n.Host)
}

// dataDir is where ramd keeps its own state.
func (o Options) dataDir(s start) (string, error) {
	if o.DataDir != "" {
		return filepath.Abs(o.DataDir)
	}
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib/ram", s.spec.Name, s.node.Name), nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("where to keep state? Use --data-dir: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "ram", s.spec.Name, s.node.Name), nil
}
