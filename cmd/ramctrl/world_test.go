package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ramhq/ram/cmd/internal/api"
	"github.com/ramhq/ram/cmd/internal/specfile"
	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// world is a model of a cluster that carries out plans at once: agents do what
// they are assigned as soon as they are. Scripts make of it the files that
// ramctrl plan --observed reads.
type world struct {
	rec *reconcile.Record
	obs reconcile.Observed
}

const (
	worldSystemID = pg.SystemID(7300000000000000001)
	worldLSN      = pg.LSN(0x3000060)
)

// newWorld is a cluster whose ramds have formed a group and hold nothing yet.
func newWorld(c *spec.Cluster) (*world, error) {
	w := &world{rec: &reconcile.Record{}, obs: reconcile.Observed{Nodes: map[string]reconcile.NodeView{}}}
	form := reconcile.Form{Cluster: c.Name, ClusterID: "0f1e2d3c"}
	for _, n := range c.Nodes {
		form.Members = append(form.Members, member(n))
	}
	if err := w.apply(reconcile.Command{Form: &form}); err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		w.see(n)
	}
	return w, nil
}

func member(n spec.Node) reconcile.Member {
	return reconcile.Member{Name: n.Name, Incarnation: n.Name + "-1", Host: n.Host, APIPort: n.Ports.API, RaftPort: n.Ports.Raft}
}

// see has an agent that holds nothing report.
func (w *world) see(n spec.Node) {
	w.obs.Nodes[n.Name] = reconcile.NodeView{
		Reported: true, Reachable: true, Silent: 40 * time.Millisecond,
		Report: reconcile.Report{
			Node: n.Name, Incarnation: n.Name + "-1", Ramd: "v1.0.0",
			Data: pg.DataDirectory{State: pg.DirAbsent}, Server: pg.Server{State: pg.ServerStopped},
		},
	}
	w.obs.Raft = append(w.obs.Raft, reconcile.RaftMember{Name: n.Name, Incarnation: n.Name + "-1", Voter: len(w.obs.Raft) < spec.MaxVoters})
}

func (w *world) apply(cmd reconcile.Command) error {
	cmd.At, cmd.By = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), "tester"
	next, err := reconcile.Transition(w.rec, cmd)
	w.rec = next
	return err
}

// converge accepts a spec and carries out plans until none is left.
func (w *world) converge(c *spec.Cluster) error {
	if err := w.apply(reconcile.Command{Accept: &reconcile.Accept{Spec: c, Base: w.rec.Revision, Cause: reconcile.CauseApply}}); err != nil {
		return err
	}
	for range 200 {
		plan := reconcile.Diff(c, w.rec, w.obs)
		if plan.Empty() && len(plan.Blocked) == 0 {
			return nil
		}
		for _, step := range reconcile.Runnable(plan) {
			if err := w.apply(reconcile.Command{Advance: &reconcile.Advance{Step: step.ID, Effect: *step.Effect()}}); err != nil {
				return err
			}
		}
		for _, name := range slices.Sorted(maps.Keys(w.rec.Assignments)) {
			w.obey(w.rec.Assignments[name])
		}
	}
	return fmt.Errorf("the model does not converge: %+v", reconcile.Diff(c, w.rec, w.obs))
}

// obey has an agent do what it is assigned.
func (w *world) obey(a reconcile.Assignment) {
	view := w.obs.Nodes[a.Node]
	r := &view.Report
	if r.Started == 0 || r.Started < a.Restart {
		r.Started = a.Serial
	}
	r.Serial, r.Settled, r.Written, r.Loaded = a.Serial, a.Serial, a.Serial, a.Serial
	r.Data = pg.DataDirectory{
		State: pg.DirCluster, Version: a.Server.Version, SystemID: worldSystemID,
		Timeline: 1, Generation: a.Generation, Standby: a.Role == reconcile.RoleStandby,
	}
	r.Server = pg.Server{
		State: pg.ServerRunning, Guarded: true, Recovery: a.Role == reconcile.RoleStandby, Timeline: 1, LSN: worldLSN,
		Size: r.Server.Size, Settings: map[string]string{"port": strconv.Itoa(a.Server.Port)},
	}
	for _, name := range reconcile.WatchedSettings() {
		if v, ok := a.Settings[name]; ok {
			r.Server.Settings[name] = v
		}
	}
	for _, name := range a.Slots {
		r.Server.Slots = append(r.Server.Slots, pg.Slot{Name: name, Active: true, WALStatus: "reserved"})
	}
	r.Server.WALComplete = true
	if a.Role == reconcile.RolePrimary {
		r.Launched, r.SyncSince = a.Serial, worldLSN
		r.Server.Senders = w.senders(a.Node)
	}
	if a.Upstream != nil {
		r.Server.Receiver = &pg.WALReceiver{Status: "streaming", Host: a.Upstream.Host, Port: a.Upstream.Port, Slot: a.Upstream.Slot, Timeline: 1}
	}
	w.obs.Nodes[a.Node] = view
}

// senders are the standbys that follow a node.
func (w *world) senders(upstream string) []pg.WALSender {
	var list []pg.WALSender
	for _, name := range slices.Sorted(maps.Keys(w.rec.Assignments)) {
		if up := w.rec.Assignments[name].Upstream; up != nil && up.Node == upstream {
			list = append(list, pg.WALSender{Application: pg.ApplicationName(name), State: "streaming", SentLSN: worldLSN, FlushLSN: worldLSN, ReplayLSN: worldLSN})
		}
	}
	return list
}

