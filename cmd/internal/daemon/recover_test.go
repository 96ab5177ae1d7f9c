package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rs/zerolog"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/raftstore"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// oldRecord is that of three nodes whose primary is a.
func oldRecord() *reconcile.Record {
	rec := &reconcile.Record{
		Format: reconcile.RecordFormat, Cluster: "demo", ClusterID: "old", SystemID: 7, Primary: "a", Term: 3, Timeline: 2,
		Secrets: reconcile.Secrets{AdminToken: "admin", PeerToken: "old token", Superuser: "s", Replication: "r"},
		Members: map[string]reconcile.Member{}, Assignments: map[string]reconcile.Assignment{},
	}
	for i, name := range []string{"a", "b", "c"} {
		rec.Members[name] = reconcile.Member{Name: name, Incarnation: "old" + name, Host: "127.9.9.9", APIPort: i + 1}
		rec.Assignments[name] = reconcile.Assignment{Serial: 5, Node: name, Role: reconcile.RoleStandby, Term: 3, Upstream: &reconcile.Upstream{Node: "a"}}
	}
	a := rec.Assignments["a"]
	a.Role, a.Upstream = reconcile.RolePrimary, nil
	rec.Assignments["a"] = a
	return rec
}

func TestRecordOfARecovery(t *testing.T) {
	now := time.Unix(1700000000, 0).UTC()
	for _, tt := range []struct {
		name       string
		change     func(*reconcile.Record)
		self       string
		acceptLoss bool
		// opening is nil when no term is opened.
		opening *reconcile.Opening
		term    uint64
	}{
		{
			name: "the node that is the primary stays it", self: "a", term: 3,
		},
		{
			name: "the loss of the primary opens a term that no lost node can have granted", self: "b", term: 1004,
			opening: &reconcile.Opening{Cause: reconcile.OpenFailover, Deposed: "a", By: "ramd recover", At: now},
		},
		{
			name: "the operator's word on losses goes into it", self: "b", acceptLoss: true, term: 1004,
			opening: &reconcile.Opening{Cause: reconcile.OpenFailover, Deposed: "a", By: "ramd recover", At: now, AcceptLoss: true},
		},
		{
			name: "a switchover that was under way becomes a failover", self: "b", acceptLoss: true, term: 1003,
			change: func(r *reconcile.Record) {
				r.Primary, r.Opening = "", &reconcile.Opening{Cause: reconcile.OpenSwitchover, Deposed: "a", By: "somebody", At: now.Add(-1), Stopping: true}
			},
			opening: &reconcile.Opening{Cause: reconcile.OpenFailover, Deposed: "a", By: "somebody", At: now.Add(-1), AcceptLoss: true},
		},
		{
			name: "a paused cluster decides nothing", self: "b", term: 3,
			change: func(r *reconcile.Record) { r.Pause = &reconcile.Pause{By: "somebody"} },
		},
		{
			name: "a cluster without data has no primary to be replaced", self: "b", term: 0,
			change: func(r *reconcile.Record) { r.SystemID, r.Primary, r.Term, r.Timeline = 0, "", 0, 0 },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := oldRecord()
			if tt.change != nil {
				tt.change(before)
			}
			was, err := json.Marshal(before)
			if err != nil {
				t.Fatal(err)
			}
			self := before.Members[tt.self]
			self.Incarnation = "new"
			got, err := refounded(before, self, identity{ClusterID: "new", PeerToken: "new token"}, now, tt.acceptLoss)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.opening, got.Opening, cmpopts.IgnoreFields(reconcile.Opening{}, "Reason")); diff != "" {
				t.Errorf("opening (-want +got):\n%s", diff)
			}
			if got.Term != tt.term || got.ClusterID != "new" || got.Secrets.PeerToken != "new token" || got.Secrets.AdminToken != "admin" {
				t.Errorf("term %d of cluster %s with other secrets than wanted: want term %d", got.Term, got.ClusterID, tt.term)
			}
			if before.SystemID != 0 && got.Timeline != before.Timeline+timelineLeap {
				t.Errorf("timeline %d, want that those of the lost nodes are passed over", got.Timeline)
			}
			want := map[string]string{"a": "olda", "b": "oldb", "c": "oldc", tt.self: "new"}
			for name, a := range got.Assignments {
				if a.Serial <= serialLeap+4 {
					t.Errorf("assignment of %s has serial %d, which a lost leader may have given", name, a.Serial)
				}
				if got.Members[name].Incarnation != want[name] {
					t.Errorf("%s is of incarnation %s, want %s", name, got.Members[name].Incarnation, want[name])
				}
				if tt.opening != nil && !a.Frozen() {
					t.Errorf("a term is open, and %s has %+v", name, a)
				}
			}
			if now, err := json.Marshal(before); err != nil || !bytes.Equal(was, now) {
				t.Errorf("the old record was changed: %v", err)
			}
		})
	}
}

func TestOperatorHasToTypeTheClustersName(t *testing.T) {
	for answer, want := range map[string]string{
		"demo\n": "", "demo": "",
		"": "not the cluster's name", "yes\n": "not the cluster's name", "Demo\n": "not the cluster's name",
	} {
		var out bytes.Buffer
		err := ask(strings.NewReader(answer), &out, "demo")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("answer %q: %v, want %q", answer, err, want)
		}
		if !strings.Contains(out.String(), "(demo)") {
			t.Errorf("it asks %q", out.String())
		}
	}
	if err := confirm(strings.NewReader("demo\n"), &bytes.Buffer{}, "demo", false); err == nil {
		t.Error("an answer that did not come from a terminal is taken for one")
	}
}

