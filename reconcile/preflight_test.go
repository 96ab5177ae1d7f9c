package reconcile_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ramhq/ram/pg"
	"github.com/ramhq/ram/reconcile"
	"github.com/ramhq/ram/spec"
)

// preflightCase is one line of what an operator asks for: a verb, "to NODE",
// "lossy" for --accept-data-loss.
type preflightCase struct {
	name, spec, seen, ask string
	prepare               func(*reconcile.Record)
	look                  func(reconcile.Observed) reconcile.Observed
	// want are parts of what is said, one for each line.
	want []string
}

func preflightOf(t *testing.T, c preflightCase) reconcile.Preflighted {
	t.Helper()
	w := settled(t, c.spec)
	rec := *w.Record
	if c.prepare != nil {
		c.prepare(&rec)
	}
	words := strings.Fields(c.ask)
	target := ""
	if i := slices.Index(words, "to"); i > 0 {
		target = words[i+1]
	}
	obs := seen(t, w, c.seen)
	if c.look != nil {
		obs = c.look(obs)
	}
	return reconcile.Preflight(&rec, obs, reconcile.OpenReason(words[0]), target, slices.Contains(words, "lossy"))
}

// preflightLines are who becomes the primary, then what is lost, refused and warned of.
func preflightLines(p reconcile.Preflighted) []string {
	var parts []string
	if !p.Refused() {
		parts = append(parts, p.Primary+" -> "+p.To)
	}
	if p.Loss != nil {
		parts = append(parts, "lost: "+p.Loss.Text)
	}
	for _, r := range p.Refusals {
		parts = append(parts, "no: "+r)
	}
	for _, w := range p.Warnings {
		parts = append(parts, "mind: "+w)
	}
	return parts
}

func paused(rec *reconcile.Record) { rec.Pause = &reconcile.Pause{By: "ann"} }

func noSync(rec *reconcile.Record) { rec.Sync = reconcile.SyncState{} }

func degrading(rec *reconcile.Record) {
	c := *rec.Spec
	c.Replication.WhenShort = spec.WhenShortDegrade
	rec.Spec = &c
	noSync(rec)
}

// open is a term that was opened because a was lost.
func open(rec *reconcile.Record) {
	rec.Term, rec.Primary = rec.Term+1, ""
	rec.Opening = &reconcile.Opening{Cause: reconcile.OpenFailover, Deposed: "a"}
}

// unknown is that nothing is known of where the WAL of a ended.
func unknown(obs reconcile.Observed) reconcile.Observed {
	obs.Nodes["a"], obs.Pulse.LSN = reconcile.NodeView{}, 0
	return obs
}

// replay is that b has paused its replay, and has much of it left.
func replay(obs reconcile.Observed) reconcile.Observed {
	v := obs.Nodes["b"]
	v.Report.Server.ReplayPaused, v.Report.Server.ReplayLSN, v.Report.Server.LSN = true, 1, 0x8000000
	obs.Nodes["b"] = v
	return obs
}

// busy is that a has transactions that are open for longer than anybody would do again.
func busy(obs reconcile.Observed) reconcile.Observed {
	return working(obs, pg.Transactions{
		PID: 4711, User: "report", Age: 2*time.Hour + 3*time.Second + 4, Prepared: 2, PreparedAge: time.Minute, PreparedBy: "shop",
	})
}

// lively is that those of a are as they always are.
func lively(obs reconcile.Observed) reconcile.Observed {
	return working(obs, pg.Transactions{PID: 4711, User: "shop", Age: time.Minute - 1, Prepared: 2, PreparedAge: time.Second, PreparedBy: "shop"})
}

// unarchived is that WAL of a waits for the repository.
func unarchived(obs reconcile.Observed) reconcile.Observed {
	v := obs.Nodes["a"]
	v.Report.Archive = &reconcile.ArchiveReport{Backlog: 3, Bytes: 48 * pg.MB, Oldest: 4 * time.Minute, Failure: "access denied", Failing: 4 * time.Minute}
	obs.Nodes["a"] = v
	return obs
}

func working(obs reconcile.Observed, transactions pg.Transactions) reconcile.Observed {
	v := obs.Nodes["a"]
	v.Report.Server.Transactions = transactions
	obs.Nodes["a"] = v
	return obs
}