// leaves has the primary lose a follower.
func (w *world) leaves(node string) {
	view := w.obs.Nodes[w.rec.Primary]
	view.Report.Server.Senders = slices.DeleteFunc(view.Report.Server.Senders, func(s pg.WALSender) bool {
		return s.Application == pg.ApplicationName(node)
	})
	w.obs.Nodes[w.rec.Primary] = view
}

// change makes the world differ from what it should be. Arguments are in the
// notation of scripts, parts between colons.
func (w *world) change(what string) error {
	verb, rest, _ := strings.Cut(what, "=")
	parts := strings.Split(rest, ":")
	view, known := w.obs.Nodes[parts[0]]
	if !known {
		return fmt.Errorf("%s: there is no node %q", what, parts[0])
	}
	r := &view.Report
	need := map[string]int{"size": 2, "drift": 5, "pending": 2, "problem": 2}[verb]
	if len(parts) < need {
		return fmt.Errorf("%s: needs %d parts", what, need)
	}
	switch verb {
	case "gone", "stopped", "adrift", "wiped", "foreign", "stranger", "lost":
		w.leaves(parts[0])
	}
	switch verb {
	case "silent": // its ramd does not answer
		view.Reachable, view.Silent = false, 12*time.Second
	case "gone": // its ramd has not answered for long
		view.Reachable, view.Silent = false, 2*reconcile.GiveUp
	case "unseen": // its ramd has never reported
		view = reconcile.NodeView{}
	case "stopped": // its PostgreSQL does not run
		r.Server = pg.Server{State: pg.ServerStopped}
	case "adrift": // it receives no WAL
		r.Server.Receiver = nil
	case "wiped": // its data directory is gone
		r.Data, r.Server = pg.DataDirectory{State: pg.DirAbsent}, pg.Server{State: pg.ServerStopped}
	case "foreign": // its data directory holds something else
		r.Data, r.Server = pg.DataDirectory{State: pg.DirForeign}, pg.Server{State: pg.ServerStopped}
	case "stranger": // its data directory is another cluster's
		r.Data.State, r.Data.SystemID, r.Data.Version = pg.DirCluster, 7311111111111111111, 15
	case "lost": // node, whose slot on the primary has lost its WAL
		return w.loseSlot(parts[0])
	case "size": // node:size of its databases
		size, err := pg.ParseBytes(parts[1])
		if err != nil {
			return err
		}
		r.Server.Size = size
	case "drift": // node:where:name:have:want
		r.Drift = append(r.Drift, reconcile.Drift{Where: parts[1], Name: parts[2], Have: parts[3], Want: parts[4]})
	case "pending": // node:setting
		r.Server.PendingRestart = append(r.Server.PendingRestart, parts[1])
	case "problem": // node:text
		r.Problem = &reconcile.Problem{Step: reconcile.StepStart, Text: strings.Join(parts[1:], ":"), Attempts: 4}
	default:
		return fmt.Errorf("%s: nothing that can happen", what)
	}
	w.obs.Nodes[parts[0]] = view
	return nil
}

func (w *world) loseSlot(node string) error {
	slots := w.obs.Nodes[w.rec.Primary].Report.Server.Slots
	for i := range slots {
		if slots[i].Name == pg.SlotName(node) {
			slots[i].Active, slots[i].WALStatus = false, "lost"
			view := w.obs.Nodes[node]
			view.Report.Server.Receiver = nil
			w.obs.Nodes[node] = view
			return nil
		}
	}
	return fmt.Errorf("the primary has no slot for %q", node)
}

// observe writes what a cluster that has converged to a spec looks like, after
// the changes. With fresh as the first of them no spec has been accepted; with
// joined=FILE the nodes of another spec have joined.
func observe(out, path string, changes []string) error {
	c, err := loadSpec(path)
	if err != nil {
		return err
	}
	w, err := newWorld(c)
	if err != nil {
		return err
	}
	if len(changes) > 0 && changes[0] == "fresh" {
		changes = changes[1:]
	} else if err := w.converge(c); err != nil {
		return err
	}
	for _, change := range changes {
		if path, ok := strings.CutPrefix(change, "joined="); ok {
			err = w.join(path)
		} else {
			err = w.change(change)
		}
		if err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(api.ObservedFile{Format: api.ObservedFormat, Record: w.rec, Observed: w.obs}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o600)
}

func (w *world) join(path string) error {
	c, err := loadSpec(path)
	if err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if _, known := w.rec.Members[n.Name]; known {
			continue
		}
		if err := w.apply(reconcile.Command{Admit: &reconcile.Admit{Member: member(n)}}); err != nil {
			return err
		}
		w.see(n)
	}
	return nil
}

func loadSpec(path string) (*spec.Cluster, error) {
	loaded, findings, err := specfile.Load([]string{path}, specfile.Options{})
	if err != nil {
		return nil, err
	}
	if findings.HasErrors() {
		return nil, findings
	}
	return loaded.Spec, nil
}

func TestTheModelOfAClusterConverges(t *testing.T) {
	path := t.TempDir() + "/cluster.hcl"
	text := `cluster "demo" {
  postgres { version = 15 }
  node "a" { host = "10.0.0.11" }
  node "b" { host = "10.0.0.12" }
  node "c" {
    host    = "10.0.0.13"
    witness = true
  }
}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadSpec(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.converge(c); err != nil {
		t.Fatal(err)
	}
	if w.rec.Primary != "a" || w.rec.SystemID != worldSystemID || w.rec.Sync.Current.K != 1 {
		t.Errorf("primary %q, system %s, sync %+v", w.rec.Primary, w.rec.SystemID, w.rec.Sync)
	}
}
