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
// sizes or ages, which move on by themselves.
type facts struct {
	Node       string
	Member     Member
	Reported   bool
	Reachable  bool
	DirState   pg.DirState
	SystemID   pg.SystemID
	Generation uint64
	Server     pg.ServerState
	Recovery   bool
	Streaming  bool
	Behind     bool // the assignment that was issued is not applied
	Pending    []string
	Drift      []Drift
	Slots      []string
	Lost       []string
	Retired    bool
	Problem    string
}

// digest identifies the observation as far as plans depend on it.
func (o Observed) digest(rec *Record) string {
	names := slices.Collect(maps.Keys(o.Nodes))
	list := make([]facts, 0, len(names))
	for _, name := range sorted(names) {
		list = append(list, factsOf(name, o.Nodes[name], rec))
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

func factsOf(name string, v NodeView, rec *Record) facts {
	r, issued := v.Report, rec.Assignments[name]
	f := facts{
		Node: name, Member: rec.Members[name], Reported: v.Reported, Reachable: v.Reachable,
		DirState: r.Data.State, SystemID: r.Data.SystemID, Generation: r.Data.Generation,
		Server: r.Server.State, Recovery: r.Server.Recovery, Streaming: r.Server.Receiver.Streaming(),
		Behind:  r.Written < issued.Serial || r.Loaded < issued.Serial || r.Settled < issued.Serial,
		Pending: r.Server.PendingRestart, Drift: r.Drift, Retired: r.Retired,
	}
	for _, s := range r.Server.Slots {
		f.Slots = append(f.Slots, s.Name)
		if s.WALStatus == "lost" {
			f.Lost = append(f.Lost, s.Name)
		}
	}
	if r.Problem != nil {
		f.Problem = r.Problem.Text
	}
	return f
}