func TestPreflight(t *testing.T) {
	for _, c := range []preflightCase{
		{
			name: "a switchover goes to the first standby of those that are equal", spec: "a b c", ask: "switchover",
			want: []string{"a -> b"},
		},
		{
			name: "a switchover goes to the node that was asked for", spec: "a b c", ask: "switchover to c",
			want: []string{"a -> c"},
		},
		{
			name: "priority decides between equals", spec: "a(priority=300) b c(priority=200)", ask: "switchover",
			want: []string{"a -> c"},
		},
		{
			name: "a node that does not exist is refused", spec: "a b w(witness)", ask: "switchover to x",
			want: []string{"no: there is no node \"x\": name one of b"},
		},
		{
			name: "a witness is refused", spec: "a b w(witness)", seen: "a silent", ask: "failover to w",
			want: []string{"no: node w is a witness and holds no data: name one of b"},
		},
		{
			name: "priority 0 is refused", spec: "a b c(priority=0)", seen: "a silent", ask: "failover to c",
			want: []string{"no: the priority of node c is 0, so that it is never primary: raise it in the spec, or name another node"},
		},
		{
			name: "the primary itself is refused", spec: "a b c", ask: "switchover to a",
			want: []string{"no: node a is the primary already"},
		},
		{
			name: "a silent node is refused", spec: "a b c", seen: "b silent", ask: "switchover to b",
			want: []string{"no: node b cannot become the primary: its ramd does not answer; see ramctrl status"},
		},
		{
			name: "a stopped node is refused", spec: "a b c", seen: "b stopped", ask: "switchover to b",
			want: []string{"no: node b cannot become the primary: its server is stopped; see ramctrl status"},
		},
		{
			name: "a node without data is refused", spec: "a b c", seen: "b absent", ask: "switchover to b",
			want: []string{"no: node b cannot become the primary: it has no data directory that could be used; see ramctrl status"},
		},
		{
			name: "data of another cluster are refused", spec: "a b c", seen: "b other-system", ask: "switchover to b",
			want: []string{"no: node b cannot become the primary: its data are of another cluster; see ramctrl status"},
		},
		{
			name: "a node with a problem is refused", spec: "a b c", seen: "b problem disk full", ask: "switchover to b",
			want: []string{"no: node b cannot become the primary: disk full; see ramctrl status"},
		},
		{
			name: "a standby that does not stream cannot take over in a switchover", spec: "a b c", seen: "b idle", ask: "switchover to b",
			want: []string{"no: node b cannot become the primary: it does not stream, so that it would lack what the primary wrote last; see ramctrl status"},
		},
		{
			name: "a standby that does not stream can when the primary is lost", spec: "a b c", seen: "a silent; b idle", ask: "failover to b",
			want: []string{"a -> b"},
		},
		{
			name: "a standby that is far behind cannot take over in a switchover", spec: "a b c", seen: "a lsn 0/9000000", ask: "switchover",
			want: []string{"no: node b is 144 MB behind, and clients would wait until it has the rest: try again when it is less than 16 MB behind (ramctrl status)"},
		},
		{
			name: "a switchover needs the primary", spec: "a b c", seen: "a silent", ask: "switchover",
			want: []string{"no: the primary a does not answer, and has to help in a switchover: ramctrl failover goes on without it"},
		},
		{
			name: "a switchover loses nothing", spec: "a b", ask: "switchover lossy",
			want: []string{"no: a switchover loses nothing: leave --accept-data-loss out"},
		},
		{
			name: "nothing is decided while paused", spec: "a b", ask: "failover", prepare: paused,
			want: []string{"no: the cluster is paused by ann: ramctrl resume first"},
		},
		{
			name: "a switchover waits for the promise of enough members", spec: "a b c", seen: "c silent", ask: "switchover",
			want: []string{"no: node a would become the primary again: 2 of b, c must promise, 1 have; missing: c; see ramctrl status, and try again when that has changed"},
		},
		{
			name: "a lost primary costs nothing in quorum mode", spec: "a b c", seen: "a silent", ask: "failover",
			want: []string{"a -> b"},
		},
		{
			name: "the furthest standby is chosen", spec: "a b c", seen: "a silent; c lsn 0/9000000", ask: "failover",
			want: []string{"a -> c"},
		},
		{
			name: "a node that is behind is not chosen because it was asked for", spec: "a b c", seen: "a silent; c lsn 0/9000000", ask: "failover to b",
			want: []string{
				"a -> c",
				"mind: node c would be chosen, not b: it is at 0/AF0, c at 0/9000000",
			},
		},
		{
			name: "it is with the operator's word", spec: "a b c", seen: "a silent; c lsn 0/9000000", ask: "failover to b lossy",
			want: []string{
				"a -> b",
				"lost: at most 144 MB of WAL, which c has and b has not",
			},
		},
		{
			name: "a primary that is well is handed over in order", spec: "a b c", ask: "failover",
			want: []string{
				"a -> b",
				"mind: node a answers and takes writes: ramctrl switchover hands over in order",
			},
		},
		{
			name: "a word that is not needed is said to be so", spec: "a b c", seen: "a silent", ask: "failover lossy",
			want: []string{
				"a -> b",
				"mind: as it looks now, nothing would be lost without --accept-data-loss either",
			},
		},
		{
			name: "too few promises: the primary may be alone with a write", spec: "a b c", seen: "a silent, lsn 0/9000000; b silent", ask: "failover",
			want: []string{"; with --accept-data-loss node c would become the primary, and may lose: 144 MB of WAL that a is known to have written, and what it wrote after it was last heard, which nobody knows"},
		},
		{
			name: "too few promises, with the operator's word", spec: "a b c", seen: "a silent, lsn 0/9000000; b silent", ask: "failover lossy",
			want: []string{
				"a -> c",
				"lost: 144 MB of WAL that a is known to have written, and what it wrote after it was last heard, which nobody knows",
				"mind: commits are to wait for 1 of the standbys, and 0 would follow c as it looks now: writes wait until more do",
			},
		},
		{
			name: "nobody is there", spec: "a b c", seen: "a silent; b silent; c silent", ask: "failover lossy",
			want: []string{"no: no node could be chosen now, it would wait for: a standby that may become primary"},
		},
		{
			name: "the old primary is the only one that has everything", spec: "a b", seen: "a stopped; b silent", ask: "failover",
			want: []string{"no: node a would become the primary again: 1 of b must promise, 0 have; missing: b; see ramctrl status, and try again when that has changed"},
		},
		{
			name: "writes wait when nobody follows the new primary", spec: "a b", seen: "a silent", ask: "failover",
			want: []string{
				"a -> b",
				"mind: commits are to wait for 1 of the standbys, and 0 would follow b as it looks now: writes wait until more do",
			},
		},
		{
			name: "writes do not wait where the spec lets them go on", spec: "a b", seen: "a silent", ask: "failover", prepare: degradingStill,
			want: []string{
				"a -> b",
				"mind: commits are to wait for 1 of the standbys, and 0 would follow b as it looks now: writes are acknowledged without (when_short is degrade)",
			},
		},
		{
			name: "without a sync set the primary alone has everything", spec: "a b c", seen: "a silent", ask: "failover", prepare: noSync,
			want: []string{"; with --accept-data-loss node b would become the primary, and may lose: all that a is known to have written is there; what it wrote after it was last heard, nobody knows"},
		},
		{
			name: "nor is it left in order", spec: "a b c", ask: "switchover", prepare: noSync,
			want: []string{"no: node a would become the primary again: no sync set was in force"},
		},
		{
			name: "without a sync set, with the operator's word", spec: "a b c", seen: "a silent, lsn 0/9000000", ask: "failover lossy", prepare: noSync,
			want: []string{
				"a -> b",
				"lost: 144 MB of WAL that a is known to have written, and what it wrote after it was last heard, which nobody knows",
			},
		},
		{
			name: "degraded, writes may be lost", spec: "a b c", seen: "a silent", ask: "failover", prepare: degrading,
			want: []string{
				"a -> b",
				"lost: all that a is known to have written is there; what it wrote after it was last heard, nobody knows",
			},
		},
		{
			name: "async mode bounds the loss", spec: "a b c; async", seen: "a silent", ask: "failover",
			want: []string{
				"a -> b",
				"lost: all that a is known to have written is there; what it wrote after it was last heard, nobody knows",
			},
		},
		{
			name: "async mode refuses a loss beyond max_lag", spec: "a b c; async", seen: "a silent, lsn 0/9000000", ask: "failover",
			want: []string{"; with --accept-data-loss node b would become the primary, and may lose: 144 MB of WAL that a is known to have written, and what it wrote after it was last heard, which nobody knows"},
		},
		{
			name: "a loss beyond max_lag with the operator's word", spec: "a b c; async", seen: "a silent, lsn 0/9000000", ask: "failover lossy",
			want: []string{
				"a -> b",
				"lost: 144 MB of WAL that a is known to have written, and what it wrote after it was last heard, which nobody knows",
			},
		},
		{
			name: "a switchover loses nothing in async mode either", spec: "a b c; async", ask: "switchover to c",
			want: []string{"a -> c"},
		},
		{
			name: "a position that is not known bounds nothing", spec: "a b c; async", ask: "failover", look: unknown,
			want: []string{"; with --accept-data-loss node b would become the primary, and may lose: it is not known how much, since nothing is known of where the WAL of a ends"},
		},
		{
			name: "a loss that is not known, with the operator's word", spec: "a b c; async", ask: "failover lossy", look: unknown,
			want: []string{
				"a -> b",
				"lost: it is not known how much, since nothing is known of where the WAL of a ends",
			},
		},
		{
			name: "what a switchover rolls back, and what it does not, is said", spec: "a b c", ask: "switchover", look: busy,
			want: []string{
				"a -> b",
				"mind: the transaction of user report on a (pid 4711) has been open for 2h0m3s, and is rolled back: let it end first",
				"mind: 2 prepared transactions, the oldest of user shop and for 1m0s, stay prepared and keep their locks: end them with COMMIT PREPARED or ROLLBACK PREPARED (pg_prepared_xacts)",
			},
		},
		{
			name: "transactions that are done again in no time are not worth a word", spec: "a b c", ask: "switchover", look: lively,
			want: []string{"a -> b"},
		},
		{
			name: "what a server did that does not answer is of the past", spec: "a b c", seen: "a silent", ask: "failover", look: busy,
			want: []string{"a -> b"},
		},
		{
			name: "WAL that is not archived is said", spec: "a b c", ask: "switchover", look: unarchived,
			want: []string{
				"a -> b",
				"mind: not all WAL of a is in the repository, and the next primary has to bring it there: access denied; PostgreSQL keeps them in pg_wal until the disk is full: 3 files (48 MB) wait, the oldest for 4m0s",
			},
		},
		{
			name: "an open term is not opened again", spec: "a b c", seen: "a silent", ask: "failover", prepare: open,
			want: []string{"no: term 2 is open already: only --to or --accept-data-loss would change anything, and ramctrl status says what it waits for"},
		},
		{
			name: "an open term can be given a node", spec: "a b c", seen: "a silent", ask: "failover to c", prepare: open,
			want: []string{"a -> c"},
		},
		{
			name: "an open term can be given the word on losses", spec: "a b c", seen: "a silent; b silent", ask: "failover lossy", prepare: open,
			want: []string{
				"a -> c",
				"lost: all that a is known to have written is there; what it wrote after it was last heard, nobody knows",
				"mind: commits are to wait for 1 of the standbys, and 0 would follow c as it looks now: writes wait until more do",
			},
		},
		{
			name: "an open term ends before the next switchover", spec: "a b c", seen: "a silent", ask: "switchover", prepare: open,
			want: []string{"no: term 2 is open and has no primary: wait for it (ramctrl status), or put it right with ramctrl failover"},
		},
		{
			name: "the old primary of an open term comes back by itself", spec: "a b c", seen: "a silent", ask: "failover to a", prepare: open,
			want: []string{"no: node a was the primary, and comes back by itself when it is the only one that can: name another"},
		},
		{
			name: "a standby that has replay to do is said to be late", spec: "a b c", seen: "a silent", ask: "failover to b", look: replay,
			want: []string{
				"a -> b",
				"mind: replay is paused on node b: it goes on with the promotion",
				"mind: node b has 128 MB of WAL to replay before it takes writes",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := preflightLines(preflightOf(t, c))
			if !slices.EqualFunc(got, c.want, strings.Contains) {
				t.Error(cmp.Diff(c.want, got))
			}
		})
	}
}

func TestPreflightSaysOfEveryNodeHowFarItIs(t *testing.T) {
	p := preflightOf(t, preflightCase{spec: "a b c(priority=0) w(witness)", seen: "c silent", ask: "switchover"})
	if p.Clients == "" || p.Why == "" {
		t.Errorf("nothing is said of clients or of why: %+v", p)
	}
	var lines []string
	for _, n := range p.Nodes {
		lines = append(lines, n.Node+": "+n.Note)
	}
	want := "b: it is the furthest of those that promised; c: its priority is 0: it is never promoted"
	if diff := cmp.Diff(want, strings.Join(lines, "; ")); diff != "" {
		t.Error(diff)
	}
}

// Scripts read it: no list is null, and bytes are numbers.
func TestPreflightAsJSON(t *testing.T) {
	text, err := json.Marshal(reconcile.Preflight(&reconcile.Record{}, reconcile.Observed{}, reconcile.OpenFailover, "", false))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"format":1,"cause":"failover","term":0,"primary":"","to":"","nodes":[],"refusals":["the cluster has no primary yet: ramctrl plan shows what it waits for"],"warnings":[]}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
}

func degradingStill(rec *reconcile.Record) {
	sync := rec.Sync
	degrading(rec)
	rec.Sync = sync
}