// survivor makes the data directory of a node whose Raft group has a voter that never
// answers again, and returns it.
func survivor(t *testing.T) string {
	t.Helper()
	dir, m := t.TempDir(), newMachine()
	id := identity{ClusterID: "old", PeerToken: newSecret(), SystemID: pg.SystemID(7)}
	if err := id.save(dir); err != nil {
		t.Fatal(err)
	}
	store, err := raftstore.Open(t.Context(), raftstore.Config{
		Dir: filepath.Join(dir, "raft"), Cluster: "demo", Name: "a", Bind: freeAddress(t), Version: "test", Machine: m,
		Secret: func() []byte { return []byte(id.PeerToken) }, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	self := store.Self()
	if err := store.Bootstrap(t.Context(), []raftstore.Member{self}); err != nil {
		t.Fatal(err)
	}
	form := reconcile.Form{Cluster: "demo", ClusterID: "old", Secrets: reconcile.Secrets{PeerToken: id.PeerToken}, Members: []reconcile.Member{
		{Name: "a", Incarnation: self.Incarnation, Host: "127.0.0.1", APIPort: 1, RaftPort: 2},
	}}
	ledger := ledger{m, store}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err = ledger.Propose(t.Context(), reconcile.Command{At: time.Now(), Form: &form})
		if err == nil {
			break
		}
		if !errors.Is(err, raftstore.ErrNotLeader) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	// The old group alone agrees to the new voter, which from then on is needed.
	if err := store.AddVoter(t.Context(), raftstore.Member{Name: "b", Incarnation: "12345678", Address: "127.255.255.254:1", Voter: true}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	pause := reconcile.Command{At: time.Now(), Pause: &reconcile.SetPause{Paused: true}}
	if err := ledger.Propose(ctx, pause); err == nil {
		t.Fatal("a command was agreed on with a voter that does not answer")
	}
	return dir
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func opened(t *testing.T, dir string) *recovery {
	t.Helper()
	r, err := openRecovery(dir, recoverFlags{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func TestRecoveryThatIsKilledCanBeRunAgain(t *testing.T) {
	for _, killed := range []struct {
		name string
		at   func(t *testing.T, r *recovery)
	}{
		{"before the new identity", func(t *testing.T, r *recovery) {
			if _, _, err := r.prepare(); err != nil {
				t.Fatal(err)
			}
		}},
		{"between the new identity and the new group", func(t *testing.T, r *recovery) {
			_, id, err := r.prepare()
			if err == nil {
				_, err = r.replaceIdentity(id)
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(killed.name, func(t *testing.T) {
			dir := survivor(t)
			old, err := os.ReadFile(identityPath(dir))
			if err != nil {
				t.Fatal(err)
			}
			r := opened(t, dir)
			if r.remains.Alone() || len(r.remains.Others()) != 1 {
				t.Fatalf("members are %v", r.remains.Members)
			}
			killed.at(t, r)
			r.close()

			done, err := opened(t, dir).carryOut()
			if err != nil {
				t.Fatal(err)
			}
			done.close()
			kept, err := os.ReadFile(done.identityAside)
			if err != nil || !bytes.Equal(kept, old) {
				t.Errorf("the old identity is not kept: %v", err)
			}
			r = opened(t, dir)
			id, err := loadIdentity(dir)
			if err != nil {
				t.Fatal(err)
			}
			if r.record.Pause == nil {
				t.Error("the entry that may not have been agreed on was not kept")
			}
			if !r.remains.Alone() || r.record.ClusterID != id.ClusterID || r.record.Secrets.PeerToken != id.PeerToken || id.ClusterID == "old" || id.SystemID != 7 {
				t.Errorf("members %v, record of %s, identity %s of %s", r.remains.Members, r.record.ClusterID, id.ClusterID, id.SystemID)
			}
			if r.record.Members["a"].Incarnation != r.remains.Self.Incarnation {
				t.Errorf("the record has incarnation %s, the node is %s", r.record.Members["a"].Incarnation, r.remains.Self.ID())
			}
		})
	}
}

func TestWhatMayBeLostIsSaid(t *testing.T) {
	dir := survivor(t)
	r := opened(t, dir)
	for _, tt := range []struct {
		name   string
		change func(*reconcile.Record)
		says   []string
	}{
		{"of a primary", func(rec *reconcile.Record) {}, []string{"this node, of term 3", "This node stays the primary"}},
		{"of a standby", func(rec *reconcile.Record) { rec.Primary = "b" }, []string{"Acknowledged writes that were on b", "A term without a primary"}},
		{"of a paused cluster", func(rec *reconcile.Record) { rec.Primary, rec.Pause = "b", &reconcile.Pause{} }, []string{"The cluster stays paused"}},
		{"of a witness", func(rec *reconcile.Record) {
			rec.Spec = &spec.Cluster{Nodes: []spec.Node{{Name: "a", Witness: true}}}
		}, []string{"All data of PostgreSQL"}},
		{"before there are data", func(rec *reconcile.Record) { rec.SystemID, rec.Primary = 0, "" }, []string{"none were set up", "There is no primary"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := oldRecord()
			tt.change(rec)
			r.record = rec
			var out bytes.Buffer
			r.show(&out)
			for _, text := range append(tt.says, "raft members  a (this node), b\n", "may not have been agreed on, and are kept", "b started again with the raft directory", "Whatever only the lost nodes agreed on") {
				if !strings.Contains(out.String(), text) {
					t.Errorf("%q is not said in:\n%s", text, out.String())
				}
			}
		})
	}
}
