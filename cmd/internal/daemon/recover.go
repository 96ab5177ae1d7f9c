package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ramhq/ram/cmd/internal/buildinfo"
	"github.com/ramhq/ram/cmd/internal/netx"
	"github.com/ramhq/ram/raftstore"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// recoverFlags are what ramd recover was told.
type recoverFlags struct {
	local
	force, yes, acceptLoss bool
}

func recoverCommand() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "recover --force-new-cluster --data-dir DIR",
		Short: "Make a new cluster of one node whose fellow voters are lost for good",
		Long: `For when the majority of the voters is lost for good: their disks, not just
their power or their network. Run on one node that is left, while its ramd is
stopped, it shows what this node knows and what may be lost, asks, and makes
this node the only voter of a new Raft group that goes on with the record as
this node has it. The old Raft directory is kept aside. Afterwards ramd start works
as always, and the other nodes join again with empty directories of ramd.

A majority that can be started again loses nothing: start it instead. Of several
nodes that are left take the one with the newest log; this command shows how new it is.

PostgreSQL's data are not touched. Where acknowledged writes may be missing on this
node, it is not made the primary before an operator says so: with
--accept-data-loss here, or with ramctrl failover --accept-data-loss later.`,
		Example: `  ramd recover --force-new-cluster --data-dir /var/lib/ram/demo/a
  ramd recover --force-new-cluster --spec cluster.hcl --node a --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRecover(cmd, f) },
	}
	f.flags(cmd)
	fs := cmd.Flags()
	fs.Lookup("spec").Usage = "the cluster's spec: must have this node, and says where it is reached; with --node it replaces --data-dir"
	fs.BoolVar(&f.force, "force-new-cluster", false, "make a new Raft group of this node alone")
	fs.BoolVar(&f.yes, "yes", false, "do not ask")
	fs.BoolVar(&f.acceptLoss, "accept-data-loss", false, "let this node become primary although acknowledged writes may be missing on it")
	fs.StringArrayVar(&f.Vars, "var", nil, "value of a variable of the spec: name=value")
	fs.StringArrayVar(&f.VarFiles, "var-file", nil, "file with values of variables")
	return cmd
}

func runRecover(cmd *cobra.Command, f recoverFlags) error {
	if !f.force {
		return errUsage{errors.New("ramd recover makes a new cluster of what this node has, and says so by --force-new-cluster")}
	}
	dir, err := f.dir()
	if err != nil {
		return err
	}
	r, err := openRecovery(dir, f)
	if err != nil {
		return err
	}
	defer r.close()
	out := cmd.OutOrStdout()
	if r.remains.Alone() {
		fmt.Fprintf(out, "Node %s is the only voter of cluster %s: there is nothing to recover. Go on with ramd start.\n", r.self.Name, r.remains.Cluster)
		return nil
	}
	if err := r.askOthers(cmd.Context()); err != nil {
		return err
	}
	r.show(out)
	if err := confirm(cmd.InOrStdin(), out, r.remains.Cluster, f.yes); err != nil {
		return err
	}
	done, err := r.carryOut()
	if err != nil {
		return err
	}
	done.show(out)
	return nil
}

// recovery is a new group that is to be made of what one node has.
type recovery struct {
	dataDir string
	remains *raftstore.Remains
	record  *reconcile.Record
	// self is this node as the new record is to have it; its incarnation is not made yet.
	self       reconcile.Member
	acceptLoss bool
	at         time.Time
	release    func()
}

// openRecovery reads what there is. It refuses a directory that another ramd uses, or
// that was never a member's, and a spec of another cluster.
func openRecovery(dir string, f recoverFlags) (_ *recovery, err error) {
	if err := checkRecoverable(dir); err != nil {
		return nil, err
	}
	// Whose directory it is is read when nobody else writes to it.
	release, err := claim(dir, start{spec: &spec.Cluster{}, node: spec.Node{Name: f.Node}})
	if err != nil {
		return nil, err
	}
	r := &recovery{dataDir: dir, acceptLoss: f.acceptLoss, at: time.Now().UTC(), release: release}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	m := newMachine()
	r.remains, err = raftstore.OpenRemains(filepath.Join(dir, "raft"), buildinfo.Version, m, zerolog.Nop())
	if err != nil {
		return nil, fmt.Errorf("nothing can be recovered from %s: %w", dir, err)
	}
	r.record = m.Record()
	return r, r.identify(f.Options)
}

func (r *recovery) close() {
	if r.remains != nil {
		_ = r.remains.Close()
	}
	r.release()
}

// checkRecoverable refuses before anything is made in a directory that is not ramd's,
// and by whom the next ramd start could not read what is written here.
func checkRecoverable(dir string) error {
	info, err := os.Stat(filepath.Join(dir, "raft"))
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Join(dir, "raft.recovering"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no state of a ramd: give the --data-dir that ramd was started with", dir)
	}
	if err != nil {
		return err
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return fmt.Errorf("%s belongs to the user with ID %d: run ramd recover as the user that ramd runs as", dir, owner)
	}
	return nil
}

// identify finds where this node is reached: as the spec that was given says, or else
// the record.
func (r *recovery) identify(o Options) error {
	name, cluster := r.remains.Self.Name, r.remains.Cluster
	if o.Node != "" && o.Node != name {
		return fmt.Errorf("%s is that of node %s, not %s: check --node and --data-dir", r.dataDir, name, o.Node)
	}
	if !r.record.Formed() {
		return fmt.Errorf("nothing can be recovered from %s: the log of node %s has no record of a cluster", r.dataDir, name)
	}
	if r.remains.Self.Address == "" {
		return fmt.Errorf("node %s was not a member of the group that its log knows: run ramd recover on one that was", name)
	}
	r.self = r.record.Members[name]
	if o.SpecPath != "" {
		o.Node, o.Insecure = name, true
		s, err := o.read()
		if err != nil {
			return err
		}
		if s.spec.Name != cluster {
			return fmt.Errorf("%s is the spec of cluster %q, and %s belongs to %q: check --spec and --data-dir", o.SpecPath, s.spec.Name, r.dataDir, cluster)
		}
		r.self = memberOf(s.node, "", r.at)
	}
	if r.self.Name == "" {
		return fmt.Errorf("the record does not say yet where node %s is reached: give the --spec that its ramd was started with", name)
	}
	r.self.JoinedAt = r.at
	return nil
}

// askOthers refuses while one of those that are said to be lost runs: it would go on in
// the old group, and a majority of them with a primary of its own.
func (r *recovery) askOthers(ctx context.Context) error {
	transport := netx.NewTransport()
	defer transport.CloseIdleConnections()
	p := peers{http: &http.Client{Transport: transport}}
	for _, m := range r.others() {
		addr := address(m.Host, m.APIPort)
		h, err := p.hello(ctx, addr)
		if err == nil && h.HasState && h.Cluster == r.remains.Cluster {
			return fmt.Errorf("node %s at %s is not lost: its ramd answers, as a member of a group. "+
				"When a majority can run, nothing has to be recovered: start ramd here. "+
				"Otherwise stop it (ramd stop --postgres on its host), and move raft and identity.json out of its data directory before it is started again, so that it joins as a new member",
				m.Name, addr)
		}
	}
	return nil
}

// others are the members of the record but this one, by name.
func (r *recovery) others() []reconcile.Member {
	var list []reconcile.Member
	for _, name := range slices.Sorted(maps.Keys(r.record.Members)) {
		if name != r.remains.Self.Name {
			list = append(list, r.record.Members[name])
		}
	}
	return list
}

// confirm has the operator type the cluster's name.
func confirm(in io.Reader, out io.Writer, cluster string, yes bool) error {
	if yes {
		return nil
	}
	if file, ok := in.(*os.File); !ok || !term.IsTerminal(int(file.Fd())) {
		return errors.New("nothing was changed: run this on a terminal, or with --yes")
	}
	return ask(in, out, cluster)
}

func ask(in io.Reader, out io.Writer, cluster string) error {
	fmt.Fprintf(out, "\nType the name of the cluster (%s) to go on: ", cluster)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(answer) != cluster {
		return errors.New("nothing was changed: that is not the cluster's name")
	}
	return nil
}

// carryOut makes the new group. The identity comes before the group that it belongs to:
// killed in between, this node can talk to nobody, and ramd recover is run again.
func (r *recovery) carryOut() (recovered, error) {
	next, id, err := r.prepare()
	if err != nil {
		return recovered{}, err
	}
	kept, err := r.replaceIdentity(id)
	if err != nil {
		return recovered{}, err
	}
	aside, err := next.Replace()
	if err != nil {
		return recovered{}, err
	}
	return recovered{recovery: r, id: next.Self.ID(), raftAside: aside, identityAside: kept}, nil
}

// prepare makes the new group beside the old one.
func (r *recovery) prepare() (*raftstore.Refounded, identity, error) {
	id, err := loadIdentity(r.dataDir)
	if err != nil {
		return nil, id, err
	}
	id = identity{ClusterID: newSecret()[:16], PeerToken: newSecret(), SystemID: id.SystemID}
	next, err := r.remains.Refound(address(r.self.Host, r.self.RaftPort), func(self raftstore.Member) ([]byte, error) {
		member := r.self
		member.Incarnation = self.Incarnation
		rec, err := refounded(r.record, member, id, r.at, r.acceptLoss)
		if err != nil {
			return nil, err
		}
		return json.Marshal(rec)
	})
	return next, id, err
}

// replaceIdentity keeps the old identity beside the new one. An identity that is not the
// record's is of a recovery that was killed, and of no more use.
func (r *recovery) replaceIdentity(id identity) (kept string, err error) {
	kept = filepath.Join(r.dataDir, "identity-"+r.record.ClusterID+".json")
	old, err := loadIdentity(r.dataDir)
	if err != nil {
		return "", err
	}
	if old.ClusterID == r.record.ClusterID {
		if err := os.Link(identityPath(r.dataDir), kept); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("keep the old identity: %w", err)
		}
	}
	if err := id.save(r.dataDir); err != nil {
		return "", fmt.Errorf("keep the cluster's new identity: %w", err)
	}
	return kept, nil
}
