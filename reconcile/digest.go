package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"github.com/ramhq/ram/pg"
)

// facts are what a plan depends on among all that was observed: no positions,
// sizes or ages, which move on by themselves, and no texts that count attempts.
type facts struct {
	Node         string
	Member       Member
	Reported     bool
	Reachable    bool
	Lost         bool // silent for so long that it may be given up
	DirState     pg.DirState
	SystemID     pg.SystemID
	Generation   uint64
	Least        pg.StandbyLeast
	Server       pg.ServerState
	Recovery     bool
	Streaming    bool // from where it is to stream from
	Behind       bool // the assignment that was issued is not applied
	Restarting   bool // a restart that was asked for is not over
	Outlived     bool // the WAL that it needs is no longer there
	Settings     map[string]string
	Pending      []string
	Drift        []Drift
	Slots        []string // only the primary's, on which copies wait
	Retired      bool
	Unfit        bool     // a rewind of its data was interrupted, or is impossible
	Apart        bool     // it runs and has received nothing for a while
	Ahead        bool     // of where the primary's timeline began
	Expired      []string // backups, on the primary's line
	Placed       bool     // it has what the restore of the cluster was for
	Synced       bool     // the sync set that is to come has been seen to be in force
	Trouble      bool
	TroubledStep StepKind
}

// digest identifies the observation as far as plans depend on it.
func (o Observed) digest(rec *Record, slots map[string][]Drift) string {
	d := &differ{want: rec.Spec, rec: rec, obs: o}
	if rec.Spec != nil && rec.Primary != "" {
		d.primary = firstPrimary(rec, rec.Spec)
	}
	names := slices.Collect(maps.Keys(o.Nodes))
	list := make([]facts, 0, len(names))
	for _, name := range sorted(names) {
		list = append(list, factsOf(name, d, slots[name]))
	}
	raft := slices.Clone(o.Raft)
	slices.SortFunc(raft, func(a, b RaftMember) int { return compareNames(a.Name, b.Name) })
	hash := sha256.New()
	encoder := json.NewEncoder(hash)
	if err := encoder.Encode(struct {
		Nodes []facts
		Raft  []RaftMember
	}{list, raft}); err != nil {
		panic("reconcile: facts always encode: " + err.Error())
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}

func factsOf(name string, d *differ, slots []Drift) facts {
	o, rec := d.obs, d.rec
	v, issued := o.Nodes[name], rec.Assignments[name]
	r := v.Report
	f := facts{
		Node: name, Member: rec.Members[name], Reported: v.Reported, Reachable: v.Reachable, Lost: givenUp(v),
		DirState: r.Data.State, SystemID: r.Data.SystemID, Generation: r.Data.Generation, Least: r.Data.Least,
		Server: r.Server.State, Recovery: r.Server.Recovery, Streaming: v.StreamingFrom(issued.Upstream),
		Behind:     r.Written < issued.Serial || r.Loaded < issued.Serial || r.Settled < issued.Serial,
		Restarting: r.Started < issued.Restart, Outlived: outlived(name, v, o.Nodes[rec.Primary]) && !d.catchesUp(v),
		Pending: slices.Concat(r.Server.PendingRestart), Drift: slices.Concat(r.Drift, slots), Retired: r.Retired,
		Settings: map[string]string{},
	}
	if name == d.primary.Name {
		f.Synced = !rec.Sync.settled() && d.runsSync(issued, rec.Sync.Target())
	} else {
		f.Ahead = d.ahead(name)
	}
	f.Apart = r.Apart > apartLimit
	f.Unfit = r.Data.Rewinding || r.Problem != nil && r.Problem.Impossible
	for _, setting := range append([]string{syncNamesSetting, portSetting}, standbyFloor...) {
		f.Settings[setting] = r.Server.Settings[setting]
	}
	f.Placed = rec.Restoring != nil && r.Data.Generation >= rec.Floor
	if name == rec.Primary {
		f.Expired = d.expired()
		for _, s := range r.Server.Slots {
			f.Slots = append(f.Slots, s.Name)
		}
	}
	if r.Problem != nil {
		f.Trouble, f.TroubledStep = true, r.Problem.Step
	}
	return f
}
